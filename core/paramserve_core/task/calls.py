"""Exactly once: which calls of a session were begun, and what they were answered.

A call has a number that its client chose and keeps when it sends the call again over a new
connection. The first time, the number is entered here and the call runs; a repeat finds it either
running (the answer will go to the newest connection) or answered (the same answer is sent again).
An answer is kept until the client says that it arrived: each call names the number below which
everything arrived. Large answers are acknowledged at once, and so are, many at a time, those that
overtake an earlier call: a save may run for as long as thousands of steps.

This is the classic duplicate suppression of remote procedure calls (Birrell and Nelson,
"Implementing Remote Procedure Calls", ACM TOCS 1984), with pipelining.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import enum
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from typing import Final

from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.transport.interface import Message


class Verdict(enum.Enum):
    """What to do with a call that arrived."""

    NEW = enum.auto()
    """Run it."""
    RUNNING = enum.auto()
    """It runs already; its answer will be sent."""
    ANSWERED = enum.auto()
    """Send the answer again."""
    OUTDATED = enum.auto()
    """The client has the answer: a late copy, to be dropped."""
    CANCELLED = enum.auto()
    """Its cancellation came first: answer so, without running it."""


class _Entry:
    __slots__ = ("answer", "cancel", "is_cancelled")

    def __init__(self) -> None:
        self.answer: Message | None = None
        self.cancel: Callable[[], None] | None = None
        self.is_cancelled = False


class _Numbers:
    """A set of numbers that has few gaps: it takes as much memory as it has runs of numbers."""

    __slots__ = ("_begins", "_ends")

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._begins)

    def __contains__(self, number: int) -> bool:
        run = bisect_right(self._begins, number) - 1
        return run >= 0 and number < self._ends[run]

    def add(self, number: int) -> None:
        """Adds a number that is not in the set."""
        run = bisect_left(self._begins, number)
        joins_left = run > 0 and self._ends[run - 1] == number
        joins_right = run < len(self._begins) and self._begins[run] == number + 1
        if joins_left and joins_right:
            self._ends[run - 1] = self._ends.pop(run)
            del self._begins[run]
        elif joins_left:
            self._ends[run - 1] = number + 1
        elif joins_right:
            self._begins[run] = number
        else:
            self._begins.insert(run, number)
            self._ends.insert(run, number + 1)

    def drop_below(self, number: int) -> None:
        """Removes the runs that end at `number` or before."""
        count = bisect_right(self._ends, number)
        del self._begins[:count], self._ends[:count]


class CallTable:
    """The calls of one session on one task.

    Args:
        max_calls: calls that may be running or unacknowledged at a time.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls: Final = max_calls
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._completed_below = 0
        self._acknowledged = _Numbers()

    def begin(self, number: int, completed_below: int) -> Verdict:
        """Enters a call that arrived, unless it is known.

        Args:
            number: the call's number.
            completed_below: the client has the answers of all calls below this number.

        Raises:
            ResourceExhaustedError: too many calls are unfinished or unacknowledged.
        """
        with self._lock:
            if completed_below > self._completed_below:
                self._completed_below = completed_below
                self._acknowledged.drop_below(completed_below)
                for old in [n for n in self._entries if n < completed_below]:
                    del self._entries[old]
            if self._is_completed(number):
                return Verdict.OUTDATED
            entry = self._entries.get(number)
            if entry is None:
                if len(self._entries) + len(self._acknowledged) >= self._max_calls:
                    raise ResourceExhaustedError(
                        None,
                        None,
                        f"the session has {len(self._entries)} calls that run or whose answers it "
                        f"did not acknowledge, the limit is {self._max_calls}",
                    )
                self._entries[number] = _Entry()
                return Verdict.NEW
            if entry.answer is not None:
                return Verdict.ANSWERED
            return Verdict.CANCELLED if entry.is_cancelled and not entry.cancel else Verdict.RUNNING

    def running(self, number: int, cancel: Callable[[], None]) -> None:
        """Says how to cancel a new call; called once, before it runs."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is None:
                return
            entry.cancel = cancel
            cancelled = entry.is_cancelled
        if cancelled:
            cancel()

    def finish(self, number: int, answer: Message) -> None:
        """Keeps the answer of a call until it is acknowledged."""
        with self._lock:
            entry = self._entries.get(number)
            if entry is not None:
                entry.answer = answer
                entry.cancel = None

    def answer_of(self, number: int) -> Message | None:
        """The answer kept for a call, or None."""
        with self._lock:
            entry = self._entries.get(number)
            return None if entry is None else entry.answer

    def acknowledge(self, numbers: Iterable[int]) -> None:
        """The answers of these calls arrived; keeps no more of them than that they are done."""
        with self._lock:
            for number in numbers:
                entry = self._entries.get(number)
                if entry is not None and entry.answer is not None:
                    del self._entries[number]
                    self._acknowledged.add(number)

    def cancel(self, number: int) -> Verdict:
        """Cancels a call that runs; of one that has not arrived, remembers that it must not run.

        Returns:
            CANCELLED for a call that has not arrived (the caller answers it), else what it is.
        """
        with self._lock:
            if self._is_completed(number):
                return Verdict.OUTDATED
            entry = self._entries.get(number)
            if entry is None:
                if len(self._entries) < self._max_calls:
                    self._entries[number] = entry = _Entry()
                    entry.is_cancelled = True
                return Verdict.CANCELLED
            if entry.answer is not None:
                return Verdict.ANSWERED
            entry.is_cancelled = True
            cancel = entry.cancel
        if cancel is not None:
            cancel()
        return Verdict.RUNNING

    def cancel_all(self) -> None:
        """Cancels every call that runs."""
        with self._lock:
            cancels = [e.cancel for e in self._entries.values() if e.cancel is not None]
        for cancel in cancels:
            cancel()

    def _is_completed(self, number: int) -> bool:
        return number < self._completed_below or number in self._acknowledged
