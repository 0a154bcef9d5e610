"""Where the buffers of variables lie, and how much of it they may take.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from paramserve_core.errors import ResourceExhaustedError

Array = NDArray[Any]


class Memory(Protocol):
    """Where the buffers of variables lie."""

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """An array with arbitrary contents, which nobody else holds.

        Raises:
            MemoryError: there is no such memory.
        """

    def has(self, array: Array) -> bool:
        """Whether an array lies where it would be if it had been allocated here."""


class OrdinaryMemory:
    """The memory of the process."""

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> Array:
        """See `Memory.allocate`."""
        return np.empty(shape, dtype)

    def has(self, array: Array) -> bool:
        """See `Memory.has`."""
        return array.flags.owndata


class StoreBudget:
    """Counts the bytes that variables take, and refuses what would pass the limit."""

    __slots__ = ("_limit_bytes", "_lock", "_used_bytes")

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._lock = threading.Lock()
        self._limit_bytes = limit_bytes
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Bytes in buffers of variables now."""
        return self._used_bytes

    @property
    def is_limited(self) -> bool:
        """Whether `change` may refuse anything."""
        return self._limit_bytes is not None

    def change(self, delta_bytes: int, name: str) -> None:
        """Adds `delta_bytes` on behalf of the variable `name`.

        Raises:
            ResourceExhaustedError: the limit would be passed; nothing was added.
        """
        with self._lock:
            used = self._used_bytes + delta_bytes
            if delta_bytes > 0 and self._limit_bytes is not None and used > self._limit_bytes:
                raise ResourceExhaustedError(
                    None,
                    None,
                    f"{name}: {delta_bytes} more bytes would bring the variables to {used}, the "
                    f"limit is {self._limit_bytes}; raise the server's variable memory limit or "
                    "spread the variables over more servers",
                )
            self._used_bytes = used
