"""Object stores (S3, Google's, any that fsspec knows) as checkpoints use them.

An object store has no directories, no rename and no locks, but an object is there only when it is
complete. So a shard is written under its final name at once, and the index, written last, commits
the checkpoint, as on a disk. Bytes of an object go out in their order: what other threads bring
early waits in memory.

Who writes an object cannot be asked. An object that this process made is in use until it is
closed; one of another process counts as in use for a day, after which the next save in the
directory deletes it if no index names it.

`fsspec` is imported when a store is opened, and comes with `pip install 'paramserve[s3]'`. Keys,
endpoints and the like are configured where fsspec looks for them (environment variables of the
store's own tools, or `FSSPEC_S3_...`).

Thread rule: as `Disk` says.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, Final

from paramserve_core.checkpoint.disk import Bytes, DiskFile, cut_off
from paramserve_core.checkpoint.urls import UrlPath
from paramserve_core.errors import (
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    OpError,
    UnavailableError,
)

IDLE_S: Final = 86_400.0
"""An object that another process made may belong to a save in progress for so long."""

_MOST_WAITING: Final = 64 << 20
"""Bytes of an object that may wait for earlier ones, while those are on their way."""

_TOLD: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG})


class ObjectStore:
    """A `Disk` on a store that fsspec knows.

    Args:
        scheme: the store's kind, as URLs name it: "s3", "gs", "memory".
        files: an fsspec file system; None: the one of the scheme, configured by the environment.
        now: seconds since 1970.

    Raises:
        FailedPreconditionError: a package is missing; the message says which.
        InvalidArgumentError: there is no such kind of store.
    """

    def __init__(
        self, scheme: str, files: Any = None, now: Callable[[], float] = time.time
    ) -> None:
        self._files = _open_store(scheme) if files is None else files
        self._now = now
        self._lock = threading.Lock()
        self._mine: dict[PurePath, bool] = {}
        """Objects that this process made, and whether each is being written."""

    def is_object_store(self, path: PurePath) -> bool:
        """See `Disk.is_object_store`."""
        return True

    def resolve(self, path: PurePath) -> PurePath:
        """See `Disk.resolve`; there are no links, and `..` is what it is in any path."""
        parts: list[str] = []
        for part in path.parts:
            if part != "..":
                parts.append(part)
            elif len(parts) > 1:
                parts.pop()
        return UrlPath(*parts)

    def is_directory(self, path: PurePath) -> bool:
        """See `Disk.is_directory`: whether there are objects below that name."""
        with self._asking(path):
            return bool(self._files.isdir(str(path)))

    def names(self, directory: PurePath) -> list[str]:
        """See `Disk.names`; empty where there is nothing."""
        try:
            with self._asking(directory):
                entries = self._files.ls(str(directory), detail=True)
        except FileNotFoundError:
            return []
        names = [e["name"].rpartition("/")[2] for e in entries if e["type"] == "file"]
        return sorted(filter(None, names))

    def create(self, path: PurePath, size: int) -> DiskFile:
        """See `Disk.create`."""
        with self._asking(path):
            upload = _Upload(self, path, size, self._files.open(str(path), "wb"))
        with self._lock:
            self._mine[path] = True
        return upload

    def open(self, path: PurePath) -> DiskFile:
        """See `Disk.open`."""
        with self._asking(path):
            info = self._files.info(str(path))
        if info["type"] != "file":
            raise FailedPreconditionError(None, None, f"{path}: it is no object")
        return _Object(self, path, int(info["size"]))

    def read(self, path: PurePath, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` from an object that is known to be long enough."""
        with self._asking(path):
            content = self._files.cat_file(str(path), start=offset, end=offset + len(buffer))
        if len(content) != len(buffer):
            raise cut_off(path, offset + len(content), len(buffer) - len(content))
        buffer[:] = content

    def closed(self, path: PurePath) -> None:
        """An object that was made here is written no more."""
        with self._lock:
            if path in self._mine:
                self._mine[path] = False

    def is_in_use(self, path: PurePath) -> bool:
        """See `Disk.is_in_use`, and above."""
        with self._lock:
            mine = self._mine.get(path)
        if mine is not None:
            return mine
        try:
            return self._now() - self.modified_at(path) < IDLE_S
        except FileNotFoundError:
            return False

    def modified_at(self, path: PurePath) -> float:
        """See `Disk.modified_at`."""
        with self._asking(path):
            return float(self._files.modified(str(path)).timestamp())

    def rename(self, old: PurePath, new: PurePath) -> None:
        """See `Disk.rename`: a copy that appears whole, then the old name is deleted."""
        if old == new:
            return
        with self._asking(old):
            self._files.cp_file(str(old), str(new))
        self.remove(old)

    def remove(self, path: PurePath) -> bool:
        """See `Disk.remove`; a store that deletes what is not there answers yes."""
        with self._lock:
            self._mine.pop(path, None)
        try:
            with self._asking(path):
                self._files.rm_file(str(path))
        except FileNotFoundError:
            return False
        return True

    def sync_directory(self, directory: PurePath) -> None:
        """See `Disk.sync_directory`; a name is as durable as its object."""

    def make_directory(self, path: PurePath) -> None:
        """See `Disk.make_directory`; none is needed."""

    def remove_directory(self, path: PurePath) -> None:
        """See `Disk.remove_directory`; it went with its last object."""

    @contextlib.contextmanager
    def _asking(self, path: PurePath) -> Iterator[None]:
        # What other processes did is not in the listings that fsspec remembers.
        self._files.invalidate_cache()
        with asking(path):
            yield


