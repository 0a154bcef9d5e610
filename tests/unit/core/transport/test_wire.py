"""float32 tensors that travel narrower: half the bytes, and the nearest value."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paramserve_core import dtypes
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.transport import payload
from paramserve_core.transport.frames import Assembler, encode
from paramserve_core.transport.interface import Message
from paramserve_core.transport.payload import Incoming
from paramserve_core.transport.wire import WireOptions
from paramserve_protos.v1 import service_pb2, types_pb2

LIMIT = 1 << 30
TYPES = {dtypes.bfloat16: ml_dtypes.bfloat16, dtypes.float16: np.float16}
both = pytest.mark.parametrize("wire_dtype", TYPES, ids=lambda d: d.name)


def sent(wire_dtype, *tensors):
    message = Message(service_pb2.Envelope(), tensors, wire_dtype)
    return list(encode(message, LIMIT))


def round_trip(wire_dtype, *tensors):
    assembler = Assembler(LIMIT)
    (message,) = [m for m in map(assembler.feed, sent(wire_dtype, *tensors)) if m is not None]
    return list(message.tensors)


def rounded(wire_dtype, tensor):
    """What a conversion there and back makes of the values."""
    with np.errstate(over="ignore"):
        return tensor.astype(TYPES[wire_dtype]).astype(np.float32)


@pytest.mark.slow
@both
@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, min_side=0, max_side=7)))
@example(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3.4028235e38], np.float32))
def test_what_arrives_is_float32_rounded_to_the_type(wire_dtype, tensor):
    (found,) = round_trip(wire_dtype, tensor)
    assert found.dtype == np.float32
    assert found.shape == tensor.shape
    np.testing.assert_array_equal(found, rounded(wire_dtype, tensor))
    np.testing.assert_array_equal(np.signbit(found), np.signbit(tensor))


def test_ties_go_to_even_and_what_is_too_large_becomes_infinite():
    ties = np.array([1 + 2**-8, 1 + 3 * 2**-8, 70_000.0], np.float32)
    assert round_trip(dtypes.bfloat16, ties)[0].tolist() == [1.0, 1 + 2**-6, 70_144.0]
    ties = np.array([1 + 2**-11, 1 + 3 * 2**-11, 65_519.0, 65_520.0, -1e9, 2e-8], np.float32)
    expected = [1.0, 1 + 2**-9, 65_504.0, np.inf, -np.inf, 0.0]
    assert round_trip(dtypes.float16, ties)[0].tolist() == expected


@both
def test_half_the_bytes_travel(wire_dtype):
    tensor = np.ones(100_000, np.float32)
    whole, half = (sum(map(len, sent(d, tensor))) for d in (None, wire_dtype))
    assert half < 0.51 * whole
    assert payload.payload_bytes(tensor, wire_dtype) == 200_000
    assert payload.payload_bytes(tensor) == 400_000


@both
@pytest.mark.parametrize(
    "tensor",
    [
        np.array([1 + 1e-12], np.float64),
        np.array([2**31 - 1], np.int32),
        np.array([1.5], np.float16),
        np.array([1 + 1e-7j], np.complex64),
        np.array([b"text"], object),
    ],
    ids=lambda t: str(t.dtype),
)
def test_other_types_travel_as_they_are(wire_dtype, tensor):
    assert sent(wire_dtype, tensor) == sent(None, tensor)
    assert payload.payload_bytes(tensor, wire_dtype) == payload.payload_bytes(tensor)


@both
def test_a_value_that_was_rounded_once_is_not_changed_again(wire_dtype):
    tensor = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    (once,) = round_trip(wire_dtype, tensor)
    (twice,) = round_trip(wire_dtype, once)
    np.testing.assert_array_equal(once, twice)


@both
@pytest.mark.parametrize("size", [3, 5000])
def test_what_arrives_is_the_receivers_own(wire_dtype, size):
    tensor = np.ones(size, np.float32)
    (found,) = round_trip(wire_dtype, tensor)
    assert found.flags.owndata
    assert found.flags.writeable
    assert tensor.tolist() == [1.0] * size


@both
def test_a_tensor_of_the_other_byte_order_arrives_as_itself(wire_dtype):
    tensor = np.array([1.0, 2.5, -3.0], np.dtype(np.float32).newbyteorder(">"))
    assert round_trip(wire_dtype, tensor)[0].tolist() == [1.0, 2.5, -3.0]


def test_a_tensor_that_is_not_contiguous_arrives_as_itself():
    tensor = np.arange(20_000, dtype=np.float32).reshape(100, 200).T[::2] % 128
    np.testing.assert_array_equal(round_trip(dtypes.bfloat16, tensor)[0], tensor)


@pytest.mark.parametrize(
    ("dtype", "travels_as", "payload_bytes", "found"),
    [
        (types_pb2.DT_FLOAT, types_pb2.DT_INT32, 12, "float32 does not travel as int32"),
        (types_pb2.DT_FLOAT, types_pb2.DT_STRING, 12, "float32 does not travel as string"),
        (types_pb2.DT_FLOAT, 9999, 12, "data type 9999"),
        (types_pb2.DT_DOUBLE, types_pb2.DT_BFLOAT16, 6, "float64 does not travel as bfloat16"),
        (types_pb2.DT_STRING, types_pb2.DT_HALF, 6, "string does not travel as float16"),
        (types_pb2.DT_FLOAT, types_pb2.DT_HALF, 12, "has 6 bytes, the header says 12"),
    ],
)
def test_a_header_that_narrows_what_cannot_be_narrowed_is_refused(
    dtype, travels_as, payload_bytes, found
):
    header = service_pb2.TensorHeader(
        dtype=dtype, dims=[3], payload_bytes=payload_bytes, travels_as=travels_as
    )
    with pytest.raises(InvalidArgumentError, match=found):
        Incoming(header)


@given(st.sampled_from([None, *TYPES]), st.sampled_from(["", "gzip"]))
def test_options_arrive_as_they_were_sent(dtype, compression):
    options = WireOptions(dtype=dtype, compression=compression)
    assert WireOptions.from_message(options.message()) == options


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"dtype": types_pb2.DT_INT8}, "data type 6 to send float32 as"),
        ({"dtype": 9999}, "data type 9999 to send float32 as"),
        ({"compression": "zstd"}, "compression 'zstd'; it is 'gzip' or none"),
    ],
)
def test_options_of_a_peer_that_are_not_to_be_had_are_refused(fields, found):
    with pytest.raises(InvalidArgumentError, match=found):
        WireOptions.from_message(service_pb2.WireOptions(**fields))
