"""A save or a restore, as an operation that must end: in time, and however many tasks are gone.

It asks each task several times, last to clean up after an error. A task that cannot be reached
makes the caller wait as long as a connection is tried for (`Patience`), but only once: what else
the operation asks of it fails at once, and what cleans up is sent without waiting, for the case
that the task returns.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, Protocol

from google.protobuf.message import Message as ProtoMessage
from numpy.typing import NDArray

from paramserve_core.errors import DeadlineExceededError, OpError, UnavailableError
from paramserve_core.runtime import Runtime
from paramserve_core.transport.interface import Tensors
from paramserve_protos.v1 import checkpoint_service_pb2, service_pb2

Answer = tuple[Any, list[NDArray[Any]]]

_CLEANING: Final = (
    service_pb2.ReleaseStepsRequest,
    checkpoint_service_pb2.AbortSaveRequest,
    checkpoint_service_pb2.AbortRestoreRequest,
)
_CLEANING_S: Final = 1.0
"""How long an operation whose time is over waits for a task to clean up."""


class AskedTask(Protocol):
    """What is needed of a task."""

    def call(
        self, request: ProtoMessage, tensors: Tensors = (), timeout_s: float | None = None
    ) -> Answer:
        """Sends a request and blocks until it is answered."""

    def tell(self, request: ProtoMessage) -> None:
        """Sends a request and does not wait."""


class Operation:
    """One save or restore.

    Args:
        tasks: the tasks of the session, by name.
        runtime: the clock.
        timeout_s: how long it may take; None: as long as it does.

    Attributes:
        tasks: the tasks, as the operation asks them.
    """

    def __init__(
        self, tasks: Mapping[str, AskedTask], runtime: Runtime, timeout_s: float | None
    ) -> None:
        self._runtime = runtime
        self._timeout_s = timeout_s
        self._deadline = None if timeout_s is None else runtime.now() + timeout_s
        self.tasks = {name: OperationTask(name, task, self) for name, task in tasks.items()}

    def drop_deadline(self) -> None:
        """Nobody waits for the rest of the operation."""
        self._deadline = None

    def rest_s(self) -> float | None:
        """How long it may still take; None: as long as it does."""
        return None if self._deadline is None else self._deadline - self._runtime.now()

    def late(self, task: str) -> DeadlineExceededError:
        """The error of a task that did not answer in time."""
        return DeadlineExceededError(
            None,
            None,
            f"{task} did not answer within the {self._timeout_s:g} s that the operation may take; "
            "see whether the server runs and can be reached, or raise operation_timeout_in_ms",
            task=task,
        )


class OperationTask:
    """One task, as an operation asks it."""

    def __init__(self, name: str, task: AskedTask, operation: Operation) -> None:
        self._name = name
        self._task = task
        self._operation = operation
        self._lost: OpError | None = None

    def call(self, request: ProtoMessage, tensors: Tensors = ()) -> Answer:
        """Sends a request and blocks until it is answered, or will not be.

        Raises:
            UnavailableError: the task cannot be reached, or could not be before.
            DeadlineExceededError: the operation's time is over.
        """
        cleans = isinstance(request, _CLEANING)
        if self._lost is not None:
            if cleans:
                self._task.tell(request)
                return None, []
            raise copy.copy(self._lost)
        rest_s = self._operation.rest_s()
        if rest_s is not None and rest_s <= 0 and not cleans:
            raise self._operation.late(self._name)
        if rest_s is not None and cleans:
            rest_s = max(rest_s, _CLEANING_S)
        try:
            return self._task.call(request, tensors, rest_s)
        except UnavailableError as error:
            self._lost = error
            raise
        except DeadlineExceededError:
            rest_s = self._operation.rest_s()
            if rest_s is None or rest_s > 0:
                raise  # The task's own.
            self._lost = self._operation.late(self._name)
            raise self._lost from None
