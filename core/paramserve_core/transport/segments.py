"""Memory that two processes can share: anonymous files (`memfd`), mapped as arrays.

A segment has no name in any file system, so nothing is left behind when its processes are killed.
It is sealed twice. It cannot shrink, because a process that reads memory which another one has cut
off dies of SIGBUS; a segment that comes from elsewhere must have that seal. And nobody but its
maker can write to it, except to pages of their own.

`SegmentPool.take` answers a *block*, a segment in use; `SegmentPool.allocate` an array on one.
`locate` finds the block behind such an array or a view of it, so that a transport can lend it to
the peer without a copy. A block that nobody uses any more goes back to the pool by itself, for
another use (see `idle_memory`).

Thread rule: everything may be called from any thread. Blocks end on any thread, in the middle of
anything, so what they do then never waits for a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import math
import mmap
import os
import resource
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.machine import memory_bytes
from paramserve_core.transport.idle_memory import IdleMemory
from paramserve_core.transport.ownership import HeldMemory, array_on, hold, holder_of

Array = NDArray[Any]

# From <linux/fcntl.h> and <linux/mman.h>; Python's modules have them on some builds only.
_F_ADD_SEALS: Final = 1033
_F_GET_SEALS: Final = 1034
_F_SEAL_SHRINK: Final = 0x2
_F_SEAL_GROW: Final = 0x4
_F_SEAL_FUTURE_WRITE: Final = 0x10
_MADV_POPULATE_WRITE: Final = 23

_PAGE: Final = mmap.PAGESIZE
_MIB: Final = 1 << 20
_numbers = itertools.count(1)


class Segment:
    """One anonymous file and its memory, writable here alone.

    Attributes:
        id: a number that no other segment of this process has had.
        fd: its descriptor, closed with the object.
        size: bytes, a multiple of the page size.
        mapping: its memory.
        start: the address of its memory.
        process: the process that made it.

    Raises:
        ResourceExhaustedError: there is no such memory.
    """

    __slots__ = ("__weakref__", "fd", "id", "mapping", "process", "size", "start")

    def __init__(self, size_bytes: int) -> None:
        self.id = next(_numbers)
        self.process = os.getpid()
        self.size = max(_PAGE, -(-size_bytes // _PAGE) * _PAGE)
        # The system gives an anonymous file any size, and ends processes when it is written to.
        if self.size > memory_bytes():
            raise ResourceExhaustedError(
                None,
                None,
                f"no shared memory of {self.size} bytes: there are {memory_bytes()} in all",
            )
        try:
            self.fd = os.memfd_create("paramserve", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            weakref.finalize(self, os.close, self.fd)
            os.ftruncate(self.fd, self.size)
            self.mapping = mmap.mmap(self.fd, self.size)
            seals = _F_SEAL_SHRINK | _F_SEAL_GROW | _F_SEAL_FUTURE_WRITE
            fcntl.fcntl(self.fd, _F_ADD_SEALS, seals)
        except (OSError, OverflowError, ValueError) as error:
            raise ResourceExhaustedError(
                None, None, f"no shared memory of {self.size} bytes: {error}"
            ) from None
        with contextlib.suppress(OSError):
            self.mapping.madvise(mmap.MADV_HUGEPAGE)
        self.start = _address(np.frombuffer(self.mapping, np.uint8))


class Block:
    """A segment in use; returns to its pool when the last array on it is gone.

    Attributes:
        segment: what it is.
        is_exclusive: never, others may be reading.
    """

    __slots__ = ("__weakref__", "_is_retired", "_pool", "segment")

    is_exclusive: Final = False

    def __init__(self, segment: Segment, pool: SegmentPool) -> None:
        self.segment = segment
        self._pool = pool
        self._is_retired = False

    def retire(self) -> None:
        """Somebody may still read the memory when no array here uses it: it is not used again."""
        self._is_retired = True

    def __del__(self) -> None:
        if not self._is_retired:
            self._pool.give_back(self.segment)


class SegmentPool:
    """Segments that are kept for another use.

    Args:
        max_idle_bytes: what is kept beyond that is freed.
        max_segments: how many there may be at a time, in use or not. None: a quarter of the
            descriptors that the process may have; each takes two, since Python keeps one with a
            mapping. `allocate` leaves a quarter of the segments to what is in transit.
    """

    def __init__(self, max_idle_bytes: int = 512 * _MIB, max_segments: int | None = None) -> None:
        self._max_segments = max_segments
        self._lock = threading.Lock()
        self._alive: weakref.WeakSet[Segment] = weakref.WeakSet()
        self._idle: IdleMemory[Segment] = IdleMemory(_size_of, max_idle_bytes)

    @property
    def segment_count(self) -> int:
        """Segments that there are, in use or not."""
        return len(self._alive)

    def take(self, size_bytes: int) -> HeldMemory:
        """A block of at least that size, whose contents are arbitrary.

        Raises:
            ResourceExhaustedError: there is no such memory, or there are too many segments.
        """
        segment = self._idle.take(size_bytes) or self._new(size_bytes)
        return hold(segment.mapping, Block(segment, self))

    def _new(self, size_bytes: int) -> Segment:
        with self._lock:
            if len(self._alive) >= self._limit():
                raise ResourceExhaustedError(
                    None,
                    None,
                    f"{len(self._alive)} shared memory segments, the limit is "
                    f"{self._limit()}; raise it with `ulimit -n`",
                )
            segment = Segment(size_bytes)
            self._alive.add(segment)
            return segment

    def allocate(self, shape: Sequence[int], dtype: DTypeLike, least_bytes: int = _MIB) -> Array:
        """An array with arbitrary contents, on a block if it is large and there is one.

        Args:
            shape: its shape.
            dtype: its type.
            least_bytes: what is large.

        Raises:
            MemoryError: there is no such memory.
        """
        wanted = np.dtype(dtype)
        size = math.prod(shape) * wanted.itemsize
        has_room = 4 * len(self._alive) < 3 * self._limit()
        if size >= least_bytes and not wanted.hasobject and has_room:
            with contextlib.suppress(ResourceExhaustedError):
                return array_on(self.take(size), shape, wanted)
        return np.empty(shape, wanted)

    def has(self, array: Array) -> bool:
        """Whether an array is what `allocate` could have made."""
        if array.nbytes < _MIB or array.dtype.hasobject:
            return array.flags.owndata
        return type(array.base) is HeldMemory and isinstance(array.base.holder, Block)

    def give_back(self, segment: Segment) -> None:
        """Nobody uses the segment any more."""
        if segment.process != os.getpid():
            return  # It is the parent's.
        self._idle.give_back(segment)

    def forget(self) -> None:
        """Leaves all segments to the parent process; called in a child after a fork."""
        self._lock = threading.Lock()
        self._alive = weakref.WeakSet()
        self._idle = IdleMemory(_size_of, self._idle.max_bytes)

    def _limit(self) -> int:
        if self._max_segments is not None:
            return self._max_segments
        return _quarter_of_descriptors()


def _size_of(segment: Segment) -> int:
    return segment.size


POOL: Final = SegmentPool()
"""The segments of this process."""

os.register_at_fork(after_in_child=POOL.forget)


def locate(array: Array) -> tuple[Block, int] | None:
    """The block that holds a C-contiguous array, and where in it; None for other memory."""
    holder = holder_of(array)
    if not isinstance(holder, Block) or not array.flags.c_contiguous:
        return None
    return holder, _address(array) - holder.segment.start


def map_shared(fd: int, size: int) -> mmap.mmap:
    """Maps a segment of another process, read-only; `fd` may be closed afterwards.

    Raises:
        InvalidArgumentError: it is no segment of that size, or could become a smaller one.
        ResourceExhaustedError: it cannot be mapped.
    """
    _check(fd, size)
    return _map(fd, size, mmap.MAP_SHARED, mmap.PROT_READ, 0)


def map_privately(fd: int, size: int, begin: int, end: int) -> tuple[mmap.mmap, int]:
    """Maps a part of another process's segment; what is written to it stays here.

    Until a page is written to, it still is the other process's: see `make_own`.

    Returns:
        The mapping, and where `begin` is in it.

    Raises:
        InvalidArgumentError: it is no segment of that size, or could become a smaller one.
        ResourceExhaustedError: it cannot be mapped.
    """
    _check(fd, size)
    offset = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    writable = mmap.PROT_READ | mmap.PROT_WRITE
    return _map(fd, end - offset, mmap.MAP_PRIVATE, writable, offset), begin - offset


def make_own(mapping: mmap.mmap) -> None:
    """Gives a private mapping pages of its own, whatever others write from now on.

    Raises:
        OSError: there is no such memory, or the system (Linux before 5.14) cannot do it.
    """
    mapping.madvise(_MADV_POPULATE_WRITE)


def has_room_to_map() -> bool:
    """Whether another foreign segment can stay mapped; each takes a descriptor."""
    return len(_foreign) < _quarter_of_descriptors()


def can_share() -> bool:
    """Whether the system can do what this module needs."""
    try:
        segment = Segment(_PAGE)
        make_own(map_privately(segment.fd, _PAGE, 0, _PAGE)[0])
    except (OSError, ResourceExhaustedError):
        return False
    return True


def _check(fd: int, size: int) -> None:
    try:
        is_sealed = fcntl.fcntl(fd, _F_GET_SEALS) & _F_SEAL_SHRINK
    except OSError:
        is_sealed = 0
    if not is_sealed or size < 1 or os.fstat(fd).st_size < size:
        raise InvalidArgumentError(
            None, None, f"a shared segment of {size} bytes is smaller than that, or not sealed"
        )


def _map(fd: int, size: int, flags: int, protection: int, offset: int) -> mmap.mmap:
    try:
        mapping = mmap.mmap(fd, size, flags=flags, prot=protection, offset=offset)
    except (OSError, ValueError, OverflowError) as error:
        raise ResourceExhaustedError(
            None, None, f"a shared segment of {size} bytes cannot be mapped: {error}"
        ) from None
    _foreign.add(mapping)
    return mapping


_foreign: Final[weakref.WeakSet[mmap.mmap]] = weakref.WeakSet()


def _quarter_of_descriptors() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 16 if soft == resource.RLIM_INFINITY else min(soft, 1 << 16)) // 4


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
