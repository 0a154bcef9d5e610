"""The seam between the protocol and whatever carries it.

A *connection* is an ordered pipe of messages in both directions that may break at any moment. What
carries the messages (a gRPC stream, a socket with shared memory, a test's scheduler) is below this
seam; sessions, retries and exactly-once are above it.

Thread rule: `Connection.send` may be called from any thread; a transport calls one `Receiver`
from one thread at a time and in the order of arrival.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from paramserve_core.dtypes import DType
from paramserve_core.errors import OpError
from paramserve_core.runtime import Mailbox
from paramserve_core.transport.room import Admission
from paramserve_protos.v1 import service_pb2

Tensors = Sequence[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope and the tensors that go with it.

    A sender fills `tensors` only: the transport writes `envelope.tensors` from them. A receiver
    gets arrays that nobody else holds and, if they are writable, that nobody else sees (see
    `ownership`). Small ones may be read-only, and so may those that lie in memory of a process on
    the same host.

    Attributes:
        wire_dtype: what float32 tensors are to travel as, where they travel; see `wire`. A receiver
            gets float32.
    """

    envelope: service_pb2.Envelope
    tensors: Tensors = ()
    wire_dtype: DType | None = None


class Connection(Protocol):
    """The sending end of a pipe."""

    @property
    def transport(self) -> str:
        """What carries the messages, for those who look: "grpc", "shm", "in process"."""

    def send(self, message: Message) -> None:
        """Hands a message over; waits while the peer is slower than we are.

        Returns when the memory of writable tensors may be changed by the caller again. A read-only
        one may be read where it lies until the peer is done with it, so it has to stay as it is
        until the peer's answer; a peer is safe from one that changes all the same.

        Raises:
            UnavailableError: the connection is broken; the message may or may not have arrived.
            ResourceExhaustedError: the message is larger than the peer takes; nothing was sent.
        """

    def close(self) -> None:
        """Breaks the connection from this side; idempotent. The receiver hears nothing more."""


@runtime_checkable
class HostingConnection(Connection, Protocol):
    """A connection on which whoever waits for an answer may receive, instead of another thread."""

    def mailbox(self, outstanding: Sized) -> Mailbox[Any]:
        """A mailbox whose taker receives meanwhile.

        Args:
            outstanding: what is waited for on this connection, by anybody.
        """

    def attend(self) -> None:
        """Something is waited for other than in such a mailbox: another thread has to receive."""


class Receiver(Protocol):
    """The receiving end of a pipe."""

    def admit(self, message_bytes: int) -> Admission | None:
        """A message with that many bytes of tensors begins to arrive; waits until it may.

        What it answers lasts as long as the list of the message's tensors; None: it need not.
        """

    def received(self, message: Message) -> None:
        """A message arrived. Must be brief: the next message waits for it."""

    def lost(self, error: OpError) -> None:
        """The connection broke; called once, nothing is received afterwards."""


class Dialer(Protocol):
    """Makes connections to one server."""

    @property
    def address(self) -> str:
        """The server, as a person would name it: "ps0.example.com:2222"."""

    def dial(self, receiver: Receiver, timeout_s: float) -> Connection:
        """Connects.

        Raises:
            UnavailableError: nobody answered within `timeout_s`.
            UnauthenticatedError, PermissionDeniedError: the server refused our credentials.
        """

    def close(self) -> None:
        """Frees what the dialer keeps between connections."""


class Acceptor(Protocol):
    """What a listening transport hands new connections to."""

    def accept(self, connection: Connection, peer: str) -> Receiver:
        """A client connected; answers who receives its messages."""
