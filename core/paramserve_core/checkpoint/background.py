"""Saves that go on while the caller does something else.

A save's moment is when the values are leased, which is early and brief; writing them takes long and
needs nobody. So whoever begins a save waits for its moment, and asks later how it ended.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import ClassVar, Final, Protocol

from paramserve_core.errors import DeadlineExceededError
from paramserve_core.runtime import Runtime
from paramserve_protos.v1.checkpoint_service_pb2 import SaveResponse


class RunningSave(Protocol):
    """A save whose values are leased; it is being written."""

    def progress(self) -> float:
        """How much is done, from 0 to 1; 1 once it has ended, well or not."""

    def result(self, timeout_s: float | None = None) -> SaveResponse:
        """Blocks until the checkpoint is durable.

        Raises:
            DeadlineExceededError: it is not, after `timeout_s` seconds; the save goes on.
            OpError: it was not written; earlier checkpoints are untouched.
        """


class Watcher:
    """Hears how a save gets on; this one does not care.

    Attributes:
        is_in_background: whether the program that saves goes on meanwhile.
    """

    is_in_background: ClassVar[bool] = False

    def taken(self) -> None:
        """The values are leased: what is changed from now on is not in the checkpoint."""

    def progressed(self, fraction: float) -> None:
        """So much is done, from 0 to 1."""


NOBODY: Final = Watcher()


class BackgroundSave(Watcher):
    """A save on a thread of its own.

    Its shards are written with rests, so that the program that goes on hardly notices.

    Args:
        runtime: where threads and waiting come from.
        save: saves and tells the watcher that it is given how it gets on.
        on_taken: called once the values are leased, before any is written.
    """

    is_in_background = True

    def __init__(
        self,
        runtime: Runtime,
        save: Callable[[Watcher], SaveResponse],
        on_taken: Callable[[], None] = NOBODY.taken,
    ) -> None:
        self._save = save
        self._on_taken = on_taken
        self._lock = threading.Lock()
        self._fraction = 0.0
        self._begun = runtime.event()
        self._ended = runtime.event()
        self._response: SaveResponse | None = None
        self._error: BaseException | None = None
        runtime.spawn("save", self._run)

    def taken(self) -> None:
        """See `Watcher.taken`."""
        self._on_taken()
        self._begun.set()

    def progressed(self, fraction: float) -> None:
        """See `Watcher.progressed`."""
        with self._lock:
            self._fraction = max(self._fraction, fraction)

    def wait_until_taken(self) -> None:
        """Blocks until the values are leased.

        Raises:
            OpError: they could not be.
        """
        self._begun.wait()
        if self._ended.is_set() and self._error is not None:
            raise copy.copy(self._error)

    def progress(self) -> float:
        """See `RunningSave.progress`."""
        return 1.0 if self._ended.is_set() else self._fraction

    def result(self, timeout_s: float | None = None) -> SaveResponse:
        """See `RunningSave.result`."""
        if not self._ended.wait(timeout_s):
            raise DeadlineExceededError(
                None, None, f"the checkpoint was not written within {timeout_s:g} s; it goes on"
            )
        if self._error is not None:
            raise copy.copy(self._error)
        assert self._response is not None
        return self._response

    def _run(self) -> None:
        try:
            self._response = self._save(self)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()
            self._begun.set()
