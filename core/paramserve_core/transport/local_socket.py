"""Between two processes on one host: an AF_UNIX socket for control, shared memory for tensors.

`local_transport.proto` says what travels, `lending` and `borrowing` how tensors do. The socket's
name is in the abstract namespace, so nothing is left in a file system either. Both ends check that
the other one belongs to the same user, and the client shows a nonce that it got over the
authenticated gRPC connection.

What one end lent is free again when the other end's socket is closed: a client closes it when its
arrays are independent of the server, and a process that was killed has none.

Thread rule: `read` is called once, by the connection's own thread, everything else by any; who
receives a packet, `local_reception` says. Leases end on any thread, also on one that is sending, so
that is queued up and told by whoever sends next, at once if nobody is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
import threading
import weakref
from collections.abc import Sized
from typing import Final

from paramserve_core import timers
from paramserve_core.errors import (
    InternalError,
    OpError,
    PermissionDeniedError,
    UnavailableError,
    error_from_status,
)
from paramserve_core.timers import QueuedTimer
from paramserve_core.transport import local_packets
from paramserve_core.transport.borrowing import Borrower
from paramserve_core.transport.interface import Message, Receiver
from paramserve_core.transport.lending import Lender, Outgoing
from paramserve_core.transport.local_packets import PacketReader
from paramserve_core.transport.local_reception import GuestMailbox, Reception
from paramserve_core.transport.traffic import Traffic
from paramserve_protos.v1 import local_transport_pb2, service_pb2

_CREDENTIALS: Final = struct.Struct("3i")
_MAX_TOLD: Final = 1000
_LINGER_S: Final = 5.0
"""How long a client may take to close its end, before a server stops to wait for it."""

_log = logging.getLogger(__name__)


def address_of(name: str) -> bytes:
    """The address of a socket in the abstract namespace."""
    return b"\0" + name.encode()


def check_peer(connected: socket.socket) -> int:
    """Answers the process id of the peer.

    Raises:
        PermissionDeniedError: it belongs to another user.
    """
    found = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, _ = _CREDENTIALS.unpack(found)
    if user != os.geteuid():
        raise PermissionDeniedError(
            None,
            None,
            f"process {process} belongs to user {user}, this one to {os.geteuid()}: memory is "
            "shared between processes of one user only",
        )
    return int(process)


class LocalConnection:
    """One end of a local connection; the ends are alike but for `is_client`.

    Args:
        connected: the socket, after the handshake; the connection's own from now on.
        reader: what reads it.
        max_message_bytes: envelope and tensors of one message together.
        is_client: what arrives becomes the receiver's own; else it is read where it lies.
        peer: who the other end is, for messages.
        traffic: counts the bytes.
    """

    transport = "shm"

    def __init__(
        self,
        connected: socket.socket,
        reader: PacketReader,
        *,
        max_message_bytes: int,
        is_client: bool,
        peer: str,
        traffic: Traffic | None = None,
    ) -> None:
        self._socket = connected
        self._reader = reader
        self._is_client = is_client
        self._peer = peer
        self._traffic = traffic or Traffic()
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._reason: str | None = None
        self._is_closed = False
        self._lingering: QueuedTimer | None = None
        self._lender = Lender(max_message_bytes)
        self._borrower = Borrower(
            max_message_bytes, maps_privately=is_client, released_one=self._tell
        )
        reader.max_packet_bytes = local_packets.MAX_PACKET_BYTES
        reader.max_body_bytes = max_message_bytes
        connected.settimeout(None)
        self._receiver: Receiver | None = None
        self._reception = Reception(
            connected.fileno(), lambda: reader.has_bytes, self._receive, self._break
        )
        if is_client:
            _clients.add(self)

    @property
    def lease_count(self) -> int:
        """Segments that the peer uses now."""
        return self._lender.lease_count

    # Sending.

    def send(self, message: Message) -> None:
        """See `Connection.send`."""
        self._check_open()
        if message.tensors and self._lender.lease_count:
            self._reception.drain()  # Memory whose lease has ended is lent again.
        outgoing = self._lender.pack(message)
        try:
            with self._sending:
                self._check_open()
                self._write(outgoing)
        except BaseException:
            self._lender.take_back_unsent(outgoing)
            raise
        self._tell()

    def _check_open(self) -> None:
        if self._reason is not None:
            raise UnavailableError(None, None, f"the connection is broken: {self._reason}")

    def _write(self, outgoing: Outgoing) -> None:
        """Writes a packet; called with `_sending` held."""
        self._add_ends(outgoing.packet)
        try:
            local_packets.write(self._socket, outgoing.packet, outgoing.body, outgoing.descriptors)
        except OSError as error:
            self._break(str(error.strerror))
            self._check_open()
        except OpError:
            raise  # Nothing was written.
        except BaseException:
            # Nothing that comes after half a packet would be understood.
            self._break("a message was interrupted")
            raise
        self._traffic.sent(outgoing.size)

    def _add_ends(self, packet: local_transport_pb2.LocalPacket) -> None:
        if not self._borrower.released and not self._lender.dropped:
            return
        for ended, told in (
            (self._borrower.released, packet.released),
            (self._lender.dropped, packet.dropped),
        ):
            with contextlib.suppress(IndexError):
                while len(told) < _MAX_TOLD:
                    told.append(ended.popleft())

    def _tell(self) -> None:
        """Tells the peer which leases have ended, unless somebody is sending, who will.

        Never waits: it may be called by the thread that reads, which the peer may be waiting for.
        """
        released, dropped = self._borrower.released, self._lender.dropped
        while (released or dropped) and self._reason is None:
            if not self._sending.acquire(blocking=False):
                return
            packet = local_transport_pb2.LocalPacket()
            try:
                self._add_ends(packet)
                local_packets.write(self._socket, packet, waits=False)
            except BlockingIOError:
                released.extendleft(packet.released)
                dropped.extendleft(packet.dropped)
                return  # The next message says it.
            except OSError:
                return  # The thread that reads finds out that the connection is broken.
            finally:
                self._sending.release()

    # Receiving.

    def read(self, receiver: Receiver) -> None:
        """Receives until the connection ends."""
        error: OpError = UnavailableError(None, None, f"{self._peer} closed the connection")
        self._receiver = receiver
        try:
            self._reception.run()
        except (OSError, EOFError):
            pass  # As if it had been closed.
        except OpError as failure:
            error = failure
            if not self._is_client:
                self._refuse(failure)
        except Exception as failure:
            _log.exception("receiving from %s failed", self._peer)
            error = InternalError(None, None, f"{type(failure).__name__}: {failure}")
        self._break(error.message)
        self._end()
        self._receiver = None  # It knows this connection.
        # It would hold what arrived of the message, by way of this frame itself.
        error.with_traceback(None)
        if not self._is_closed:
            receiver.lost(error)

    def mailbox(self, outstanding: Sized) -> GuestMailbox:
        """See `HostingConnection.mailbox`."""
        return self._reception.mailbox(outstanding)

    def attend(self) -> None:
        """See `HostingConnection.attend`."""
        self._reception.attend()

    def _receive(self) -> bool:
        """Receives a packet; answers False at the end. Called by whoever has the turn."""
        receiver = self._receiver
        packet = self._reader.next_packet()
        if packet is None or receiver is None:
            return False
        if packet.HasField("refusal"):
            raise error_from_status(packet.refusal.code, f"{self._peer}: {packet.refusal.message}")
        for number in packet.released:
            self._lender.take_back(number)
        for number in packet.dropped:
            self._borrower.drop(number)
        inline_bytes = self._reader.body_bytes
        message = self._borrower.message(packet, self._reader, receiver.admit)
        if message is not None and not self._is_closed:
            lent_bytes = sum([message.tensors[s.tensor].nbytes for s in packet.shared])
            announced_bytes = len(packet.envelope) + len(packet.tensors)
            self._traffic.received(announced_bytes + inline_bytes + packet.body.bytes + lent_bytes)
            receiver.received(message)
        # The message's leases end with this name, which is before it is told that they have.
        del message
        self._tell()
        return True

    def _refuse(self, error: OpError) -> None:
        """Tells a client why its connection ends, if it can be told without waiting."""
        _log.warning("message refused", extra={"peer": self._peer, "error": error.message})
        if self._sending.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    local_packets.write(self._socket, refusal(error), waits=False)
            finally:
                self._sending.release()

    # Ending.

    def close(self) -> None:
        """See `Connection.close`; what was sent still arrives.

        A client makes what it borrowed its own. A server lets its client do that: it goes on
        reading until the client has closed its end, for a while; then see `abandon`.
        """
        self._is_closed = True
        if self._break("it was closed here") and not self._is_client:
            self._lingering = timers.call_later(_LINGER_S, self.abandon)

    def abandon(self) -> None:
        """Ends the connection whatever the peer does; what it uses is left to it."""
        self._is_closed = True
        self._break("the server stops")
        self._lender.take_back_all()
        self._shut(socket.SHUT_RDWR)

    def make_own(self) -> None:
        """Makes what was borrowed independent of the peer, before this process is forked."""
        self._borrower.make_own()

    def _break(self, reason: str) -> bool:
        """Makes the threads that send and read come to an end; answers whether it is the first."""
        with self._state:
            if self._reason is not None:
                return False
            self._reason = reason
        if self._is_client:
            self._make_own()
            self._shut(socket.SHUT_RDWR)
        else:
            self._shut(socket.SHUT_WR)
        return True

    def _end(self) -> None:
        """The thread that reads is done: frees everything."""
        if self._lingering is not None:
            self._lingering.cancel()
        self._make_own()
        self._lender.take_back_all()
        self._reader.close()
        self._reception.end()
        # A thread that sends must not find another socket under the same number.
        self._shut(socket.SHUT_RDWR)
        with self._sending:
            self._socket.close()

    def _make_own(self) -> None:
        try:
            self._borrower.end()
        except OSError:
            _log.exception("arrays fetched from %s could not be copied", self._peer)

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(how)


def refusal(error: OpError) -> local_transport_pb2.LocalPacket:
    """The packet that says why a connection is refused or ended."""
    status = service_pb2.Status(code=error.error_code, message=error.message)
    return local_transport_pb2.LocalPacket(refusal=status)


_clients: Final[weakref.WeakSet[LocalConnection]] = weakref.WeakSet()


def _before_fork() -> None:
    for connection in list(_clients):
        connection.make_own()


os.register_at_fork(before=_before_fork)
