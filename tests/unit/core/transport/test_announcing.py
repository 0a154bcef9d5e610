"""Many small tensors over gRPC: announced at the end of the envelope, and made together."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserve_core import dtypes
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.transport import announcing, frames
from paramserve_core.transport.announcing import Arrival, new_announcer, new_layouts, split
from paramserve_core.transport.frames import Assembler, encode
from paramserve_core.transport.interface import Message
from paramserve_core.transport.payload import Incoming
from paramserve_protos.v1 import service_pb2

LIMIT = 1 << 30


def call(number=7):
    return service_pb2.Envelope(call=service_pb2.Call(id=number))


def sent(*tensors, announcer=None):
    return list(encode(Message(call(), tensors), LIMIT, announcer))


def received(stream, *, are_own=True):
    assembler = Assembler(LIMIT, are_own=are_own)
    messages = [message for frame in stream if (message := assembler.feed(frame)) is not None]
    (message,) = messages
    return message.tensors


def mixed():
    """Small and large ones, of types that need no care and of some that do."""
    large = np.arange(announcing.SMALL_BYTES, dtype=np.float32)
    texts = np.array([b"a", b"", b"bcd"], object)
    return [
        *(np.full((2, 3), n, np.float32) for n in range(20)),
        large,
        *(np.full(3, n, np.int64) for n in range(20)),
        np.ones(5, ml_dtypes.bfloat16),
        texts,
        np.zeros((0, 4)),
        np.float64(3) * np.ones(()),
        np.array([True, False]),
        np.arange(12, dtype=np.int16).reshape(3, 4).T,
        large[::2],
    ]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for array, other in zip(found, expected, strict=True):
        assert array.dtype == other.dtype
        assert array.shape == other.shape
        assert array.tolist() == other.tolist()


@pytest.mark.parametrize("are_own", [True, False])
@pytest.mark.parametrize("part", [slice(None), slice(0, 41), slice(0, 20), slice(20, 21)])
def test_tensors_arrive_as_they_were(part, are_own):
    tensors = mixed()[part]
    assert_same(received(sent(*tensors), are_own=are_own), tensors)


@given(st.integers(1, 200), st.booleans())
def test_tensors_arrive_as_they_were_wherever_frames_end(chunk_bytes, are_own):
    tensors = [t for t in mixed() if t.nbytes < 1000]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "CHUNK_BYTES", chunk_bytes)
        stream = sent(*tensors)
    assert_same(received(stream, are_own=are_own), tensors)


def test_own_tensors_have_memory_of_their_own_that_can_be_written():
    found = received(sent(*mixed()))
    assert all(array.flags.writeable for array in found)
    assert all(array.flags.owndata for array in found if array.dtype != object)


def test_the_same_types_and_shapes_are_announced_in_the_same_bytes():
    announcer = new_announcer()
    first, second = (
        sent(*(np.full(2, n + m, np.float32) for n in range(9)), announcer=announcer)
        for m in range(2)
    )
    assert split(first[0])[0] != b""
    assert [len(frame) for frame in first] == [len(frame) for frame in second]
    assert first != second


def test_known_tensors_are_not_looked_at_one_by_one(monkeypatch):
    announcer, assembler = new_announcer(), Assembler(LIMIT)
    made = []
    init = Incoming.__init__
    monkeypatch.setattr(
        Incoming, "__init__", lambda self, header: made.append(1) or init(self, header)
    )
    for step in range(3):
        tensors = [np.full(3, step + n, np.float32) for n in range(50)]
        for frame in sent(*tensors, announcer=announcer):
            message = assembler.feed(frame)
        assert_same(message.tensors, tensors)
    assert len(made) == 50


def test_another_wire_type_is_announced_and_widened_again():
    tensors = [np.full(3, n, np.float32) for n in range(20)]
    announcer = new_announcer()
    for wire_dtype in (None, dtypes.bfloat16, None):
        stream = list(encode(Message(call(), tensors, wire_dtype), LIMIT, announcer))
        assert_same(received(stream), tensors)


def test_an_envelope_is_split_where_its_tensors_are_announced():
    own = call(1 << 40).SerializeToString()
    announced = service_pb2.Envelope()
    for _ in range(3):
        announced.tensors.add(dtype=1, dims=[2], payload_bytes=8)
    assert split(own + announced.SerializeToString()) == (own, announced.SerializeToString())
    assert split(own) == (own, b"")
    assert split(announced.SerializeToString()) == (b"", announced.SerializeToString())
    assert split(b"") == (b"", b"")


@given(st.binary(max_size=60))
def test_any_bytes_are_split_without_losing_one(header):
    assert b"".join(split(header)) == header


TENSOR = service_pb2.Envelope(
    tensors=[service_pb2.TensorHeader(dtype=1, dims=[1], payload_bytes=4)]
).SerializeToString()
UNKNOWN = bytes([14 << 3, len(TENSOR)])
"""A number in a field that no envelope has; the split takes it for a size."""


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (TENSOR + call().SerializeToString(), "something else is among them"),
        (UNKNOWN + TENSOR, "before the end of the envelope"),
    ],
)
def test_tensors_that_are_not_announced_at_the_end_are_refused(header, found):
    frame = b"\x0a" + bytes([len(header)]) + header + b"\x12\x04abcd"
    with pytest.raises(InvalidArgumentError, match=found):
        Assembler(LIMIT).feed(frame)


def test_what_follows_the_last_tensor_is_handed_back():
    encoded = split_of(np.zeros(2, np.float32), np.zeros(2, np.float32))
    arrival = Arrival(new_layouts(LIMIT).find(encoded), are_own=True)
    assert arrival.take(memoryview(b"\0" * 10)) is None
    rest = arrival.take(memoryview(b"\0" * 6 + b"rest"))
    assert bytes(rest) == b"rest"
    assert len(arrival.tensors) == 2


def split_of(*tensors):
    return new_announcer().announce(tensors).encoded
