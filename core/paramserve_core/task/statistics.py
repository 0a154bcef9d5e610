"""What a task counted since it started; the server's metrics read it.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import Counter


class Statistics:
    """Counters of calls.

    Attributes:
        calls: calls that ended well.
        seconds: time that those took, added up, from their start to their answer.
        failures: calls that failed, by status code.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls = 0
        self.seconds = 0.0
        self.failures: Counter[int] = Counter()

    def call_ended(self, seconds: float) -> None:
        """A call ended well after that many seconds."""
        with self._lock:
            self.calls += 1
            self.seconds += seconds

    def call_failed(self, error_code: int) -> None:
        """A call failed with that status code."""
        with self._lock:
            self.failures[error_code] += 1
