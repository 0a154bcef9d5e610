"""Messages as frames of a stream, and back.

A `Frame` is a protobuf message of two byte fields, written and read here by hand: the library would
copy a payload once more in each direction. The first frame of a message has a header, an encoded
`Envelope`; the payloads of this and the next frames are the message's tensors, back to back, in
pieces of at most `CHUNK_BYTES`. Many small tensors share one frame.

Thread rule: `encode` is a pure function; an `Assembler` is owned by the thread that reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from google.protobuf.message import DecodeError

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.transport import payload
from paramserve_core.transport.interface import Message
from paramserve_core.transport.payload import Incoming
from paramserve_core.transport.room import Admission, Admit, admitted
from paramserve_protos.v1 import service_pb2

CHUNK_BYTES: Final = 2 << 20
MAX_ENVELOPE_BYTES: Final = 16 << 20
"""The largest ones list variables or checkpoint entries, some hundred bytes each."""
MAX_FRAME_BYTES: Final = MAX_ENVELOPE_BYTES + CHUNK_BYTES + 64

_HEADER_TAG: Final = b"\x0a"
_PAYLOAD_TAG: Final = b"\x12"


def encode(message: Message, max_message_bytes: int) -> Iterator[bytes]:
    """The frames of a message, one by one; each copies its piece of the tensors once.

    Raises:
        ResourceExhaustedError: the message is larger than the peer takes; before any frame.
    """
    encoded = message.envelope.SerializeToString()
    bodies: list[memoryview] = []
    if message.tensors:
        packed = [payload.pack(tensor, message.wire_dtype) for tensor in message.tensors]
        bodies = [body for _, body in packed]
        # Messages that are joined are merged, so the envelope, which others may be using, need
        # not be changed or copied to announce the tensors in it.
        encoded += service_pb2.Envelope(tensors=[h for h, _ in packed]).SerializeToString()
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
    """

    def __init__(self, max_message_bytes: int, admit: Admit = lambda _: None) -> None:
        self._max_message_bytes = max_message_bytes
        self._admit = admit
        self._admission: Admission | None = None
        self._envelope: service_pb2.Envelope | None = None
        self._tensors: list[Incoming] = []
        self._next = 0

    def feed(self, frame: bytes) -> Message | None:
        """Takes a frame; answers the message that it completes, if it does.

        Raises:
            InvalidArgumentError: the frame is malformed, or does not belong here.
            ResourceExhaustedError: the message is larger than the limit.
        """
        header, piece = _parse(frame)
        if header is not None:
            self._begin(header)
        elif self._envelope is None:
            raise _malformed("a frame of tensors without a message")
        elif self._admission is not None:
            self._admission.arrives()
        tensors = self._tensors
        while self._next < len(tensors):
            tensor = tensors[self._next]
            piece = piece[tensor.fill(piece) :]
            if not tensor.is_complete:
                return None
            self._next += 1
        if len(piece):
            raise _malformed(f"{len(piece)} bytes more than the message announced")
        envelope = self._envelope
        assert envelope is not None
        del envelope.tensors[:]
        admission = self._admission
        self._envelope, self._tensors, self._admission = None, [], None
        return Message(envelope, admitted([tensor.array() for tensor in tensors], admission))

    def _begin(self, header: memoryview) -> None:
        if self._envelope is not None:
            raise _malformed("a new message before the last one was complete")
        envelope = service_pb2.Envelope()
        try:
            envelope.ParseFromString(header.tobytes())
        except DecodeError:
            raise _malformed("its header is no envelope") from None
        self._tensors = payload.incoming(envelope.tensors, len(header), self._max_message_bytes)
        if self._tensors:
            self._admission = self._admit(sum(tensor.size for tensor in self._tensors))
        self._next = 0
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