class _Object:
    """An object that is read by byte ranges."""

    def __init__(self, store: ObjectStore, path: PurePath, size: int) -> None:
        self.path = path
        self.size = size
        self._store = store

    def write_at(self, data: Bytes, offset: int) -> None:
        raise InternalError(None, None, f"{self.path} was opened for reading")

    def read_into(self, buffer: memoryview, offset: int) -> None:
        if offset + len(buffer) > self.size:
            raise cut_off(self.path, self.size, offset + len(buffer) - self.size)
        if buffer:
            self._store.read(self.path, buffer, offset)

    def write_back(self) -> None:
        """Nothing is written."""

    def sync(self) -> None:
        """What is read is durable."""

    def close(self) -> None:
        """Nothing is held."""


class _Upload:
    """An object that is being written; it is there once it is synced."""

    def __init__(self, store: ObjectStore, path: PurePath, size: int, stream: Any) -> None:
        self.path = path
        self.size = size
        self._store = store
        self._stream = stream
        self._changed = threading.Condition()
        self._waiting: dict[int, bytes] = {}
        self._waiting_bytes = 0
        self._position = 0
        self._is_sending = False
        self._is_over = False

    def write_at(self, data: Bytes, offset: int) -> None:
        if not len(data):
            return
        with self._changed:
            # Who sends gets on without this thread. Where nobody does, the bytes that are next
            # have not come yet, and must not be kept from coming.
            while (
                self._is_sending
                and offset != self._position
                and self._waiting_bytes > _MOST_WAITING
            ):
                self._changed.wait()
            self._waiting[offset] = bytes(data)
            self._waiting_bytes += len(data)
            if self._is_sending:
                return
            self._is_sending = True
        sent = 0
        try:
            while piece := self._next(sent):
                with asking(self.path):
                    self._stream.write(piece)
                sent = len(piece)
        except BaseException:
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()
            raise

    def _next(self, sent: int) -> bytes | None:
        """The bytes that are to be sent after so many; None if they have not come."""
        with self._changed:
            self._position += sent
            piece = self._waiting.pop(self._position, None)
            if piece is None:
                self._is_sending = False
            else:
                self._waiting_bytes -= len(piece)
            self._changed.notify_all()
            return piece

    def read_into(self, buffer: memoryview, offset: int) -> None:
        raise InternalError(None, None, f"{self.path} was opened for writing")

    def write_back(self) -> None:
        """What was written is on its way already."""

    def sync(self) -> None:
        if self._is_over:
            return
        if self._position != self.size:
            raise InternalError(
                None, None, f"{self.path}: {self._position} of {self.size} bytes were written"
            )
        with asking(self.path):
            self._stream.close()
        self._is_over = True

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            with contextlib.suppress(Exception):
                self._stream.discard()
            with contextlib.suppress(AttributeError):  # Or its destructor would end the upload.
                self._stream.closed = True
        self._store.closed(self.path)


@contextlib.contextmanager
def asking(path: PurePath) -> Iterator[None]:
    """Turns whatever a store's client raises into errors that name the object."""
    try:
        yield
    except OpError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except PermissionError as error:
        raise PermissionError(errno.EACCES, str(error), str(path)) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _TOLD:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise UnavailableError(
            None, None, f"{path}: the store failed: {type(error).__name__}: {error}"
        ) from error


def _open_store(scheme: str) -> Any:
    advice = "pip install 'paramserve[s3]'"
    try:
        import fsspec
    except ImportError:
        raise FailedPreconditionError(
            None, None, f"checkpoints at {scheme}:// need fsspec, which is not installed: {advice}"
        ) from None
    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        if scheme in ("s3", "s3a"):
            error = ImportError(f"{error}: {advice}")
        raise FailedPreconditionError(None, None, f"checkpoints at {scheme}://: {error}") from None
    except ValueError as error:
        raise InvalidArgumentError(None, None, f"{scheme}://: {error}") from None
