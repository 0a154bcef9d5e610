"""The receiving end of one connection of a conversation.

Thread rule: see `Receiver`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from paramserve_core.errors import OpError
from paramserve_core.runtime import Mailbox
from paramserve_core.transport.interface import Connection, HostingConnection, Message

_log = logging.getLogger(__name__)


class Link:
    """One connection of a conversation, and whether it still stands.

    Args:
        welcomes: gets what the task says first, or why it cannot.
        answered: called with each answer.
        ended: called when the connection broke.

    Attributes:
        connection: what it sends over.
        host: the same, if whoever waits for an answer may receive.
    """

    def __init__(
        self,
        welcomes: Mailbox[Any],
        answered: Callable[[Link, Message], None],
        ended: Callable[[Link], None],
    ) -> None:
        self.welcomes = welcomes
        self._answered = answered
        self._ended = ended
        self.connection: Connection | None = None
        self.host: HostingConnection | None = None
        self.is_lost = False

    def admit(self, message_bytes: int) -> None:
        """See `Receiver.admit`; answers are taken as they come, they were asked for."""

    def received(self, message: Message) -> None:
        """See `Receiver.received`."""
        match message.envelope.WhichOneof("kind"):
            case "reply":
                self._answered(self, message)
            case "welcome":
                self.welcomes.put(message.envelope.welcome)
            case kind:
                _log.warning("unexpected message from the server", extra={"kind": kind})

    def lost(self, error: OpError) -> None:
        """See `Receiver.lost`."""
        self.is_lost = True
        self.welcomes.put(error)
        self._ended(self)
