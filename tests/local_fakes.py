"""A server that clients on this host reach by socket and shared memory, for tests."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_core.transport.grpc_service import Host
from paramserve_core.transport.local_dialer import LocalDialer
from paramserve_core.transport.local_listener import LocalListener
from paramserve_core.transport.local_packets import PacketReader, write
from paramserve_core.transport.local_socket import address_of
from paramserve_protos.v1 import local_transport_pb2
from transport_fakes import WAIT_S, grpc_server


@contextlib.contextmanager
def local_server(host: Host, **options: Any) -> Iterator[tuple[LocalListener, LocalDialer]]:
    """A server in front of `host`, and a dialer to it that does not use gRPC instead."""
    settings = {"max_conversations": 20, "max_message_bytes": 1 << 30, **options}
    listener = LocalListener(host, **settings)
    listener.start()
    try:
        with grpc_server(host, offer_local=listener.offer) as (_, address):
            yield listener, LocalDialer(GrpcDialer(address), falls_back=False)
    finally:
        listener.stop()


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that other threads are about to bring about."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.005)):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError("it did not come about")


class RawClient:
    """A client that writes what it likes to a listener's socket."""

    def __init__(self, listener: LocalListener, *, greets: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(address_of(listener.name))
        self._reader = PacketReader(self.socket)
        if greets:
            self.write(local_transport_pb2.LocalPacket(nonce=listener.offer().nonce))
            assert self.next() == local_transport_pb2.LocalPacket()

    def write(self, packet: local_transport_pb2.LocalPacket, *rest: Any) -> None:
        write(self.socket, packet, *rest)

    def next(self) -> local_transport_pb2.LocalPacket | None:
        """The next packet; None when the server has ended the connection."""
        try:
            return self._reader.next_packet()
        except (OSError, EOFError):
            return None

    def refusal(self) -> str:
        """Why the server ended the connection."""
        packet = self.next()
        assert packet is not None
        assert packet.HasField("refusal"), packet
        assert self.next() is None
        return packet.refusal.message

    def close(self) -> None:
        self._reader.close()
        self.socket.close()
