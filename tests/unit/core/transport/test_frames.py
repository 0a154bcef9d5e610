"""Messages become frames and come back whole, and nothing else that arrives is believed."""

import contextlib
import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paramserve_core.errors import InvalidArgumentError, OpError, ResourceExhaustedError
from paramserve_core.transport import frames
from paramserve_core.transport.frames import Assembler, encode
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2, types_pb2

LIMIT = 1 << 30
NUMERIC = [
    np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8,
    np.uint16, np.uint32, np.uint64, np.bool_, np.complex64, np.complex128,
]  # fmt: skip


def call(number: int = 1) -> service_pb2.Envelope:
    return service_pb2.Envelope(call=service_pb2.Call(id=number))


def assembled(sent: list[bytes], limit: int = LIMIT) -> list[Message]:
    assembler = Assembler(limit)
    messages = [assembler.feed(frame) for frame in sent]
    return [message for message in messages if message is not None]


def round_trip(*tensors: np.ndarray) -> list[np.ndarray]:
    (message,) = assembled(list(encode(Message(call(), tensors), LIMIT)))
    assert message.envelope == call()
    return list(message.tensors)


def strings(shape: tuple[int, ...]) -> st.SearchStrategy[np.ndarray]:
    items = st.lists(st.binary(max_size=20), min_size=math.prod(shape), max_size=math.prod(shape))

    def array(values: list[bytes]) -> np.ndarray:
        made = np.empty(len(values), np.object_)
        made[:] = values
        return made.reshape(shape)

    return items.map(array)


shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
numeric = st.tuples(st.sampled_from(NUMERIC), shapes).flatmap(lambda t: hnp.arrays(*t))
tensors = st.one_of(numeric, shapes.flatmap(strings))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(tensors, max_size=5), st.integers(1, 40))
def test_every_message_arrives_as_it_was_however_it_is_cut(sent, chunk_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "CHUNK_BYTES", chunk_bytes)
        arrived = round_trip(*sent)
    assert len(arrived) == len(sent)
    for before, after in zip(sent, arrived, strict=True):
        assert after.dtype == before.dtype
        assert after.shape == before.shape
        assert after.tobytes() == before.tobytes() or after.tolist() == before.tolist()
        assert after.flags.owndata
        assert after.flags.writeable
        assert after.flags.c_contiguous


def test_bfloat16_travels():
    sent = np.array([1.5, -2, float("inf")], ml_dtypes.bfloat16)
    (arrived,) = round_trip(sent)
    assert arrived.dtype == ml_dtypes.bfloat16
    assert arrived.tobytes() == sent.tobytes()


def test_arrays_in_another_order_arrive_in_row_major_order():
    sent = np.arange(10_000).reshape(100, 100)
    for view in (sent.T, sent[::2, ::-3], np.broadcast_to(sent[0], (50, 100))):
        (arrived,) = round_trip(view)
        np.testing.assert_array_equal(arrived, view)


def test_a_big_endian_array_arrives_with_its_values():
    sent = np.arange(5, dtype=">i4")
    (arrived,) = round_trip(sent)
    np.testing.assert_array_equal(arrived, sent)


def test_frames_are_protobuf_messages():
    sent = list(encode(Message(call(7), [np.arange(3, dtype=np.uint8)]), LIMIT))
    (frame,) = [service_pb2.Frame.FromString(data) for data in sent]
    envelope = service_pb2.Envelope.FromString(frame.header)
    assert envelope.call.id == 7
    assert [tuple(header.dims) for header in envelope.tensors] == [(3,)]
    assert frame.payload == b"\x00\x01\x02"
    # And the other way round: what the library writes is understood.
    (message,) = assembled([frame.SerializeToString()])
    assert message.tensors[0].tolist() == [0, 1, 2]


def test_a_large_tensor_is_cut_into_chunks():
    sent = list(encode(Message(call(), [np.zeros(5 << 20, np.uint8)]), LIMIT))
    assert [len(service_pb2.Frame.FromString(f).payload) >> 20 for f in sent] == [1] * 5


def test_many_small_tensors_share_a_frame():
    small = [np.full(10, i, np.float32) for i in range(1000)]
    sent = list(encode(Message(call(), small), LIMIT))
    assert len(sent) == 1
    (message,) = assembled(sent)
    assert [int(t[0]) for t in message.tensors] == list(range(1000))


def test_messages_follow_each_other_in_one_stream():
    stream = [
        frame
        for number, size in enumerate([0, 10, 3 << 20, 1])
        for frame in encode(Message(call(number), [np.zeros(size, np.uint8)]), LIMIT)
    ]
    assert [m.envelope.call.id for m in assembled(stream)] == [0, 1, 2, 3]


def test_sending_leaves_the_envelope_as_it_was():
    envelope = call()
    list(encode(Message(envelope, [np.zeros(3)]), LIMIT))
    assert envelope == call()


def test_what_arrived_can_be_sent_on():
    (message,) = assembled(list(encode(Message(call(), [np.zeros(3)]), LIMIT)))
    (again,) = assembled(list(encode(message, LIMIT)))
    assert [t.tolist() for t in again.tensors] == [[0, 0, 0]]
    (without,) = assembled(list(encode(Message(message.envelope), LIMIT)))
    assert list(without.tensors) == []


