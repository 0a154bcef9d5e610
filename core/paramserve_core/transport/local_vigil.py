"""Looking for what arrives on a local socket for a moment before one sleeps for it.

To wake a thread whose processor sleeps takes some 40 µs, on each of the two ends a third of the
shortest step. So where the last sleep was short, one looks again and again for a moment and sleeps
only then. Where nothing comes that costs little: looking in vain ends it until a sleep was short
again, so a connection that is idle, or whose steps are long or seldom, is slept for at once. One
thread of a process looks at a time; and none where there is one processor, which the other end
needs.

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

SHORT_S: Final = 2 * LOOK_S
"""What a short sleep is: such a step if both ends sleep."""

_looking = threading.Lock()


def _nobody_looks() -> None:
    """In a forked child, where the thread that was looking does not exist."""
    global _looking
    _looking = threading.Lock()


os.register_at_fork(after_in_child=_nobody_looks)


class Vigil:
    """Waits for bytes on a descriptor.

    Args:
        descriptor: a socket; nobody else reads from it meanwhile.
        may_look: whether it may look before it sleeps.
        now: the time in seconds.
    """

    __slots__ = ("_may_look", "_now", "_poll", "_was_short")

    def __init__(
        self,
        descriptor: int,
        may_look: bool | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._may_look = len(os.sched_getaffinity(0)) > 1 if may_look is None else may_look
        self._now = now
        self._was_short = False

    def wait(self) -> None:
        """Returns when there is something to read, or the socket was shut."""
        looking = _looking
        if self._was_short and self._may_look and looking.acquire(blocking=False):
            try:
                end = self._now() + LOOK_S
                while self._now() < end:
                    if self._poll.poll(0):
                        return
            finally:
                looking.release()
            self._was_short = False
            self._poll.poll()
            return
        began = self._now()
        self._poll.poll()
        self._was_short = self._now() - began < SHORT_S
