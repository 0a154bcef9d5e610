"""`Coordinator`: several threads that end together.

One thread asks for the end, by itself or because it failed; the others ask now and then whether it
was asked for; and whoever joins them all gets the first failure as an exception of its own.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

from paramserve.errors import OutOfRangeError

ExceptionInfo = tuple[type[BaseException], BaseException, TracebackType | None]
"""What `sys.exc_info()` answers while an exception is handled."""

_LOOK_S: Final = 0.02
"""How often `join` looks whether the threads have ended by themselves."""

_log = logging.getLogger(__name__)


class Coordinator:
    """Ends a group of threads together, and reports the first failure among them.

        coord = ps.train.Coordinator()

        def work():
            with coord.stop_on_exception():
                while not coord.should_stop():
                    sess.run(train)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        coord.join(threads)

    Args:
        clean_stop_exception_types: exceptions that ask for the end but are no failure: `join` does
            not raise them. By default `OutOfRangeError`, with which an input or a counter ends.
    """

    def __init__(
        self, clean_stop_exception_types: tuple[type[BaseException], ...] | None = None
    ) -> None:
        if clean_stop_exception_types is None:
            clean_stop_exception_types = (OutOfRangeError,)
        self._clean = tuple(clean_stop_exception_types)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._registered: set[threading.Thread] = set()
        self._joined = False

    @property
    def joined(self) -> bool:
        """Whether `join` has returned, or raised, since the last `clear_stop`."""
        return self._joined

    def request_stop(self, ex: BaseException | ExceptionInfo | None = None) -> None:
        """Asks every thread to end.

        Args:
            ex: why: an exception, or a tuple as `sys.exc_info()` answers it. `join` raises the
                first that is no clean stop; those that come after the stop was asked for are
                logged.

        Raises:
            TypeError: `ex` is neither.
            BaseException: `ex` itself where nobody would see it any more, because `join` is over.
        """
        failure = None if ex is None else _exception_of(ex)
        is_clean = isinstance(failure, self._clean)
        with self._lock:
            if not self._joined:
                is_first = not self._stop.is_set()
                if is_first and failure is not None and not is_clean:
                    self._failure = failure
                self._stop.set()
        if failure is None:
            return
        if self._joined:
            raise failure
        if is_clean:
            _log.info("stopping: %s: %s", type(failure).__name__, failure)
        elif is_first:
            _log.info("stopping, a thread failed: %s: %s", type(failure).__name__, failure)
        else:
            _log.error("a thread failed after the stop was asked for", exc_info=failure)

    def clear_stop(self) -> None:
        """Forgets that the end was asked for, and why; threads may be started anew."""
        with self._lock:
            self._joined = False
            self._failure = None
            self._stop.clear()

    def should_stop(self) -> bool:
        """Whether the end was asked for; a thread asks this between two pieces of work."""
        return self._stop.is_set()

    @contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Asks for the end when the block raises, whatever it raises, and goes on after it."""
        try:
            yield
        except BaseException as error:
            self.request_stop(error)

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Waits until the end is asked for.

        Args:
            timeout: seconds to wait at most; None: without a limit.

        Returns:
            Whether it was asked for.
        """
        return self._stop.wait(timeout)

    def register_thread(self, thread: threading.Thread) -> None:
        """Adds a thread to those that `join` waits for."""
        with self._lock:
            self._registered.add(thread)

    def join(
        self,
        threads: Iterable[threading.Thread] | None = None,
        stop_grace_period_secs: float = 120,
        ignore_live_threads: bool = False,
    ) -> None:
        """Waits until the threads have ended.

        As long as nobody asks for the end it waits without a limit; from then on, a while.

        Args:
            threads: the threads, in addition to those that were registered.
            stop_grace_period_secs: seconds that the threads have to end once they are asked to.
            ignore_live_threads: do not raise when some have not ended by then.

        Raises:
            RuntimeError: some threads have not ended.
            BaseException: what `request_stop` was given, if it was no clean stop.
        """
        with self._lock:
            waited_for = self._registered.union(threads or ())
        try:
            while any(thread.is_alive() for thread in waited_for):
                if self._stop.wait(_LOOK_S):
                    break
            deadline = time.monotonic() + stop_grace_period_secs
            for thread in waited_for:
                if thread.ident is not None:
                    thread.join(max(0.0, deadline - time.monotonic()))
            alive = sorted(thread.name for thread in waited_for if thread.is_alive())
        finally:
            with self._lock:
                self._joined = True
                self._registered.clear()
        self.raise_requested_exception()
        if alive and not ignore_live_threads:
            raise RuntimeError(
                f"Coordinator stopped with threads still running: {' '.join(alive)} "
                f"({len(alive)} of {len(waited_for)}, {stop_grace_period_secs:g} s after they were "
                "asked to stop); each must ask should_stop() between two pieces of work"
            )
        if alive:
            _log.info("threads still run: %s", ", ".join(alive))

    def raise_requested_exception(self) -> None:
        """Raises the failure with which the end was asked for, if there was one."""
        if self._failure is not None:
            raise self._failure


def _exception_of(ex: object) -> BaseException:
    if isinstance(ex, BaseException):
        return ex
    if isinstance(ex, tuple) and len(ex) == 3 and isinstance(ex[1], BaseException):
        return ex[1].with_traceback(ex[2])
    raise TypeError(f"request_stop takes an exception or what sys.exc_info() answers, not {ex!r}")
