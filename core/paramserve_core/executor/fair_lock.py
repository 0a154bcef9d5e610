"""A lock that is handed over in the order of arrival.

Python's own lock goes to whoever asks at the right moment, and a thread that just let go of it is
best placed for that: of several workers that push to one variable without pause, one could wait for
as long as the others like. Here threads that have to wait stand in a queue, each with a lock of its
own, and the holder opens the first of those instead of letting go. (The idea is that of queue
locks, Mellor-Crummey and Scott, "Algorithms for Scalable Synchronization", ACM TOCS 1991.) Where
nobody waits, it costs little more than the lock that it is made of.

Thread rule: every method may be called from any thread. `_lock` guards the queue; who holds `_held`
has the fair lock.
"""

from __future__ import annotations

import threading
from collections import deque


class FairLock:
    """A lock for one holder at a time; those that wait get it first come, first served."""

    __slots__ = ("_held", "_lock", "_waiting")

    def __init__(self) -> None:
        self._held = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    @property
    def is_held(self) -> bool:
        """Whether somebody has the lock."""
        return self._held.locked()

    @property
    def waiting_count(self) -> int:
        """How many threads wait."""
        return len(self._waiting)

    def acquire(self) -> None:
        """Takes the lock; waits until all that came earlier have had it."""
        if not self._waiting and self._held.acquire(False):
            return
        turn = threading.Lock()
        turn.acquire()
        with self._lock:
            self._waiting.append(turn)
        self._pass_on()  # It may have become free before there was anybody to pass it to.
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C
            self._withdraw(turn)
            raise

    def try_acquire(self) -> bool:
        """Takes the lock if nobody has it or waits for it; answers whether it did."""
        return not self._waiting and self._held.acquire(False)

    def release(self) -> None:
        """Passes the lock to whoever has waited longest."""
        if self._waiting:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().release()
                    return
        self._held.release()
        if self._waiting:
            self._pass_on()

    def _pass_on(self) -> None:
        """Gives the lock to the first in the queue, if nobody has it."""
        with self._lock:
            if self._waiting and self._held.acquire(False):
                self._waiting.popleft().release()

    def _withdraw(self, turn: threading.Lock) -> None:
        with self._lock:
            is_waiting = turn in self._waiting
            if is_waiting:
                self._waiting.remove(turn)
        if not is_waiting:
            self.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
