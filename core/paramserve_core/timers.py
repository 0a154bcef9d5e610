"""Calls that are made later, all by one thread.

A step with a deadline sets a timer and takes it back, thousands of times a second, and each
session that waits for its client has one for a minute. A thread for each would cost more than the
step and hold a stack for as long. Here timers lie in a heap, and one thread of the process waits
for the earliest. One that was taken back stays in the heap until its time or until it is among
many of them, so that setting and taking back rarely wakes the thread.

Thread rule: every method may be called from any thread. What is called must be brief, since the
timers after it wait.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Final

_MANY: Final = 64
"""So few that were taken back are not worth looking for."""

_log = logging.getLogger(__name__)


class QueuedTimer:
    """One call in the queue; a `runtime.Timer`."""

    __slots__ = ("_queue", "at_s", "function")

    def __init__(self, queue: TimerQueue, at_s: float, function: Callable[[], None]) -> None:
        self._queue = queue
        self.at_s = at_s
        self.function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Keeps the call from being made, if it was not made yet."""
        self._queue.cancel(self)


class TimerQueue:
    """Timers of a process, and the thread that calls them; it is started with the first."""

    def __init__(self) -> None:
        # Whoever has the lock may be interrupted by the garbage collector, and that by a `cancel`.
        self._changed = threading.Condition(threading.RLock())
        self._heap: list[tuple[float, int, QueuedTimer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._wakes_at_s = 0.0
        self._has_thread = False

    def __len__(self) -> int:
        """Timers in memory, those that were taken back included."""
        return len(self._heap)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> QueuedTimer:
        """Calls `function` on the queue's thread, `delay_s` seconds from now."""
        timer = QueuedTimer(self, time.monotonic() + delay_s, function)
        with self._changed:
            heapq.heappush(self._heap, (timer.at_s, next(self._numbers), timer))
            if not self._has_thread:
                self._has_thread = True
                self._wakes_at_s = timer.at_s
                threading.Thread(target=self._run, name="paramserve-timers", daemon=True).start()
            elif timer.at_s < self._wakes_at_s:
                self._wakes_at_s = timer.at_s
                self._changed.notify()
        return timer

    def cancel(self, timer: QueuedTimer) -> None:
        """See `QueuedTimer.cancel`."""
        with self._changed:
            function, timer.function = timer.function, None  # It ends when the lock is free again.
            if function is None:
                return
            self._cancelled += 1
            if self._cancelled > _MANY and self._cancelled > len(self._heap) // 2:
                self._heap = [entry for entry in self._heap if entry[2].function is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _run(self) -> None:
        while True:
            function = self._next()
            try:
                function()
            except Exception:
                _log.exception("a timer's call failed")
            del function  # Or it would hold what it is a method of until the next one comes.

    def _next(self) -> Callable[[], None]:
        """Waits until a timer's time has come, and takes it out of the heap."""
        with self._changed:
            while True:
                now_s = time.monotonic()
                while self._heap and self._heap[0][0] <= now_s:
                    timer = heapq.heappop(self._heap)[2]
                    function, timer.function = timer.function, None
                    if function is not None:
                        return function
                    self._cancelled -= 1
                self._wakes_at_s = self._heap[0][0] if self._heap else float("inf")
                wait_s = min(self._wakes_at_s - now_s, threading.TIMEOUT_MAX)
                self._changed.wait(wait_s)


_timers = TimerQueue()


def call_later(delay_s: float, function: Callable[[], None]) -> QueuedTimer:
    """See `TimerQueue.call_later`; with the queue of this process."""
    return _timers.call_later(delay_s, function)


def _after_fork_in_child() -> None:
    """What the parent set is the parent's, and its thread is not here."""
    global _timers
    _timers = TimerQueue()


os.register_at_fork(after_in_child=_after_fork_in_child)
