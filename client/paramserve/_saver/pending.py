"""A checkpoint that is being written while the program goes on.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from paramserve_core.checkpoint.background import RunningSave
from paramserve_core.errors import OpError


class PendingSave:
    """What `Saver.save(..., block=False)` answers.

    The values in the checkpoint are those of the moment at which `save` returned; what steps change
    later is not in it. The session must stay open until the checkpoint is written: closing it gives
    the checkpoint up.

    Attributes:
        path: where the checkpoint will be.
    """

    def __init__(self, path: str, running: RunningSave, succeeded: Callable[[], None]) -> None:
        self.path = path
        self._running = running
        self._succeeded = succeeded
        self._lock = threading.Lock()
        self._is_settled = False

    def done(self) -> bool:
        """Whether the save has ended, well or not."""
        return self.progress() >= 1.0

    def progress(self) -> float:
        """How much is done, from 0 to 1; 1 once it has ended."""
        return self._running.progress()

    def result(self, timeout_s: float | None = None) -> str:
        """The checkpoint's path; blocks until the checkpoint is durable.

        Args:
            timeout_s: how many seconds to wait; None: as long as it takes.

        Raises:
            DeadlineExceededError: it is not durable after that time; the save goes on.
            OpError: the checkpoint was not written. Earlier ones are untouched.
        """
        self._running.result(timeout_s)
        with self._lock:
            if not self._is_settled:
                self._is_settled = True
                self._succeeded()
        return self.path

    def settle(self) -> None:
        """Waits for the end, however it is; for the saver, before it begins another."""
        try:
            self.result()
        except OpError:
            return
