"""The listening side of local connections.

A client asks for the socket's name and a nonce over gRPC, where it is authenticated; here it only
shows the nonce. Each conversation keeps one thread, which reads and calls the receiver.

Thread rule: `start` and `stop` belong to whoever made the listener; `offer` may be called from any
thread.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from paramserve_core.errors import (
    InvalidArgumentError,
    OpError,
    PermissionDeniedError,
    ResourceExhaustedError,
)
from paramserve_core.transport import local_packets
from paramserve_core.transport.interface import Acceptor
from paramserve_core.transport.local_packets import PacketReader
from paramserve_core.transport.local_socket import (
    LocalConnection,
    address_of,
    check_peer,
    refusal,
)
from paramserve_core.transport.traffic import Traffic
from paramserve_protos.v1 import local_transport_pb2, service_pb2

_NONCE_BYTES: Final = 32
_NONCE_S: Final = 30.0
_MAX_NONCES: Final = 10_000
_HANDSHAKE_S: Final = 5.0
_MAX_GREETING_BYTES: Final = 256
_MAX_STRANGERS: Final = 64

_log = logging.getLogger(__name__)


class LocalListener:
    """A socket that processes of the same user on this host connect to.

    Args:
        acceptor: who takes the connections.
        max_conversations: how many clients at a time.
        max_message_bytes: envelope and tensors of one message together.
        traffic: counts the bytes.
        now: a clock, in seconds.

    Raises:
        OSError: there is no such socket to be had.
    """

    def __init__(
        self,
        acceptor: Acceptor,
        *,
        max_conversations: int,
        max_message_bytes: int,
        traffic: Traffic | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._acceptor = acceptor
        self._now = now
        self._max_conversations = max_conversations
        self._max_message_bytes = max_message_bytes
        self._traffic = traffic or Traffic()
        self._lock = threading.Lock()
        self._nonces: dict[bytes, float] = {}
        self._connections: set[LocalConnection] = set()
        self._strangers: set[socket.socket] = set()
        self._is_stopped = False
        self.name = f"paramserve-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.bind(address_of(self.name))
            self._socket.listen(128)
        except BaseException:
            self._socket.close()
            raise

    @property
    def lease_count(self) -> int:
        """Segments that clients use now."""
        with self._lock:
            return sum(connection.lease_count for connection in self._connections)

    def offer(self) -> service_pb2.OpenLocalResponse:
        """What a client needs to connect once, within half a minute."""
        now = self._now()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        with self._lock:
            for old in [n for n, expires in self._nonces.items() if expires < now]:
                del self._nonces[old]
            if len(self._nonces) >= _MAX_NONCES:
                raise ResourceExhaustedError(
                    None, None, f"{_MAX_NONCES} clients are about to connect, the limit"
                )
            self._nonces[nonce] = now + _NONCE_S
        return service_pb2.OpenLocalResponse(socket=self.name, nonce=nonce)

    def start(self) -> None:
        """Accepts connections, on threads of its own."""
        threading.Thread(target=self._accept, name="paramserve-local", daemon=True).start()

    def stop(self) -> None:
        """Stops listening and ends every conversation."""
        with self._lock:
            self._is_stopped = True
            connections, strangers = list(self._connections), list(self._strangers)
        # A thread that waits in `accept` wakes up from this, not from `close`.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for stranger in strangers:
            with contextlib.suppress(OSError):
                stranger.shutdown(socket.SHUT_RDWR)
        for connection in connections:
            connection.abandon()

    def _accept(self) -> None:
        while not self._is_stopped:
            try:
                connected, _ = self._socket.accept()
            except OSError as error:
                if self._is_stopped:
                    return
                # Descriptors have run out; the client sees that nobody answers.
                _log.error("a local connection could not be accepted: %s", error.strerror)
                time.sleep(0.1)
                continue
            with self._lock:
                is_welcome = len(self._strangers) < _MAX_STRANGERS and not self._is_stopped
                if is_welcome:
                    self._strangers.add(connected)
            if not is_welcome:
                connected.close()
                continue
            threading.Thread(
                target=self._serve, args=(connected,), name="paramserve-read", daemon=True
            ).start()

    def _serve(self, connected: socket.socket) -> None:
        reader = PacketReader(connected)
        try:
            process = self._greet(connected, reader)
            connection = LocalConnection(
                connected,
                reader,
                max_message_bytes=self._max_message_bytes,
                is_client=False,
                peer=f"process {process}",
                traffic=self._traffic,
            )
            self._admit(connection)
            local_packets.write(connected, local_transport_pb2.LocalPacket())
        except OpError as error:
            _log.warning("a local connection was refused", extra={"error": error.message})
            self._turn_away(connected, reader, error)
            return
        except (OSError, EOFError):
            self._turn_away(connected, reader, None)
            return
        finally:
            with self._lock:
                self._strangers.discard(connected)
        self._traffic.opened()
        try:
            connection.read(self._acceptor.accept(connection, f"process {process}"))
        finally:
            self._traffic.closed()
            with self._lock:
                self._connections.discard(connection)

    def _greet(self, connected: socket.socket, reader: PacketReader) -> int:
        """Answers the process id of a client that may connect.

        Raises:
            PermissionDeniedError: it belongs to another user, or showed no valid nonce.
            InvalidArgumentError: what it said is malformed.
        """
        connected.settimeout(_HANDSHAKE_S)
        reader.max_packet_bytes = _MAX_GREETING_BYTES
        # Read before anything is refused: a client that cannot write its greeting does not read
        # why.
        packet = reader.next_packet()
        if packet is None:
            raise EOFError
        process = check_peer(connected)
        with self._lock:
            expires = self._nonces.pop(packet.nonce, 0.0)
        if expires < self._now():
            raise PermissionDeniedError(
                None,
                None,
                f"process {process} showed a nonce that was not given out, or was used, or is "
                f"older than {_NONCE_S:g} s",
            )
        if packet.segments:
            raise InvalidArgumentError(None, None, "the first packet lends memory")
        return process

    def _admit(self, connection: LocalConnection) -> None:
        with self._lock:
            if self._is_stopped:
                raise EOFError
            if len(self._connections) >= self._max_conversations:
                raise ResourceExhaustedError(
                    None,
                    None,
                    f"the server has {self._max_conversations} connections, its limit",
                )
            self._connections.add(connection)

    def _turn_away(
        self, connected: socket.socket, reader: PacketReader, error: OpError | None
    ) -> None:
        with contextlib.suppress(OSError):
            if error is not None:
                local_packets.write(connected, refusal(error), waits=False)
            connected.shutdown(socket.SHUT_RDWR)
        reader.close()
        connected.close()
