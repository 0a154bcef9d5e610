"""What a task counted since it started; the server's metrics and `paramserve top` read it.

A call that ends adds a few numbers to those of its kind with the lock held for that long only, and
everything else is worked out by who reads.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace


@dataclass(slots=True)
class CallFigures:
    """The calls of one kind that ended well.

    Attributes:
        count: how many.
        steps: with how many of them a step began here.
        queued_s: seconds from their arrival until they began, altogether.
        run_s: seconds from then until their answers were ready, altogether.
    """

    count: int = 0
    steps: int = 0
    queued_s: float = 0.0
    run_s: float = 0.0


class Statistics:
    """Counters of calls.

    Kinds are the names of the requests in `service.proto`, such as "run_stage".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[str, CallFigures] = {}
        self._failures: Counter[int] = Counter()

    def call_ended(self, kind: str, queued_s: float, run_s: float, *, begins_step: bool) -> None:
        """A call ended well after so many seconds; `begins_step`: the first of its step here."""
        with self._lock:
            figures = self._calls.get(kind)
            if figures is None:
                figures = self._calls[kind] = CallFigures()
            figures.count += 1
            figures.steps += begins_step
            figures.queued_s += queued_s
            figures.run_s += run_s

    def call_failed(self, error_code: int) -> None:
        """A call failed with that status code."""
        with self._lock:
            self._failures[error_code] += 1

    def calls(self) -> dict[str, CallFigures]:
        """The figures of each kind, as they are now."""
        with self._lock:
            return {kind: replace(figures) for kind, figures in self._calls.items()}

    def failures(self) -> dict[int, int]:
        """How many calls failed, by status code."""
        with self._lock:
            return dict(self._failures)
