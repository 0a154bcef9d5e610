"""`LooperThread`: a function that is called again and again until a coordinator says stop.

Thread rule: `loop` and `start` are called by the thread that makes it; the other methods run on the
thread itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from paramserve._threads.coordinator import Coordinator


class LooperThread(threading.Thread):
    """A thread that calls a function, or its own `run_loop`, until the coordinator says stop.

    It is a daemon and is registered with the coordinator, so that `coord.join()` waits for it. An
    exception ends it and asks the coordinator to stop the others.

    Args:
        coord: the coordinator.
        timer_interval_secs: seconds from the beginning of one call to that of the next; a call
            that takes longer is followed by the next at once. None: no pause.
        target: the function; None: a subclass has its own `run_loop`.
        args: what the function is given.
        kwargs: what it is given by name.

    Raises:
        ValueError: `coord` is no Coordinator, or there are arguments and no function.
    """

    def __init__(
        self,
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., object] | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(coord, Coordinator):
            raise ValueError(f"coord must be a Coordinator, got {coord!r}")
        if target is None and (args or kwargs):
            raise ValueError("args and kwargs are for a target, and there is none")
        super().__init__(daemon=True)
        self._coord = coord
        self._interval_s = timer_interval_secs
        self._function = target
        self._function_args = tuple(args or ())
        self._function_kwargs = dict(kwargs or {})
        coord.register_thread(self)

    @staticmethod
    def loop(
        coord: Coordinator,
        timer_interval_secs: float | None,
        target: Callable[..., object],
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> LooperThread:
        """Makes and starts a thread that calls `target`; the arguments are those of the class."""
        looper = LooperThread(coord, timer_interval_secs, target=target, args=args, kwargs=kwargs)
        looper.start()
        return looper

    def run(self) -> None:
        """Calls the function until the coordinator says stop; see `threading.Thread.run`."""
        with self._coord.stop_on_exception():
            self.start_loop()
            next_at = time.monotonic()
            while not self._coord.wait_for_stop(max(0.0, next_at - time.monotonic())):
                if self._interval_s is not None:
                    next_at += self._interval_s
                self.run_loop()
            self.stop_loop()

    def start_loop(self) -> None:
        """Called once before the first `run_loop`, for subclasses."""

    def stop_loop(self) -> None:
        """Called once after the last `run_loop`, unless that failed; for subclasses."""

    def run_loop(self) -> None:
        """Calls the function once."""
        if self._function is not None:
            self._function(*self._function_args, **self._function_kwargs)
