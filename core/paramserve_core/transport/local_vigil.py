"""Looking for what arrives on a local socket for a moment before one sleeps for it.

To wake a thread whose processor sleeps takes some 40 µs, on each of the two ends a third of the
shortest step. So where the last sleep was short, one looks again and again for a moment and sleeps
only then. Where nothing comes that costs little: a long sleep ends it until a sleep was short
again, so a connection that is idle, or whose steps are seldom, is slept for at once; and where
sleeps are short and looking is in vain all the same, one looks half as often after each time. Once
in vain changes nothing: somebody was held up, and if both ends slept for that, they would go on
sleeping. One thread of a process looks at a time; and none where there is one processor, which the
other end needs.

Thread rule: a vigil is kept by one thread at a time.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 150e-6
"""How long to look, in seconds: a step that changes a scalar takes less if nobody sleeps."""

SHORT_S: Final = 4 * LOOK_S
"""What a short sleep is: such a step if both ends sleep, and are slow to wake."""

_MAX_VAIN: Final = 8
"""After so many looks in vain in a row every 64th short sleep is followed by one."""

_looking = threading.Lock()


def _nobody_looks() -> None:
    """In a forked child, where the thread that was looking does not exist."""
    global _looking
    _looking = threading.Lock()


os.register_at_fork(after_in_child=_nobody_looks)


class Vigil:
    """Waits for bytes on the socket of one connection.

    Args:
        may_look: whether it may look before it sleeps.
        now: the time in seconds.
    """

    __slots__ = ("_is_worth", "_may_look", "_now", "_skipped", "_vain")

    def __init__(
        self, may_look: bool | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._may_look = len(os.sched_getaffinity(0)) > 1 if may_look is None else may_look
        self._now = now
        self._is_worth = False
        self._vain = 0
        self._skipped = 0

    def look(self, poll: select.poll) -> list[tuple[int, int]]:
        """What is ready, or comes within a moment; nothing at once where looking is no use."""
        looking = _looking
        if not (self._is_worth and self._may_look and looking.acquire(blocking=False)):
            return []
        try:
            end = self._now() + LOOK_S
            while self._now() < end:
                if ready := poll.poll(0):
                    self._vain = 0
                    return ready
        finally:
            looking.release()
        self._vain = min(self._vain + 1, _MAX_VAIN)
        self._skipped = 0
        return []

    def sleep(self, poll: select.poll, timeout_ms: float | None = None) -> list[tuple[int, int]]:
        """Sleeps until something is ready, which it returns, or it is time."""
        began = self._now()
        ready = poll.poll(timeout_ms)
        if self._now() - began >= SHORT_S:
            self._is_worth = False
        else:
            self._is_worth = self._skipped >= (1 << self._vain) // 4
            self._skipped += 1
        return ready
