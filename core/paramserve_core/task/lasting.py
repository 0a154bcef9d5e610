"""Calls that may go on for any time, of which a session has so many threads and no more.

A loop ends when its graph says so. A client that begins thousands which do not would have every
thread of the server's pool, and nobody else's calls would ever begin. So what a session begins
beyond its limit waits for one of its own to end, in the order of arrival.

One that is cancelled while it waits runs at once, because it ends at once, and says so.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable

from paramserve_core.runtime import Runtime


class LastingCalls:
    """The lasting calls of one session.

    Args:
        runtime: runs them.
        at_once: how many run at a time.
    """

    def __init__(self, runtime: Runtime, at_once: int) -> None:
        self._runtime = runtime
        self._at_once = at_once
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[LastingCall] = deque()

    def new(self, run: Callable[[], None]) -> LastingCall:
        """A call that is to be begun."""
        return LastingCall(self, run)

    def begin(self, call: LastingCall) -> None:
        """See `LastingCall.begin`."""
        run = call.run
        with self._lock:
            if not call.is_hurried:
                if self._running >= self._at_once:
                    self._waiting.append(call)
                    return
                self._running += 1
                # Decided here: it may be cancelled before it is submitted, and has its place then.
                run = functools.partial(self._run, call)
        self._runtime.submit(run)

    def hurry(self, call: LastingCall) -> None:
        """See `LastingCall.hurry`."""
        with self._lock:
            call.is_hurried = True
            if call not in self._waiting:
                return
            self._waiting.remove(call)
        self._runtime.submit(call.run)

    def _run(self, call: LastingCall) -> None:
        try:
            call.run()
        finally:
            with self._lock:
                following = self._waiting.popleft() if self._waiting else None
                self._running -= following is None
            if following is not None:
                self._runtime.submit(functools.partial(self._run, following))


class LastingCall:
    """One of them."""

    __slots__ = ("_calls", "is_hurried", "run")

    def __init__(self, calls: LastingCalls, run: Callable[[], None]) -> None:
        self._calls = calls
        self.run = run
        self.is_hurried = False

    def begin(self) -> None:
        """Runs it, now or when its turn has come."""
        self._calls.begin(self)

    def hurry(self) -> None:
        """It was cancelled, so it does not wait any more."""
        self._calls.hurry(self)
