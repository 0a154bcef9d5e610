"""Memory that nobody uses, kept for another use.

The first touch of fresh memory costs several times what writing it again does, and what one step
needed is mostly as large as what the next one will need. So a pool leaves here what comes back to
it, and looks here first. A step on a variable of a gigabyte needs as much again in every step, but
nobody wants that kept for a step that may never come: the piece that came back last stays whatever
its size, for some seconds if it is larger than what may be kept.

Thread rule: every method may be called from any thread. Memory comes back on any thread, in the
middle of anything, so `give_back` never waits for a lock of ours.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from paramserve_core import timers

T = TypeVar("T")

LINGER_S: Final = 5.0
"""How long a piece stays that is larger than what may be kept."""

_SPARE_BYTES: Final = 1 << 20
"""So much may be wasted on something small; on what is larger, as much as it needs itself."""


class IdleMemory(Generic[T]):
    """Pieces of memory of one kind.

    Args:
        size_of: bytes of a piece.
        max_bytes: what is kept beyond that is let go, the oldest first. The newest lingers.
    """

    def __init__(self, size_of: Callable[[T], int], max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._size_of = size_of
        self._lock = threading.Lock()
        self._pieces: list[T] = []
        self._returned: deque[T] = deque()
        self._returned_at_s = 0.0
        self._is_lingering = False

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        with self._lock:
            self._sort_in()
            return sum(map(self._size_of, self._pieces))

    def take(self, size_bytes: int) -> T | None:
        """The smallest piece that is large enough and not far too large, if there is one."""
        largest = max(2 * size_bytes, _SPARE_BYTES)
        with self._lock:
            self._sort_in()
            fitting = [
                (size, index)
                for index, size in enumerate(map(self._size_of, self._pieces))
                if size_bytes <= size <= largest
            ]
            found = self._pieces.pop(min(fitting)[1]) if fitting else None
        self._settle()
        return found

    def give_back(self, piece: T) -> None:
        """Nobody uses the piece any more."""
        self._returned.append(piece)
        self._settle()

    def _settle(self) -> None:
        """Sorts in what came back, unless somebody else is about to: whoever has the lock."""
        while self._returned and self._lock.acquire(blocking=False):
            try:
                self._sort_in()
            finally:
                self._lock.release()

    def _sort_in(self) -> None:
        if self._returned:
            self._returned_at_s = time.monotonic()
        while self._returned:
            self._pieces.append(self._returned.popleft())
        if self._let_go(least=1) and not self._is_lingering:
            self._is_lingering = True
            timers.call_later(LINGER_S, self._end_lingering)

    def _let_go(self, least: int) -> bool:
        """Keeps as many bytes as may be, or so many pieces; answers whether it is too much."""
        kept_bytes = sum(map(self._size_of, self._pieces))
        while kept_bytes > self.max_bytes and len(self._pieces) > least:
            kept_bytes -= self._size_of(self._pieces.pop(0))
        return kept_bytes > self.max_bytes

    def _end_lingering(self) -> None:
        with self._lock:
            rest_s = self._returned_at_s + LINGER_S - time.monotonic()
            self._is_lingering = rest_s > 0 and self._let_go(least=1)
            if self._is_lingering:
                timers.call_later(rest_s, self._end_lingering)
            else:
                self._let_go(least=0)
        self._settle()
