"""Every place that this process can keep checkpoints in: its disk, and whatever a URL names.

Thread rule: as `Disk` says.
"""

from __future__ import annotations

import threading
from pathlib import PurePath

from paramserve_core.checkpoint.disk import Disk, DiskFile, LocalDisk
from paramserve_core.checkpoint.object_store import ObjectStore
from paramserve_core.checkpoint.urls import UrlPath


def disk_of(root: PurePath | None) -> Disk:
    """The disk that a root is on; the local one without a root.

    Raises:
        OpError: the root is a URL of a store that cannot be opened.
    """
    return ObjectStore(root.scheme) if isinstance(root, UrlPath) else LocalDisk()


class AnyDisk:
    """Passes each call on to the `Disk` that the path is on; stores are opened when needed."""

    def __init__(self) -> None:
        self._local = LocalDisk()
        self._lock = threading.Lock()
        self._stores: dict[str, ObjectStore] = {}

    def resolve(self, path: PurePath) -> PurePath:
        """See `Disk.resolve`."""
        return self._at(path).resolve(path)

    def is_directory(self, path: PurePath) -> bool:
        """See `Disk.is_directory`."""
        return self._at(path).is_directory(path)

    def names(self, directory: PurePath) -> list[str]:
        """See `Disk.names`."""
        return self._at(directory).names(directory)

    def create(self, path: PurePath, size: int) -> DiskFile:
        """See `Disk.create`."""
        return self._at(path).create(path, size)

    def open(self, path: PurePath) -> DiskFile:
        """See `Disk.open`."""
        return self._at(path).open(path)

    def is_in_use(self, path: PurePath) -> bool:
        """See `Disk.is_in_use`."""
        return self._at(path).is_in_use(path)

    def modified_at(self, path: PurePath) -> float:
        """See `Disk.modified_at`."""
        return self._at(path).modified_at(path)

    def rename(self, old: PurePath, new: PurePath) -> None:
        """See `Disk.rename`."""
        self._at(old).rename(old, new)

    def remove(self, path: PurePath) -> bool:
        """See `Disk.remove`."""
        return self._at(path).remove(path)

    def sync_directory(self, directory: PurePath) -> None:
        """See `Disk.sync_directory`."""
        self._at(directory).sync_directory(directory)

    def make_directory(self, path: PurePath) -> None:
        """See `Disk.make_directory`."""
        self._at(path).make_directory(path)

    def remove_directory(self, path: PurePath) -> None:
        """See `Disk.remove_directory`."""
        self._at(path).remove_directory(path)

    def is_object_store(self, path: PurePath) -> bool:
        """See `Disk.is_object_store`."""
        return self._at(path).is_object_store(path)

    def _at(self, path: PurePath) -> Disk:
        if not isinstance(path, UrlPath):
            return self._local
        with self._lock:
            store = self._stores.get(path.scheme)
            if store is None:
                store = self._stores[path.scheme] = ObjectStore(path.scheme)
            return store
