"""Packets on an AF_UNIX stream: lengths, a `LocalPacket`, bytes, and descriptors beside them.

Descriptors arrive with the first byte of the packet that they were sent with, or, because reading
is ahead of that, a little earlier; in order, in any case. So they queue up here, and each packet
takes as many as it has segments.

Thread rule: a `PacketReader` is used by one thread at a time. `write` is called by one thread at
a time; it may be a different one each time.
"""

from __future__ import annotations

import array as flat
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from google.protobuf.message import DecodeError

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.transport.frames import MAX_ENVELOPE_BYTES
from paramserve_core.transport.layout import Piece, joined
from paramserve_protos.v1 import local_transport_pb2

MAX_DESCRIPTORS: Final = 250
"""The system takes 253 at a time."""

MAX_PACKET_BYTES: Final = MAX_ENVELOPE_BYTES + (16 << 20)
"""An envelope, and 1,000,000 tensors' places."""

_HEADER: Final = struct.Struct("<IQ")
_BUFFER_BYTES: Final = 64 << 10
_DESCRIPTOR_BYTES: Final = flat.array("i").itemsize
# Plain integers: the members of an enumeration cost a microsecond each time.
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_CUT: Final = int(socket.MSG_CTRUNC)
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(MAX_DESCRIPTORS * _DESCRIPTOR_BYTES)


def write(
    connected: socket.socket,
    packet: local_transport_pb2.LocalPacket,
    body: Sequence[Piece] = (),
    descriptors: Sequence[int] = (),
    *,
    waits: bool = True,
) -> None:
    """Writes a packet.

    Args:
        connected: the socket.
        packet: what to say.
        body: the bytes behind it, in pieces.
        descriptors: of the packet's segments; at most `MAX_DESCRIPTORS`.
        waits: for a peer that is slower; else a small packet is written whole or not at all.

    Raises:
        BlockingIOError: the peer is slower, and this must not wait; nothing was written.
        OSError: the connection is broken.
    """
    encoded = packet.SerializeToString()
    if len(encoded) > MAX_PACKET_BYTES:
        raise ResourceExhaustedError(
            None, None, f"a packet of {len(encoded)} bytes, the limit is {MAX_PACKET_BYTES}"
        )
    size = sum([piece.nbytes if isinstance(piece, np.ndarray) else len(piece) for piece in body])
    start = _HEADER.pack(len(encoded), size) + encoded
    if size <= _BUFFER_BYTES:
        start = b"".join([start, *joined(body)])
        body = ()
    ancillary = []
    if descriptors:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, flat.array("i", descriptors))]
    sent = connected.sendmsg([start], ancillary, 0 if waits else socket.MSG_DONTWAIT)
    if sent < len(start):
        connected.sendall(memoryview(start)[sent:])
    for some in joined(body):
        connected.sendall(some)


class PacketReader:
    """Reads packets.

    Args:
        connected: the socket.

    Attributes:
        max_packet_bytes: how large the packet itself may be, without the bytes behind it.
        max_body_bytes: how many bytes may be behind it.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0
        self._descriptors: deque[int] = deque()
        self._body_bytes = 0
        self.max_packet_bytes = MAX_PACKET_BYTES
        self.max_body_bytes = 0

    @property
    def has_bytes(self) -> bool:
        """Whether some of what comes next was read ahead."""
        return self._begin != self._end

    def next_packet(self) -> local_transport_pb2.LocalPacket | None:
        """The next packet, whose body has to be read next; None at the end of the stream.

        Raises:
            InvalidArgumentError: what arrives is no packet.
            OSError: the connection is broken.
        """
        if self._begin == self._end and not self._fetch():
            return None
        packet_bytes, self._body_bytes = _HEADER.unpack(self._exactly(_HEADER.size))
        if packet_bytes > self.max_packet_bytes:
            raise malformed(f"it has {packet_bytes} bytes, the limit is {self.max_packet_bytes}")
        if self._body_bytes > self.max_body_bytes:
            raise malformed(
                f"{self._body_bytes} bytes behind it, the limit is {self.max_body_bytes}"
            )
        packet = local_transport_pb2.LocalPacket()
        try:
            packet.ParseFromString(self._exactly(packet_bytes))
        except DecodeError:
            raise malformed("its bytes are no LocalPacket") from None
        return packet

    @property
    def body_bytes(self) -> int:
        """Bytes behind the packet that were not read yet."""
        return self._body_bytes

    def body(self, limit: int) -> memoryview:
        """The next bytes behind the packet, some, at most `limit`; good until the next call."""
        if self._begin == self._end and not self._fetch():
            raise EOFError
        count = min(limit, self._body_bytes, self._end - self._begin)
        piece = self._view[self._begin : self._begin + count]
        self._begin += count
        self._body_bytes -= count
        return piece

    def take_descriptors(self, count: int) -> list[int]:
        """The descriptors of the packet; the caller closes them.

        Raises:
            InvalidArgumentError: fewer came.
        """
        if count > len(self._descriptors):
            raise malformed(f"{count} segments, {len(self._descriptors)} descriptors came")
        return [self._descriptors.popleft() for _ in range(count)]

    def close(self) -> None:
        """Closes descriptors that no packet took."""
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _exactly(self, count: int) -> bytes:
        if count <= self._end - self._begin:
            self._begin += count
            return bytes(self._view[self._begin - count : self._begin])
        whole = bytearray()
        while len(whole) < count:
            if self._begin == self._end and not self._fetch():
                raise EOFError
            end = min(self._end, self._begin + count - len(whole))
            whole += self._view[self._begin : end]
            self._begin = end
        return bytes(whole)

    def _fetch(self) -> bool:
        """Fills the empty buffer; answers False at the end of the stream."""
        count, ancillary, flags, _ = self._socket.recvmsg_into(
            [self._buffer], _ANCILLARY_BYTES, _CLOSE_ON_EXEC
        )
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(data) // _DESCRIPTOR_BYTES * _DESCRIPTOR_BYTES
                self._descriptors.extend(flat.array("i", data[:whole]))
        if flags & _CUT or len(self._descriptors) > 2 * MAX_DESCRIPTORS:
            raise malformed("more descriptors than one may send or this process may have")
        self._begin, self._end = 0, count
        return count > 0


def malformed(what: str) -> InvalidArgumentError:
    """The error of a packet that is not as it must be."""
    return InvalidArgumentError(None, None, f"malformed packet on a local connection: {what}")
