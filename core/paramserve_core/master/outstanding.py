"""A call of a conversation, and how it ended.

Thread rule: a call belongs to its conversation, whose lock guards it; an outcome is immutable.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import Message as ProtoMessage

from paramserve_core.errors import OpError
from paramserve_core.transport.interface import Tensors


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: with a response and tensors, or with an error."""

    response: ProtoMessage | None = None
    tensors: Tensors = ()
    error: OpError | None = None


class PendingCall:
    """A call whose answer has not come."""

    __slots__ = (
        "_cancel",
        "deadline",
        "done",
        "is_abandoned",
        "number",
        "request",
        "tensors",
    )

    def __init__(
        self,
        number: int,
        request: ProtoMessage,
        tensors: Tensors,
        done: Callable[[Outcome], None],
        cancel: Callable[[PendingCall], None],
        deadline: float | None = None,
    ) -> None:
        self._cancel = cancel
        self.deadline = deadline
        self.number = number
        self.request = request
        self.tensors = tensors
        self.done = done
        self.is_abandoned = False

    def cancel(self) -> None:
        """Asks the task to stop; `done` is called all the same, once the task answered."""
        self._cancel(self)
