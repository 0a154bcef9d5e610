"""The file system, as checkpoints use it.

`LocalDisk` is this machine's. `object_store` has one for object stores, and the tests have others,
which lose what was not synced when they crash, or fail at a chosen operation; so nothing in this
package touches a file except through a `Disk`.

What a crash leaves follows POSIX: written bytes are durable after `sync` of the file, a name
after `sync_directory`, and a rename is all or nothing.

A file that is being created is locked until it is closed (`flock`, which the kernel drops when
the process dies), so that a later save can tell a leftover from work in progress.

Thread rule: methods may be called from any thread; `read_into` and `write_at` of one file may
run on several threads at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path, PurePath
from typing import Any, Protocol

from paramserve_core.checkpoint.urls import UrlPath
from paramserve_core.errors import (
    AlreadyExistsError,
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnknownError,
)

Bytes = bytes | memoryview

_ERRORS: dict[int | None, tuple[type[Any], str]] = {
    errno.ENOSPC: (ResourceExhaustedError, "the disk is full: free space, or keep fewer"),
    errno.EDQUOT: (ResourceExhaustedError, "the disk quota is used up"),
    errno.EFBIG: (ResourceExhaustedError, "the file would be larger than the system allows"),
    errno.EMFILE: (ResourceExhaustedError, "too many open files: raise the limit (ulimit -n)"),
    errno.ENOENT: (NotFoundError, "there is no such file"),
    errno.ENOTDIR: (NotFoundError, "a part of the path is no directory"),
    errno.EACCES: (PermissionDeniedError, "this process may not"),
    errno.EPERM: (PermissionDeniedError, "this process may not"),
    errno.EROFS: (PermissionDeniedError, "the file system is read-only"),
    errno.ELOOP: (PermissionDeniedError, "it is a symbolic link, which is not followed"),
    errno.EEXIST: (AlreadyExistsError, "it exists"),
    errno.EISDIR: (FailedPreconditionError, "it is a directory"),
    errno.ENAMETOOLONG: (InvalidArgumentError, "the name is too long"),
    errno.EIO: (DataLossError, "the disk reports an error"),
}


def op_error(error: OSError, detail: str = "") -> OpError:
    """The error of this system for one of the operating system; `detail` ends its message."""
    kind, advice = _ERRORS.get(error.errno, (UnknownError, "the operating system refused"))
    text = f"{error.filename}: {advice} ({error.strerror or error}){detail}"
    made: OpError = kind(None, None, text)
    return made


class DiskFile(Protocol):
    """An open file."""

    @property
    def path(self) -> PurePath:
        """Where the file was when it was opened."""

    @property
    def size(self) -> int:
        """Bytes in the file."""

    def write_at(self, data: Bytes, offset: int) -> None:
        """Writes all of `data`."""

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer`.

        Raises:
            DataLossError: the file ends before.
        """

    def write_back(self) -> None:
        """Brings to the disk what was written so far, while other threads write on.

        It may block for that; nothing is durable before `sync`.
        """

    def sync(self) -> None:
        """Blocks until what was written is durable."""

    def close(self) -> None:
        """Closes the file and drops its lock; idempotent."""


class Disk(Protocol):
    """A file system."""

    def is_object_store(self, path: PurePath) -> bool:
        """Whether names there are keys of objects.

        Then no directory has to be made, and a file is there only once it is synced, whole: so it
        is written under its final name, as a rename would be a copy.
        """

    def resolve(self, path: PurePath) -> PurePath:
        """The absolute path without symbolic links; what does not exist is kept as it is."""

    def is_directory(self, path: PurePath) -> bool:
        """Whether there is a directory at `path`."""

    def names(self, directory: PurePath) -> list[str]:
        """Names of the regular files in a directory, sorted."""

    def create(self, path: PurePath, size: int) -> DiskFile:
        """A new file of `size` bytes, locked until it is closed.

        Raises:
            OSError: it exists, or there is no space for it.
        """

    def open(self, path: PurePath) -> DiskFile:
        """A regular file for reading; a symbolic link is not followed."""

    def is_in_use(self, path: PurePath) -> bool:
        """Whether somebody holds the file that was made by `create`."""

    def modified_at(self, path: PurePath) -> float:
        """When a file was written last, in seconds since 1970."""

    def rename(self, old: PurePath, new: PurePath) -> None:
        """Gives a file another name, in the same directory; replaces what had it."""

    def remove(self, path: PurePath) -> bool:
        """Deletes a file; answers whether it was there."""

    def sync_directory(self, directory: PurePath) -> None:
        """Blocks until the names in a directory are durable."""

    def make_directory(self, path: PurePath) -> None:
        """Makes a directory, if there is none, in one that exists."""

    def remove_directory(self, path: PurePath) -> None:
        """Deletes a directory, if it is empty."""


