"""An object store as fsspec shows one: an object is there once its upload is closed, not before."""

from __future__ import annotations

import datetime
import io
from collections.abc import Callable
from typing import Any


class FakeStore:
    """What `ObjectStore` uses of an fsspec file system, with a clock and faults of the test's."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.operations = 0
        self.before: Callable[[str, str], None] = lambda operation, path: None
        self.now = 1e9
        self.reads: list[tuple[str, int]] = []

    def step(self, operation: str, path: str) -> str:
        """Counts an operation, which may fail; answers the object's key."""
        self.operations += 1
        self.before(operation, path)
        return path.partition("://")[2]

    def content(self, key: str) -> bytes:
        try:
            return self.objects[key][0]
        except KeyError:
            raise FileNotFoundError(key) from None

    def names(self) -> set[str]:
        """The objects, without the folders in their names."""
        return {key.rpartition("/")[2] for key in self.objects}

    def invalidate_cache(self) -> None:
        """There is none."""

    def open(self, path: str, mode: str) -> _Stream:
        assert mode == "wb"
        return _Stream(self, path)

    def ls(self, path: str, detail: bool) -> list[dict[str, Any]]:
        prefix = self.step("list", path) + "/"
        found = {}
        for key in self.objects:
            if key.startswith(prefix):
                rest, slash, _ = key.removeprefix(prefix).partition("/")
                found[prefix + rest] = "directory" if slash else "file"
        if not found:
            raise FileNotFoundError(path)
        return [{"name": name, "type": kind} for name, kind in found.items()]

    def isdir(self, path: str) -> bool:
        prefix = self.step("list", path) + "/"
        return any(key.startswith(prefix) for key in self.objects)

    def info(self, path: str) -> dict[str, Any]:
        return {"type": "file", "size": len(self.content(self.step("info", path)))}

    def modified(self, path: str) -> datetime.datetime:
        key = self.step("info", path)
        self.content(key)
        return datetime.datetime.fromtimestamp(self.objects[key][1], datetime.UTC)

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        key = self.step("read", path)
        self.reads.append((key.rpartition("/")[2], end - start))
        return self.content(key)[start:end]

    def cp_file(self, old: str, new: str) -> None:
        content = self.content(self.step("copy", old))
        self.objects[new.partition("://")[2]] = (content, self.now)

    def rm_file(self, path: str) -> None:
        self.objects.pop(self.step("delete", path), None)  # As S3: what is gone may be deleted.


class _Stream(io.RawIOBase):
    def __init__(self, store: FakeStore, path: str) -> None:
        self._store = store
        self._path = path
        self._content = bytearray()
        self._is_over = False

    def write(self, data: Any) -> int:
        self._store.step("write", self._path)
        self._content += data
        return len(data)

    def close(self) -> None:
        if not self._is_over:
            key = self._store.step("write", self._path)
            self._store.objects[key] = (bytes(self._content), self._store.now)
            self._is_over = True

    def discard(self) -> None:
        self._is_over = True
