"""A runtime in which a seeded scheduler decides who runs next and what time it is.

Every "thread" is a greenlet, and only one runs at a time, from one wait to the next. Who comes
next is drawn from the seed; time stands still while anybody can run, and jumps to the next timer
when nobody can. So a whole cluster runs in one thread, as fast as it computes, and a failure
replays exactly from its seed. The way is FoundationDB's (Zhou et al., SIGMOD 2021).

Real locks are allowed in the code under test, as long as none is held across a wait.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import greenlet


class DeadlockError(AssertionError):
    """Somebody waits, nobody can run, and no timer is set."""


class Scheduler:
    """The hub that all greenlets return to when they wait."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self._ready: list[tuple[greenlet.greenlet, Any]] = []
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self._hub: greenlet.greenlet | None = None
        self.errors: list[BaseException] = []

    def run(self, main: Callable[[], Any], *, until_s: float = 10_000.0) -> Any:
        """Runs `main`, and everything that it starts, until `main` returns."""
        self._hub = greenlet.getcurrent()
        result: list[Any] = []
        self.start(lambda: result.append(main()))
        while not result:
            if self.errors:
                raise self.errors[0]
            if self._ready:
                index = self.random.randrange(len(self._ready))
                self._ready[index], self._ready[-1] = self._ready[-1], self._ready[index]
                runner, value = self._ready.pop()
                runner.switch(value)
            elif self._timers:
                at_s, _, timer = heapq.heappop(self._timers)
                if not timer.is_cancelled:
                    self.now = max(self.now, at_s)
                    assert self.now < until_s, f"still running after {until_s} simulated seconds"
                    timer.function()
            else:
                raise DeadlockError("everybody waits for everybody")
        if self.errors:
            raise self.errors[0]
        return result[0]

    def start(self, function: Callable[[], Any]) -> None:
        """Runs `function` in a greenlet of its own, soon."""

        def guarded(_: Any) -> None:
            try:
                function()
            except greenlet.GreenletExit:
                raise
            except BaseException as error:
                self.errors.append(error)

        self._ready.append((greenlet.greenlet(guarded, self._hub), None))

    def wake(self, runner: greenlet.greenlet, value: Any) -> None:
        """Lets a waiting greenlet go on, its `wait` answering `value`."""
        self._ready.append((runner, value))

    def wait(self) -> Any:
        """Gives way until somebody wakes this greenlet."""
        assert self._hub is not None
        return self._hub.switch()

    def pause(self) -> None:
        """Gives way once: others may run first."""
        self.wake(greenlet.getcurrent(), None)
        self.wait()

    def at(self, delay_s: float, function: Callable[[], None]) -> _Timer:
        """Calls `function`, which does not wait, after a delay."""
        timer = _Timer(function)
        heapq.heappush(self._timers, (self.now + delay_s, next(self._numbers), timer))
        return timer


class _Timer:
    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class _Waiters:
    """Greenlets that wait for one thing, each with a time-out of its own."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._queue: deque[tuple[greenlet.greenlet, _Timer | None]] = deque()

    def wait(self, timeout_s: float | None) -> bool:
        """Waits; answers whether it was woken, rather than timed out."""
        entry: tuple[greenlet.greenlet, _Timer | None]
        runner = greenlet.getcurrent()
        if timeout_s is None:
            entry = (runner, None)
        else:
            timer = self._scheduler.at(timeout_s, lambda: self._expire(entry))
            entry = (runner, timer)
        self._queue.append(entry)
        woken: bool = self._scheduler.wait()
        return woken

    def wake(self, count: int | None = None) -> None:
        while self._queue and (count is None or count > 0):
            runner, timer = self._queue.popleft()
            if timer is not None:
                timer.cancel()
            self._scheduler.wake(runner, True)
            if count is not None:
                count -= 1

    def _expire(self, entry: tuple[greenlet.greenlet, _Timer | None]) -> None:
        if entry in self._queue:
            self._queue.remove(entry)
            self._scheduler.wake(entry[0], False)


class SimulatedEvent:
    """A `runtime.Event`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._waiters = _Waiters(scheduler)
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        self._waiters.wake()

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout_s: float | None = None) -> bool:
        if not self._is_set:
            self._waiters.wait(timeout_s)
        return self._is_set


class SimulatedMailbox:
    """A `runtime.Mailbox`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiters = _Waiters(scheduler)
        self._items: deque[Any] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._waiters.wake(1)

    def get(self, timeout_s: float | None = None) -> Any:
        deadline = None if timeout_s is None else self._scheduler.now + timeout_s
        while not self._items:
            remaining = None if deadline is None else deadline - self._scheduler.now
            if remaining is not None and remaining <= 0:
                raise TimeoutError("nothing arrived")
            self._waiters.wait(remaining)
        return self._items.popleft()


class SimulatedRuntime:
    """A `runtime.Runtime`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def now(self) -> float:
        return self.scheduler.now

    def sleep(self, seconds: float) -> None:
        event = self.event()
        event.wait(seconds)

    def event(self) -> SimulatedEvent:
        return SimulatedEvent(self.scheduler)

    def mailbox(self) -> SimulatedMailbox:
        return SimulatedMailbox(self.scheduler)

    def spawn(self, name: str, function: Callable[[], None]) -> None:
        self.scheduler.start(function)

    def submit(self, function: Callable[[], None]) -> None:
        self.scheduler.start(function)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> _Timer:
        return self.scheduler.at(delay_s, lambda: self.scheduler.start(function))
