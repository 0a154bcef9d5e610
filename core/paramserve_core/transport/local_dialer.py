"""Connections to a server on the same host, over a socket and shared memory where that works.

Whether it works is only known by trying: the server may be of another user, in a container of its
own, or behind a forwarded port. Then gRPC carries the conversation, and the log says why, once.

Thread rule: a dialer may be used from any thread. Each connection has a thread that reads,
and lets callers do so, see `local_reception`.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from typing import Final

from paramserve_core.errors import (
    OpError,
    PermissionDeniedError,
    UnavailableError,
    UnimplementedError,
    error_from_status,
)
from paramserve_core.transport import local_packets, segments
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_core.transport.interface import Connection, Receiver
from paramserve_core.transport.local_packets import PacketReader
from paramserve_core.transport.local_socket import LocalConnection, address_of, check_peer
from paramserve_protos.v1 import local_transport_pb2, service_pb2

_log = logging.getLogger(__name__)

_LOCALHOST: Final = "localhost"


class LocalDialer:
    """Connects to one server on this host.

    Args:
        grpc: how to reach it otherwise; closed with this dialer.
        falls_back: whether gRPC carries the conversation where this cannot.
    """

    def __init__(self, grpc: GrpcDialer, *, falls_back: bool = True) -> None:
        self._grpc = grpc
        self._falls_back = falls_back
        self._has_told = False

    @property
    def address(self) -> str:
        """See `Dialer.address`."""
        return self._grpc.address

    def dial(self, receiver: Receiver, timeout_s: float) -> Connection:
        """See `Dialer.dial`.

        Raises:
            UnimplementedError: the server is not within reach, and gRPC is not to be used.
        """
        deadline = time.monotonic() + timeout_s
        try:
            return self._dial_locally(receiver, deadline)
        except UnimplementedError as error:
            if not self._falls_back:
                raise
            if not self._has_told:
                self._has_told = True
                _log.info("%s: using gRPC: %s", self.address, error.message)
        return self._grpc.dial(receiver, max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """See `Dialer.close`."""
        self._grpc.close()

    def _dial_locally(self, receiver: Receiver, deadline: float) -> Connection:
        """Connects, or raises UnimplementedError with the reason why that is impossible here."""
        if not is_loopback(self.address):
            raise UnimplementedError(None, None, f"{self.address} is no address of this host")
        if not segments.can_share():
            raise UnimplementedError(None, None, "sharing memory takes Linux 5.14 or later")
        offer = self._grpc.open_local(max(0.0, deadline - time.monotonic()))
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            reader = self._greet(connected, offer, deadline)
        except BaseException:
            connected.close()
            raise
        connection = LocalConnection(
            connected,
            reader,
            max_message_bytes=self._grpc.max_message_bytes,
            is_client=True,
            peer=self.address,
        )
        threading.Thread(
            target=connection.read, args=(receiver,), name="paramserve-read", daemon=True
        ).start()
        return connection

    def _greet(
        self, connected: socket.socket, offer: service_pb2.OpenLocalResponse, deadline: float
    ) -> PacketReader:
        connected.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            connected.connect(address_of(offer.socket))
            check_peer(connected)
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise UnimplementedError(
                None, None, f"the server's socket is not here, {error.strerror}"
            ) from None
        except PermissionDeniedError as error:
            raise UnimplementedError(None, None, error.message) from None
        reader = PacketReader(connected)
        try:
            local_packets.write(connected, local_transport_pb2.LocalPacket(nonce=offer.nonce))
            answer = reader.next_packet()
        except TimeoutError:
            raise self._silent() from None
        except (OSError, EOFError):
            answer = None
        if answer is None:
            raise UnavailableError(None, None, f"{self.address} closed the connection")
        if answer.HasField("refusal"):
            raise self._refused(answer.refusal)
        return reader

    def _silent(self) -> OpError:
        return UnavailableError(None, None, f"{self.address} did not answer in time")

    def _refused(self, status: service_pb2.Status) -> OpError:
        error = error_from_status(status.code, f"{self.address}: {status.message}")
        if isinstance(error, PermissionDeniedError):
            return UnimplementedError(None, None, error.message)
        return error


def is_loopback(address: str) -> bool:
    """Whether "host:port" is on this host whatever the network."""
    host = address.rpartition(":")[0].strip("[]")
    if host == _LOCALHOST:
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
