"""What a task counted since it started; the server's metrics read it.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter


class Statistics:
    """Counters of calls.

    Kinds are the names of the requests in `service.proto`, such as "run_stage".
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}
        self._failures: Counter[int] = Counter()

    def call_ended(self, kind: str, seconds: float) -> None:
        """A call ended well after that many seconds."""
        with self._lock:
            self._calls[kind] += 1
            self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def call_failed(self, error_code: int) -> None:
        """A call failed with that status code."""
        with self._lock:
            self._failures[error_code] += 1

    def calls(self) -> dict[str, tuple[int, float]]:
        """For each kind, how many calls ended well, and the seconds that they took altogether."""
        with self._lock:
            return {kind: (self._calls[kind], self._seconds[kind]) for kind in self._calls}

    def failures(self) -> dict[int, int]:
        """How many calls failed, by status code."""
        with self._lock:
            return dict(self._failures)
