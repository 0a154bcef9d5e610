"""Messages as frames of a stream, and back.

A `Frame` is a protobuf message of two byte fields, written and read here by hand: the library would
copy a payload once more in each direction. The first frame of a message has a header, an encoded
`Envelope`; the payloads of this and the next frames are the message's tensors, back to back, in
pieces of at most `CHUNK_BYTES`. Many small tensors share one frame.

Thread rule: `encode` is a pure function but for what its announcer remembers; an `Assembler` is
owned by the thread that reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.message import DecodeError

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.transport import payload
from paramserve_core.transport.announcing import (
    Arrival,
    announced,
    new_announcer,
    new_layouts,
    split,
)
from paramserve_core.transport.interface import Message
from paramserve_core.transport.layout import Announcer
from paramserve_core.transport.room import Admission, Admit, admitted
from paramserve_protos.v1 import service_pb2

CHUNK_BYTES: Final = 1 << 20
MAX_ENVELOPE_BYTES: Final = 16 << 20
"""The largest ones list variables or checkpoint entries, some hundred bytes each."""
MAX_FRAME_BYTES: Final = MAX_ENVELOPE_BYTES + CHUNK_BYTES + 64

_HEADER_TAG: Final = b"\x0a"
_PAYLOAD_TAG: Final = b"\x12"


def encode(
    message: Message, max_message_bytes: int, announcer: Announcer | None = None
) -> Iterator[bytes]:
    """The frames of a message, one by one; each copies its piece of the tensors once.

    Args:
        message: what to send.
        max_message_bytes: the largest message that the peer takes.
        announcer: that of the connection, see `announcing`; a new one by default.

    Raises:
        ResourceExhaustedError: the message is larger than the peer takes; before any frame.
    """
    encoded = message.envelope.SerializeToString()
    bodies: list[memoryview] = []
    if message.tensors:
        # Messages that are joined are merged, so the envelope, which others may be using, need
        # not be changed or copied to announce the tensors in it.
        announcement, bodies = announced(message, announcer or new_announcer())
        encoded += announcement
    if len(encoded) > MAX_ENVELOPE_BYTES:
        raise ResourceExhaustedError(
            None,
            None,
            f"a message whose envelope has {len(encoded)} bytes, the limit is "
            f"{MAX_ENVELOPE_BYTES}: it lists too many variables or tensors at once",
        )
    payload.check_size(len(encoded) + sum(map(len, bodies)), max_message_bytes)
    return _frames(encoded, bodies)


def _frames(encoded: bytes, bodies: list[memoryview]) -> Iterator[bytes]:
    begin = [_HEADER_TAG, _varint(len(encoded)), encoded]
    pieces: list[memoryview] = []
    room = CHUNK_BYTES
    for body in bodies:
        while len(body):
            piece, body = body[:room], body[room:]  # what is left of it
            pieces.append(piece)
            room -= len(piece)
            if not room:
                yield _frame(begin, pieces)
                begin, pieces, room = [], [], CHUNK_BYTES
    if begin or pieces:
        yield _frame(begin, pieces)


def _frame(begin: list[bytes], pieces: list[memoryview]) -> bytes:
    if not pieces:
        return b"".join(begin)
    size = sum(map(len, pieces))
    return b"".join([*begin, _PAYLOAD_TAG, _varint(size), *pieces])


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


class Assembler:
    """Puts messages together from the frames of one direction of a stream.

    Args:
        max_message_bytes: envelope and tensors of one message together.
        admit: waits until a message may arrive.
        are_own: each tensor gets memory of its own; else small ones may share some.
    """

    def __init__(
        self, max_message_bytes: int, admit: Admit = lambda _: None, *, are_own: bool = True
    ) -> None:
        self._layouts = new_layouts(max_message_bytes)
        self._are_own = are_own
        self._max_message_bytes = max_message_bytes
        self._admit = admit
        self._admission: Admission | None = None
        self._envelope: service_pb2.Envelope | None = None
        self._arrival: Arrival | None = None

    def feed(self, frame: bytes) -> Message | None:
        """Takes a frame; answers the message that it completes, if it does.

        Raises:
            InvalidArgumentError: the frame is malformed, or does not belong here.
            ResourceExhaustedError: the message is larger than the limit.
        """
        header, piece = _parse(frame)
        if header is not None:
            self._begin(header)
        elif self._arrival is None:
            raise _malformed("a frame of tensors without a message")
        elif self._admission is not None:
            self._admission.arrives()
        envelope, arrival, admission = self._envelope, self._arrival, self._admission
        assert envelope is not None
        assert arrival is not None
        rest = arrival.take(piece)
        if rest is None:
            return None
        if len(rest):
            raise _malformed(f"{len(rest)} bytes more than the message announced")
        self._envelope = self._arrival = self._admission = None
        return Message(envelope, admitted(arrival.tensors, admission))

    def _begin(self, header: memoryview) -> None:
        if self._envelope is not None:
            raise _malformed("a new message before the last one was complete")
        own, announcement = split(header.tobytes())
        envelope = service_pb2.Envelope()
        try:
            envelope.ParseFromString(own)
        except DecodeError:
            raise _malformed("its header is no envelope") from None
        if envelope.tensors:
            raise _malformed("tensors are announced before the end of the envelope")
        layout = self._layouts.find(announcement)
        payload.check_size(len(header) + layout.size, self._max_message_bytes)
        if layout.headers:
            self._admission = self._admit(layout.size)
        self._arrival = Arrival(layout, are_own=self._are_own)
        self._envelope = envelope


def _parse(frame: bytes) -> tuple[memoryview | None, memoryview]:
    """The header, if there is one, and the payload of a frame; fields in any order, each once."""
    whole = memoryview(frame)
    found: dict[int, memoryview] = {}
    position = 0
    while position < len(frame):
        tag = frame[position : position + 1]
        if tag not in (_HEADER_TAG, _PAYLOAD_TAG) or tag[0] in found:
            raise _malformed(f"byte {position} begins no field of it")
        size, position = _read_varint(frame, position + 1)
        if size > len(frame) - position:
            raise _malformed(f"a field of {size} bytes, {len(frame) - position} are there")
        found[tag[0]] = whole[position : position + size]
        position += size
    return found.get(_HEADER_TAG[0]), found.get(_PAYLOAD_TAG[0], memoryview(b""))


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(data) and shift < 63:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
        shift += 7
    raise _malformed("a length that does not end")


def _malformed(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"malformed frame: {what}")
