"""Connections inside one process: a session that uses a server beside it, and tests.

Nothing is serialized, but arrays are copied: a sender may change its arrays as soon as `send`
returns, and what a receiver gets is its own. Each direction has a mailbox and a thread that
empties it, so a receiver is called as by any other transport: by one thread, never by a sender
that may hold locks.

Thread rule: as the interface says; the threads come from the runtime.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from paramserve_core.errors import OpError, UnavailableError
from paramserve_core.runtime import Runtime
from paramserve_core.transport.interface import Acceptor, Connection, Message, Receiver
from paramserve_protos.v1 import service_pb2

_PEER: Final = "in process"


class InProcessDialer:
    """Connects to an acceptor in the same process.

    Args:
        acceptor: who takes the connections.
        address: what to call it.
        runtime: where threads come from.
    """

    def __init__(self, acceptor: Acceptor, address: str, runtime: Runtime) -> None:
        self._acceptor = acceptor
        self._address = address
        self._runtime = runtime

    @property
    def address(self) -> str:
        """See `Dialer.address`."""
        return self._address

    def dial(self, receiver: Receiver, timeout_s: float) -> Connection:
        """See `Dialer.dial`; cannot fail."""
        here, there = InProcessConnection(self._runtime), InProcessConnection(self._runtime)
        here.join(there)
        there.begin(self._acceptor.accept(there, _PEER))
        here.begin(receiver)
        return here

    def close(self) -> None:
        """Nothing is kept between connections."""


class InProcessConnection:
    """One end of a pipe; `begin` says who receives what the other end sends."""

    transport = _PEER

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._inbox = runtime.mailbox()
        self._is_closed = False
        self._lock = threading.Lock()
        self._other = self

    def join(self, other: InProcessConnection) -> None:
        """Makes the two the ends of one pipe."""
        self._other, other._other = other, self
        other._lock = self._lock

    def begin(self, receiver: Receiver) -> None:
        """Delivers what has arrived and what arrives to `receiver`."""
        self._runtime.spawn("deliver", lambda: self._deliver(receiver))

    def send(self, message: Message) -> None:
        """See `Connection.send`."""
        envelope = service_pb2.Envelope()
        envelope.CopyFrom(message.envelope)
        copied = Message(envelope, [np.array(tensor, order="C") for tensor in message.tensors])
        with self._lock:
            if self._is_closed or self._other._is_closed:
                raise UnavailableError(None, None, "the connection is broken: an end was closed")
            self._other._inbox.put(copied)

    def close(self) -> None:
        """See `Connection.close`; what was sent still arrives at the other end."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._inbox.put(None)
            self._other._inbox.put(
                UnavailableError(None, None, "the other end closed the connection")
            )

    def _deliver(self, receiver: Receiver) -> None:
        while True:
            item: Message | OpError | None = self._inbox.get()
            if item is None or self._is_closed:
                return
            if isinstance(item, OpError):
                self._is_closed = True
                receiver.lost(item)
                return
            receiver.received(item)
