"""Peers for tests of transports: a server that echoes, and a receiver to wait on."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

from paramserve_core.errors import OpError, UnavailableError
from paramserve_core.transport.grpc_service import GrpcServer, Host
from paramserve_core.transport.interface import Connection, Message
from paramserve_core.transport.room import Admission, Room
from paramserve_protos.v1 import service_pb2

WAIT_S = 30.0


def call(number: int = 0) -> service_pb2.Envelope:
    """An envelope that a test can tell from others."""
    return service_pb2.Envelope(call=service_pb2.Call(id=number))


class Inbox:
    """A `Receiver` that keeps what it gets."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._errors: queue.SimpleQueue[OpError] = queue.SimpleQueue()

    def admit(self, message_bytes: int) -> None:
        """Everything may arrive."""

    def received(self, message: Message) -> None:
        self._messages.put(message)

    def lost(self, error: OpError) -> None:
        self._errors.put(error)

    def next(self) -> Message:
        """The next message."""
        return self._messages.get(timeout=WAIT_S)

    def error(self) -> OpError:
        """How the connection was lost."""
        return self._errors.get(timeout=WAIT_S)

    def is_empty(self) -> bool:
        return self._messages.empty() and self._errors.empty()


class Echo:
    """A `Host` that sends every message back.

    Attributes:
        lost: how each connection was lost.
        may_receive: while it is down, messages that arrived wait.
        closes_after_answer: close a connection after the first answer on it.
        room: where messages wait that may not arrive yet.
        dialer: how to reach it, where a test has put that.
    """

    def __init__(self) -> None:
        self.lost: queue.SimpleQueue[OpError] = queue.SimpleQueue()
        self.may_receive = threading.Event()
        self.may_receive.set()
        self.closes_after_answer = False
        self.room = Room(1 << 40)
        self.dialer: Any = None

    def accept(self, connection: Connection, peer: str) -> _EchoReceiver:
        return _EchoReceiver(self, connection)

    def describe(self) -> service_pb2.DescribeResponse:
        return service_pb2.DescribeResponse(
            task=service_pb2.Task(name="/job:ps/replica:0/task:0", incarnation=1)
        )

    def list_variables(
        self, containers: list[str] | None = None, largest: int = 0
    ) -> list[service_pb2.VariableInfo]:
        return [service_pb2.VariableInfo(name="v", container=(containers or [""])[0])]


class _EchoReceiver:
    def __init__(self, echo: Echo, connection: Connection) -> None:
        self._echo = echo
        self._connection = connection

    def admit(self, message_bytes: int) -> Admission | None:
        return self._echo.room.admit(message_bytes)

    def received(self, message: Message) -> None:
        self._echo.may_receive.wait()
        with contextlib.suppress(UnavailableError):  # The client has left.
            self._connection.send(message)
        if self._echo.closes_after_answer:
            self._connection.close()

    def lost(self, error: OpError) -> None:
        self._echo.lost.put(error)


@contextlib.contextmanager
def grpc_server(host: Host, **options: Any) -> Iterator[tuple[GrpcServer, str]]:
    """A gRPC server in front of `host`, on loopback, with its address."""
    settings = {"max_conversations": 20, "max_message_bytes": 1 << 30, **options}
    server = GrpcServer(host, **settings)
    port = server.listen("127.0.0.1:0")
    server.start()
    try:
        yield server, f"127.0.0.1:{port}"
    finally:
        server.stop(0)
