"""What a user is told of a task that does not answer: who and where it is, and what to do.

Thread rule: immutable.
"""

from __future__ import annotations

import os

from paramserve_core.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    OpError,
    UnavailableError,
)
from paramserve_core.transport.interface import Dialer


class TaskPlace:
    """A task as errors name it.

    Args:
        name: its name.
        dialer: knows its address.
    """

    def __init__(self, name: str, dialer: Dialer) -> None:
        self._name = name
        self._dialer = dialer

    def __str__(self) -> str:
        # The address is part of the name where nothing else is known.
        address = self._dialer.address
        return self._name if address in self._name else f"{self._name} at {address}"

    def unreachable(self, error: OpError, window_s: float) -> UnavailableError:
        """It was tried in vain for so long, and the last time ended with `error`."""
        return UnavailableError(
            None,
            None,
            f"{self} could not be reached for {window_s:g} s: "
            f"{error.message}; see whether the server runs and listens there",
            task=self._name,
        )

    def silent(self, timeout_s: float) -> DeadlineExceededError:
        """It did not answer."""
        return DeadlineExceededError(
            None,
            None,
            f"{self} did not answer within {timeout_s:.3g} s; see whether the server "
            "runs and can be reached",
            task=self._name,
        )

    def blocked(self) -> DeadlineExceededError:
        """It took nothing for as long as there was time."""
        return DeadlineExceededError(
            None,
            None,
            f"{self} did not take the call in time: it has more to do than it can; allow it more "
            "time, or spread the variables over more servers",
            task=self._name,
        )

    def restarted(self) -> AbortedError:
        """It is another process than the one that the session began with."""
        return AbortedError(
            None,
            None,
            f"the server of {self._name} was restarted: the variables that it held for this "
            "session are gone; make a new session, and restore or initialize them",
            task=self._name,
        )

    def forked(self, process: int) -> FailedPreconditionError:
        """This process is a child of the one that opened the session."""
        return FailedPreconditionError(
            None,
            None,
            f"the session with {self} was opened in process {process}, and this is "
            f"process {os.getpid()}: a process that was forked opens a session of its own",
            task=self._name,
        )
