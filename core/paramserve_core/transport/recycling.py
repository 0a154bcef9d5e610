"""Memory for large tensors that arrive, used again and again.

Fresh memory is cleared by the system, page by page, as it is first written, which takes longer than
a copy. What one step received is mostly as large as what the next one will receive, so its memory
is kept for it, up to a limit.

An array from here is like one that owns its memory: nobody else sees it, and when it and the last
view of it are gone the memory comes back by itself (see `ownership`).

Thread rule: everything may be called from any thread. Arrays end on any thread, in the middle of
anything, so what they do then never waits for a lock.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from paramserve_core.transport.ownership import HeldMemory, array_on, hold

Array = NDArray[Any]

_MIB: Final = 1 << 20

RECYCLED_BYTES: Final = 4 * _MIB
"""What is smaller stays with the allocator when it is freed."""


class _Loan:
    """Memory in use; comes back when the last array on it is gone.

    Attributes:
        is_exclusive: always, it is nobody else's.
    """

    __slots__ = ("_memory", "_recycler")

    is_exclusive: Final = True

    def __init__(self, memory: HeldMemory, recycler: Recycler) -> None:
        self._memory = memory
        self._recycler = recycler

    def __del__(self) -> None:
        self._recycler.give_back(self._memory)


class Recycler:
    """Memory that is kept for another use.

    Args:
        max_idle_bytes: what is kept beyond that goes back to the system, the oldest first.
    """

    def __init__(self, max_idle_bytes: int = 256 * _MIB) -> None:
        self._max_idle_bytes = max_idle_bytes
        self._idle: list[HeldMemory] = []
        self._returned: deque[HeldMemory] = deque()
        self._lock = threading.Lock()

    @property
    def idle_bytes(self) -> int:
        """Bytes that are kept and that nobody uses."""
        with self._lock:
            self._collect()
            return sum(map(len, self._idle))

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """An array with arbitrary contents, on memory that was used before if it is large.

        Args:
            shape: its shape.
            dtype: its type.

        Raises:
            MemoryError: there is no such memory.
            ValueError: no array can have that shape.
        """
        wanted = np.dtype(dtype)
        size = math.prod(shape) * wanted.itemsize
        if size < RECYCLED_BYTES or wanted.hasobject:
            return np.empty(shape, wanted)
        with self._lock:
            self._collect()
            memory = self._fitting(size)
        if memory is None:
            # Of that type, or NumPy would take it for the base of what is made on top of it.
            memory = HeldMemory((size,), np.uint8)
        return array_on(hold(memory, _Loan(memory, self)), shape, wanted)

    def give_back(self, memory: HeldMemory) -> None:
        """Nobody uses the memory any more."""
        self._returned.append(memory)
        # Whoever has the lock is about to sort it in, or the next one does.
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def start_afresh(self) -> None:
        """In a forked child, where perhaps a thread that it lacks held the lock."""
        self._lock = threading.Lock()

    def _collect(self) -> None:
        while self._returned:
            self._idle.append(self._returned.popleft())
        idle_bytes = sum(map(len, self._idle))
        while idle_bytes > self._max_idle_bytes:
            idle_bytes -= len(self._idle.pop(0))

    def _fitting(self, size: int) -> HeldMemory | None:
        """The smallest idle memory that is large enough and not far too large."""
        fitting = [
            (len(memory), index)
            for index, memory in enumerate(self._idle)
            if size <= len(memory) <= 2 * size
        ]
        return self._idle.pop(min(fitting)[1]) if fitting else None


RECEIVED: Final = Recycler()
"""What this process receives into."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RECEIVED.start_afresh)