def test_a_message_above_the_limit_is_refused_before_it_is_sent():
    with pytest.raises(ResourceExhaustedError, match=r"the limit is 1000;.*--max-message-bytes"):
        encode(Message(call(), [np.zeros(1000, np.uint8)]), 1000)


def test_an_envelope_above_its_limit_is_refused_before_it_is_sent():
    envelope = call()
    envelope.call.prepare_plan.fetches.append("x" * frames.MAX_ENVELOPE_BYTES)
    with pytest.raises(ResourceExhaustedError, match="envelope"):
        encode(Message(envelope), LIMIT)


def header(dtype: int, dims: list[int], payload_bytes: int) -> bytes:
    envelope = call()
    envelope.tensors.add(dtype=dtype, dims=dims, payload_bytes=payload_bytes)  # type: ignore[arg-type]
    return envelope.SerializeToString()


def frame(header: bytes = b"", payload: bytes = b"") -> bytes:
    return service_pb2.Frame(header=header, payload=payload).SerializeToString()


@pytest.mark.parametrize(
    ("dtype", "dims", "payload_bytes", "found"),
    [
        (types_pb2.DT_FLOAT, [3], 13, "the header says 13"),
        (types_pb2.DT_FLOAT, [-3], 12, "a shape of 1 dimensions"),
        (types_pb2.DT_FLOAT, [1] * 33, 4, "a shape of 33 dimensions"),
        (types_pb2.DT_FLOAT, [0, 2**62], 0, "a shape that no tensor can have"),
        (types_pb2.DT_FLOAT, [2**62, 2**62], 0, "the header says 0"),
        (types_pb2.DT_STRING, [3], 11, "3 strings in 11 bytes"),
        (types_pb2.DT_STRING, [0, 2**62], 0, "a shape that no tensor can have"),
        (types_pb2.DT_INVALID, [3], 12, "data type 0"),
        (types_pb2.DT_RESOURCE, [3], 12, "data type 20"),
        (types_pb2.DT_FLOAT_REF, [3], 12, "data type float32_ref"),
    ],
)
def test_a_header_that_does_not_add_up_is_refused(dtype, dims, payload_bytes, found):
    with pytest.raises(InvalidArgumentError, match=found):
        Assembler(LIMIT).feed(frame(header(dtype, dims, payload_bytes)))


def test_an_announced_tensor_above_the_limit_is_refused_before_it_comes():
    with pytest.raises(ResourceExhaustedError, match="the limit is 1000"):
        Assembler(1000).feed(frame(header(types_pb2.DT_UINT8, [2000], 2000)))


def test_announcing_sets_no_memory_aside():
    assembler = Assembler(1 << 50)
    # More than there is: an attempt to set it aside would fail.
    assert assembler.feed(frame(header(types_pb2.DT_UINT8, [1 << 48], 1 << 48))) is None
    with pytest.raises(ResourceExhaustedError, match="no memory"):
        assembler.feed(frame(payload=b"x"))


def test_too_many_tensors_are_refused(monkeypatch):
    monkeypatch.setattr("paramserve_core.transport.payload.MAX_TENSORS", 2)
    sent = list(encode(Message(call(), [np.zeros(1)] * 3), LIMIT))
    with pytest.raises(ResourceExhaustedError, match="3 tensors, the limit is 2"):
        assembled(sent)


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        ([frame(payload=b"abc")], "without a message"),
        ([b""], "without a message"),
        ([frame(header=b"\xff")], "no envelope"),
        ([b"\x0a"], "a length that does not end"),
        ([b"\x0a" + b"\xff" * 12], "a length that does not end"),
        ([b"\x0a\x7fabc"], "a field of 127 bytes, 3 are there"),
        ([b"\x1a\x00"], "byte 0 begins no field"),
        ([b"\x0a\x00\x0a\x00"], "byte 2 begins no field"),
        ([frame(header(types_pb2.DT_UINT8, [2], 2), b"abc")], "1 bytes more"),
        ([frame(header(types_pb2.DT_UINT8, [4], 4)), frame(b"\x12\x00")], "before the last"),
    ],
)
def test_malformed_frames_are_refused(stream, found):
    with pytest.raises(InvalidArgumentError, match=found):
        assembled(stream)


def test_strings_whose_lengths_do_not_add_up_are_refused():
    announced = header(types_pb2.DT_STRING, [2], 10)
    for lengths in ([1, 0], [2**32 - 1, 3]):
        payload = np.array(lengths, "<u4").tobytes() + b"ab"
        with pytest.raises(InvalidArgumentError, match="strings of"):
            assembled([frame(announced, payload)])


def test_bools_other_than_0_and_1_arrive_as_true():
    announced = header(types_pb2.DT_BOOL, [3], 3)
    (message,) = assembled([frame(announced, b"\x00\x02\xff")])
    assert message.tensors[0].view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_any_bytes_are_a_message_or_an_error_of_ours(stream):
    with contextlib.suppress(OpError):
        assembled(stream, 1 << 20)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_frames_are_a_message_or_an_error_of_ours(data):
    arrays = data.draw(st.lists(tensors, min_size=1, max_size=3))
    (whole,) = encode(Message(call(), arrays), LIMIT)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(damaged) - 1))
        damaged[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for stream in ([bytes(damaged)], [bytes(damaged[:cut]), bytes(damaged[cut:])]):
        with contextlib.suppress(OpError):
            assembled(stream, 1 << 20)
