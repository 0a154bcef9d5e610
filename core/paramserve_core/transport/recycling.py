"""Memory for large tensors that arrive, used again and again (see `idle_memory`).

An array from here is like one that owns its memory: nobody else sees it, and when it and the last
view of it are gone the memory comes back by itself (see `ownership`).

Thread rule: everything may be called from any thread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from paramserve_core.transport.idle_memory import IdleMemory
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

    __slots__ = ("_idle", "_memory")

    is_exclusive: Final = True

    def __init__(self, memory: HeldMemory, idle: IdleMemory[HeldMemory]) -> None:
        self._memory = memory
        self._idle = idle

    def __del__(self) -> None:
        self._idle.give_back(self._memory)


class Recycler:
    """Memory that is kept for another use.

    Args:
        max_idle_bytes: what is kept beyond that goes back to the system, the oldest first.
    """

    def __init__(self, max_idle_bytes: int = 256 * _MIB) -> None:
        self._idle: IdleMemory[HeldMemory] = IdleMemory(len, max_idle_bytes)

    @property
    def idle_bytes(self) -> int:
        """Bytes that are kept and that nobody uses."""
        return self._idle.nbytes

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
        memory = self._idle.take(size)
        if memory is None:
            # Of that type, or NumPy would take it for the base of what is made on top of it.
            memory = HeldMemory((size,), np.uint8)
        return array_on(hold(memory, _Loan(memory, self._idle)), shape, wanted)

    def start_afresh(self) -> None:
        """In a forked child, where perhaps a thread that it lacks held the lock."""
        self._idle = IdleMemory(len, self._idle.max_bytes)


RECEIVED: Final = Recycler()
"""What this process receives into."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RECEIVED.start_afresh)