class _LocalFile:
    """A file descriptor."""

    def __init__(self, path: PurePath, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def write_at(self, data: Bytes, offset: int) -> None:
        rest = memoryview(data).cast("B")
        while rest:
            with _named(self.path):
                written = os.pwrite(self._descriptor, rest, offset)
            rest = rest[written:]
            offset += written

    def read_into(self, buffer: memoryview, offset: int) -> None:
        rest = buffer
        while rest:
            with _named(self.path):
                count = os.preadv(self._descriptor, [rest], offset)
            if not count:
                raise cut_off(self.path, offset, len(rest))
            rest = rest[count:]
            offset += count

    def write_back(self) -> None:
        with _named(self.path):
            os.fdatasync(self._descriptor)

    def sync(self) -> None:
        with _named(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        self.close()


class LocalDisk:
    """The file system of this machine."""

    def is_object_store(self, path: PurePath) -> bool:
        """See `Disk.is_object_store`."""
        return False

    def resolve(self, path: PurePath) -> PurePath:
        """See `Disk.resolve`.

        Raises:
            PermissionDeniedError: it is a URL.
        """
        if isinstance(path, UrlPath):
            raise PermissionDeniedError(
                None,
                None,
                f"{path} is not on this server's disk, where it keeps checkpoints; start it with "
                "a URL as --checkpoint-root",
            )
        return Path(os.path.realpath(path))

    def is_directory(self, path: PurePath) -> bool:
        """See `Disk.is_directory`."""
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def names(self, directory: PurePath) -> list[str]:
        """See `Disk.names`."""
        with os.scandir(directory) as entries:
            return sorted(e.name for e in entries if e.is_file(follow_symlinks=False))

    def create(self, path: PurePath, size: int) -> DiskFile:
        """See `Disk.create`."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = _LocalFile(path, os.open(path, flags, 0o666))
        try:
            with _named(path):
                fcntl.flock(file._descriptor, fcntl.LOCK_SH)
                if size:
                    _allocate(file._descriptor, size)
        except BaseException:
            file.close()
            self.remove(path)
            raise
        return file

    def open(self, path: PurePath) -> DiskFile:
        """See `Disk.open`."""
        # Without O_NONBLOCK a named pipe would wait for a writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        file = _LocalFile(path, os.open(path, flags))
        if not stat.S_ISREG(os.fstat(file._descriptor).st_mode):
            file.close()
            raise FailedPreconditionError(None, None, f"{path}: it is no regular file")
        return file

    def is_in_use(self, path: PurePath) -> bool:
        """See `Disk.is_in_use`."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def modified_at(self, path: PurePath) -> float:
        """See `Disk.modified_at`."""
        return os.stat(path).st_mtime

    def rename(self, old: PurePath, new: PurePath) -> None:
        """See `Disk.rename`."""
        os.rename(old, new)

    def remove(self, path: PurePath) -> bool:
        """See `Disk.remove`."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    def sync_directory(self, directory: PurePath) -> None:
        """See `Disk.sync_directory`."""
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _named(directory):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def make_directory(self, path: PurePath) -> None:
        """See `Disk.make_directory`."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)

    def remove_directory(self, path: PurePath) -> None:
        """See `Disk.remove_directory`."""
        with contextlib.suppress(OSError):
            os.rmdir(path)


class _named(contextlib.AbstractContextManager[None]):  # noqa: N801 # reads as a verb
    """Says which file an OSError is about, where the call knew only a descriptor."""

    def __init__(self, path: PurePath) -> None:
        self._path = path

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(self._path)


def cut_off(path: PurePath, end: int, missing: int) -> OpError:
    """The error of a file that ends too early."""
    return DataLossError(
        None,
        None,
        f"{path}: the file ends at byte {end}, {missing} bytes before what its index says: it was "
        "cut off; restore another checkpoint",
    )


def _allocate(descriptor: int, size: int) -> None:
    """Reserves the space now, so that a full disk is met before anything is written."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(descriptor, size)


def read_whole(disk: Disk, path: PurePath, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        OSError: it cannot be opened.
        DataLossError: it is larger than `max_bytes`, so it is not what it should be.
    """
    file = disk.open(path)
    try:
        size = file.size
        if size > max_bytes:
            raise DataLossError(
                None, None, f"{path}: {size} bytes, where at most {max_bytes} make sense"
            )
        content = bytearray(size)
        file.read_into(memoryview(content), 0)
        return bytes(content)
    finally:
        file.close()


def write_new(disk: Disk, path: PurePath, content: bytes) -> DiskFile:
    """Writes a new file and makes its bytes durable; the caller closes it."""
    file = disk.create(path, len(content))
    try:
        file.write_at(content, 0)
        file.sync()
    except BaseException:
        file.close()
        disk.remove(path)
        raise
    return file
