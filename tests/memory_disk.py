"""A file system in memory that crashes as badly as POSIX allows.

A crash loses what was not synced: of the bytes written to a file since its last `sync`, any part;
of the names changed in a directory since its last `sync_directory`, any. Which, is drawn from a
seed. What a crash can leave is worse here than on most real file systems.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from paramserve_core.errors import DataLossError


class CrashError(BaseException):
    """The machine is down. No handler of errors can catch it, or do anything about it."""


class _Inode:
    def __init__(self, content: bytearray) -> None:
        self.content = content
        self.durable = bytes(content)
        self.unsynced: list[tuple[int, bytes]] = []
        self.holders = 0


class MemoryDisk:
    """A `Disk` with directories that are made by `make_directory`."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._names: dict[Path, dict[str, _Inode]] = {}
        self._durable: dict[Path, dict[str, _Inode]] = {}
        self.operations = 0
        self.restarts = 0
        self.before: Callable[[str, Path], None] = lambda operation, path: None
        self.crash_at: int | None = None
        self.is_down = False

    def make_directory(self, path: Path) -> None:
        self._names.setdefault(path, {})
        self._durable.setdefault(path, {})

    def remove_directory(self, path: Path) -> None:
        if not self._names.get(path):
            self._names.pop(path, None)
            self._durable.pop(path, None)

    def restart(self) -> None:
        """The machine comes up again, with what was durable and perhaps more."""
        self.is_down = False
        self.crash_at = None
        self.restarts += 1
        draw = self._random.random
        for directory, names in self._names.items():
            durable = self._durable[directory]
            for name in sorted(names.keys() | durable.keys()):
                now, then = names.get(name), durable.get(name)
                kept = now if draw() < 0.5 else then
                if now is not then and kept is not None:
                    names[name] = kept
                elif now is not then:
                    names.pop(name, None)
            self._durable[directory] = dict(names)
        for inode in {inode for names in self._names.values() for inode in names.values()}:
            content = bytearray(inode.durable)
            for offset, data in inode.unsynced:
                if draw() < 0.5:
                    content[offset : offset + len(data)] = data
            inode.content = content
            inode.durable = bytes(content)
            inode.unsynced = []
            inode.holders = 0

    def step(self, operation: str, path: Path) -> None:
        """Counts an operation; the machine may go down instead of doing it."""
        if self.is_down:
            raise CrashError
        if self.operations == self.crash_at:
            self.is_down = True
            raise CrashError
        self.operations += 1
        self.before(operation, path)

    def is_object_store(self, path: Path) -> bool:
        return False

    def modified_at(self, path: Path) -> float:
        self._inode(path)
        return 0.0

    def resolve(self, path: Path) -> Path:
        return Path(os.path.normpath(path))

    def is_directory(self, path: Path) -> bool:
        return path in self._names

    def names(self, directory: Path) -> list[str]:
        self.step("names", directory)
        return sorted(self._directory(directory))

    def create(self, path: Path, size: int) -> _File:
        self.step("create", path)
        names = self._directory(path.parent)
        if path.name in names:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        inode = names[path.name] = _Inode(bytearray(size))
        inode.durable = b""
        inode.unsynced.append((0, bytes(size)))
        inode.holders += 1
        return _File(self, path, inode, holds=True)

    def open(self, path: Path) -> _File:
        self.step("open", path)
        return _File(self, path, self._inode(path), holds=False)

    def is_in_use(self, path: Path) -> bool:
        self.step("is_in_use", path)
        inode = self._directory(path.parent).get(path.name)
        return inode is not None and inode.holders > 0

    def rename(self, old: Path, new: Path) -> None:
        self.step("rename", new)
        inode = self._inode(old)
        names = self._directory(old.parent)
        del names[old.name]
        names[new.name] = inode

    def remove(self, path: Path) -> bool:
        self.step("remove", path)
        return self._directory(path.parent).pop(path.name, None) is not None

    def sync_directory(self, directory: Path) -> None:
        self.step("sync_directory", directory)
        self._durable[directory] = dict(self._directory(directory))

    def flip_bit(self, path: Path, bit: int) -> None:
        """Damages a file."""
        self._inode(path).content[bit // 8] ^= 1 << bit % 8

    def size(self, path: Path) -> int:
        return len(self._inode(path).content)

    def _directory(self, path: Path) -> dict[str, _Inode]:
        try:
            return self._names[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path)) from None

    def _inode(self, path: Path) -> _Inode:
        try:
            return self._directory(path.parent)[path.name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None


class _File:
    """A `DiskFile`."""

    def __init__(self, disk: MemoryDisk, path: Path, inode: _Inode, *, holds: bool) -> None:
        self._disk = disk
        self.path = path
        self._inode = inode
        self._holds = holds

    @property
    def size(self) -> int:
        return len(self._inode.content)

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        self._disk.step("write", self.path)
        self._inode.content[offset : offset + len(data)] = data
        self._inode.unsynced.append((offset, bytes(data)))

    def read_into(self, buffer: memoryview, offset: int) -> None:
        self._disk.step("read", self.path)
        content = self._inode.content[offset : offset + len(buffer)]
        if len(content) < len(buffer):
            raise DataLossError(None, None, f"{self.path}: the file ends before")
        buffer[:] = content

    def write_back(self) -> None:
        self._disk.step("write_back", self.path)

    def sync(self) -> None:
        self._disk.step("sync", self.path)
        self._inode.durable = bytes(self._inode.content)
        self._inode.unsynced = []

    def close(self) -> None:
        if self._holds:
            self._holds = False
            if not self._disk.is_down:
                self._inode.holders -= 1
