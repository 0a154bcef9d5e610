"""Long loops of a server give way to everything else.

A loop holds Python's lock from one small kernel to the next. The interpreter takes the lock from
it every 5 ms, and whoever needs it stands in a line with all the loops that do: with eight loops
that never end, a step of another client, which asks for the lock a few times, took 100 ms instead
of 0.2. So a loop that lasts pauses, too briefly to be noticed by itself. The more loops there are
the more often each of them does, and all together they keep somebody waiting no longer than one.

While one pauses another runs, so this takes little from many loops. One that is alone on a server
would lose a tenth, so it pauses often only while somebody asks the server for something else.

Loops in a program's own process do not pause; no other client waits there.

Thread rule: every method may be called from any thread; a `Stretch` belongs to the thread that
entered it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

STRETCH_S: Final = 1e-3
"""How long all loops together may keep somebody waiting who asks again and again."""
LONE_STRETCH_S: Final = 5e-3
"""And one who has not asked lately."""
SHORTEST_S: Final = 50e-6
LATELY_S: Final = 0.1
_PAUSE_S: Final = 20e-6
"""The system makes more of that, but it is a pause: the lock goes to somebody else."""


class LoopTurns:
    """The loops of one task.

    Args:
        now: a clock, in seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.now = now
        self.sleep = sleep
        self._lock = threading.Lock()
        self._running = 0
        self._asked_at_s = float("-inf")

    def stretch(self) -> Stretch:
        """To be entered for the length of a stage that has loops."""
        return Stretch(self)

    def others_ask(self) -> None:
        """A call arrived that has no loop."""
        self._asked_at_s = self.now()

    def change(self, delta: int) -> None:
        """So many more stages with loops run."""
        with self._lock:
            self._running += delta

    def stretch_s(self) -> float:
        """How long a loop may run before it pauses."""
        is_asked = self.now() - self._asked_at_s < LATELY_S
        whole_s = STRETCH_S if is_asked else LONE_STRETCH_S
        return max(whole_s / max(self._running, 1), SHORTEST_S)


class Stretch:
    """What the loops of a stage run without a pause."""

    __slots__ = ("_turns", "_until_s")

    def __init__(self, turns: LoopTurns) -> None:
        self._turns = turns
        self._until_s = 0.0

    def __enter__(self) -> Stretch:
        self._turns.change(+1)
        self._until_s = self._turns.now() + self._turns.stretch_s()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._turns.change(-1)

    def give_way(self) -> None:
        """Pauses if it is time to; called once in each iteration."""
        turns = self._turns
        if turns.now() < self._until_s:
            return
        turns.sleep(_PAUSE_S)
        self._until_s = turns.now() + turns.stretch_s()
