"""Where time, threads and waiting come from.

Nothing in this project reads the clock, starts a thread or waits except through the runtime that
it was given. `ThreadRuntime` is the real one. The tests have another, in which a seeded scheduler
decides who runs next and time passes only when nobody can run, so that a fault schedule replays
exactly; the way is FoundationDB's simulation and trio's clocks.

Plain locks are not part of it: a lock is held for a few instructions and never while waiting for
an `Event` or a `Mailbox`.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, overload

from paramserve_core import timers

T = TypeVar("T")


class Event(Protocol):
    """A flag that is set once and can be waited for."""

    def set(self) -> None:
        """Raises the flag; everybody who waits goes on."""

    def is_set(self) -> bool:
        """Whether the flag is up."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for the flag, at most `timeout_s` seconds; answers whether it is up."""


class Mailbox(Protocol[T]):
    """A queue between threads, without a bound."""

    def put(self, item: T) -> None:
        """Adds an item; never waits."""

    def get(self, timeout_s: float | None = None) -> T:
        """Takes the oldest item; raises TimeoutError after `timeout_s` seconds without one."""


class Timer(Protocol):
    """A call that will be made later."""

    def cancel(self) -> None:
        """Keeps the call from being made, if it was not made yet."""


class Runtime(Protocol):
    """Time, threads and waiting."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    def sleep(self, seconds: float) -> None:
        """Waits."""

    def event(self) -> Event:
        """A new flag, down."""

    def mailbox(self) -> Mailbox[Any]:
        """A new, empty mailbox."""

    def spawn(self, name: str, function: Callable[[], None]) -> None:
        """Runs `function` on a thread of its own, which does not keep the process alive."""

    def submit(self, function: Callable[[], None]) -> None:
        """Runs `function` soon, on a thread of a pool that is as wide as the work needs."""

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        """Calls `function`, which must be brief, `delay_s` seconds from now."""


@overload
def _bounded(seconds: float) -> float: ...
@overload
def _bounded(seconds: None) -> None: ...
def _bounded(seconds: float | None) -> float | None:
    """What a thread can wait for: a peer may send any number, and infinity is no time to it."""
    if seconds is None:
        return None
    # NaN is below nothing, and so waits as long as infinity does.
    return max(seconds, 0.0) if seconds < threading.TIMEOUT_MAX else threading.TIMEOUT_MAX


class ThreadMailbox:
    """A `queue.SimpleQueue` by the names of `Mailbox`."""

    __slots__ = ("_queue", "is_empty")

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.is_empty = self._queue.empty

    def put(self, item: Any) -> None:
        """See `Mailbox.put`."""
        self._queue.put(item)

    def get(self, timeout_s: float | None = None) -> Any:
        """See `Mailbox.get`."""
        try:
            return self._queue.get(timeout=_bounded(timeout_s))
        except queue.Empty:
            raise TimeoutError(f"nothing arrived within {timeout_s} s") from None


class _ThreadEvent(threading.Event):
    """A `threading.Event` by the names of `Event`."""

    def wait(self, timeout_s: float | None = None) -> bool:
        return super().wait(_bounded(timeout_s))


class ThreadRuntime:
    """The operating system's clock and threads.

    Args:
        name: prefix of the names of its threads, as a debugger shows them.
        max_workers: how wide the pool of `submit` may grow; a thread that is idle is used before
            a new one is made, and work beyond that queues.
    """

    def __init__(self, name: str = "paramserve", max_workers: int = 1024) -> None:
        self._name = name
        self._max_workers = max_workers
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)

    def event(self) -> Event:
        """A new flag, down."""
        return _ThreadEvent()

    def mailbox(self) -> Mailbox[Any]:
        """A new, empty mailbox."""
        return ThreadMailbox()

    def spawn(self, name: str, function: Callable[[], None]) -> None:
        """Runs `function` on a daemon thread."""
        threading.Thread(target=function, name=f"{self._name}-{name}", daemon=True).start()

    def submit(self, function: Callable[[], None]) -> None:
        """Runs `function` on the pool."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._max_workers, f"{self._name}-work")
            self._pool.submit(function)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> Timer:
        """Calls `function` after the delay, on the thread of all timers of the process."""
        return timers.call_later(_bounded(delay_s), function)

    def close(self) -> None:
        """Lets the pool's threads end once their work is done."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)
