"""Which answers a client has and its task need not keep.

Thread rule: `overtaking` is called with the conversation's lock held, `flush` by whoever may send;
`add` by any thread.
"""

from __future__ import annotations

from typing import Final

from paramserve_core.errors import OpError
from paramserve_core.transport.interface import Connection, Message
from paramserve_protos.v1 import service_pb2

_TOGETHER: Final = 256
"""So many answers that overtook an earlier call are acknowledged together.

Else the task would keep them all until that call ends, which is a save perhaps, and has a limit.
"""


class Acknowledgements:
    """Numbers of answered calls that the task is to be told."""

    def __init__(self) -> None:
        self._due: list[int] = []
        self._overtaking: list[int] = []

    @property
    def is_due(self) -> bool:
        """Whether there is something to tell."""
        return bool(self._due)

    def overtaking(self, number: int, first_pending: int | None) -> list[int]:
        """Notes an answer; returns those that overtook an earlier call, if they are many.

        Args:
            number: the call that was answered.
            first_pending: the earliest that was not; None if there is none.
        """
        if first_pending is not None and number > first_pending:
            self._overtaking.append(number)
        if len(self._overtaking) < _TOGETHER:
            return []
        many, self._overtaking = self._overtaking, []
        return many

    def add(self, numbers: list[int]) -> None:
        """Of these the task is to be told."""
        self._due.extend(numbers)

    def flush(self, connection: Connection) -> None:
        """Tells it; where the connection is broken, the next one does."""
        numbers, self._due = self._due, []
        if not numbers:
            return
        try:
            acknowledge = service_pb2.Acknowledge(ids=numbers)
            connection.send(Message(service_pb2.Envelope(acknowledge=acknowledge)))
        except OpError:
            self._due.extend(numbers)
