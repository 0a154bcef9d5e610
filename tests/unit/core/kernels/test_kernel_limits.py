"""A few bytes of input cannot make a kernel allocate without bound, nor fail in an unclear way."""

import numpy as np
import pytest

import kernel_driver
from paramserve_core import dtypes, errors
from paramserve_core.executor.program import Program
from paramserve_core.kernels import limits
from paramserve_protos.v1 import node_def_pb2

LIMIT_BYTES = 1 << 20
HUGE = 1 << 40
I32, I64, F32 = np.int32, np.int64, np.float32
ROW = np.zeros(1024, F32)
TABLE = np.zeros((16, 1024), F32)
ONE = F32(1)
RANK_32 = np.zeros((1,) * 32, F32)


@pytest.fixture(autouse=True)
def small_limit():
    before = limits.max_tensor_bytes()
    limits.set_max_tensor_bytes(LIMIT_BYTES)
    yield
    limits.set_max_tensor_bytes(before)


# Inputs of at most half the limit that ask for more than it.
TOO_LARGE = {
    "Fill": ((I64([HUGE, HUGE, HUGE]), ONE), {}),
    "BroadcastTo": ((ROW[:1], I64([HUGE])), {}),
    "Tile": ((ROW, I64([HUGE])), {}),
    "Pad": ((ROW, I64([[HUGE, HUGE]])), {}),
    "PadV2": ((ROW, I64([[0, HUGE]]), ONE), {}),
    "MirrorPad": ((np.zeros(1 << 19, np.int8), I64([[1 << 19, 1 << 19]])), {"mode": "SYMMETRIC"}),
    "Concat": ((I32(0), [TABLE] * 20), {}),
    "ConcatV2": (([TABLE] * 20, I32(0)), {}),
    "Pack": (([TABLE] * 20,), {}),
    "Diag": ((ROW,), {}),
    "MatrixDiag": ((TABLE,), {}),
    "StridedSliceGrad": ((I64([HUGE]), I64([0]), I64([1]), I64([1]), ROW[:1]), {}),
    "Gather": ((TABLE, np.zeros(1000, I32)), {}),
    "GatherV2": ((TABLE, np.zeros(1000, I32), I32(0)), {}),
    "GatherNd": ((TABLE, np.zeros((1000, 1), I32)), {}),
    "ScatterNd": ((I64([[0]]), F32([1]), I64([HUGE])), {}),
    "Where": ((np.ones((1 << 16,), np.bool_).reshape((1,) * 9 + (1 << 16,)),), {}),
    "SelectV2": ((np.array(True), ROW[:, None], ROW), {}),
    "OneHot": ((np.zeros(1000, I32), I32(1 << 30), ONE, ONE), {}),
    "DynamicStitch": (([I32([1 << 30])], [ROW[:1]]), {}),
    "ParallelDynamicStitch": (([I32([1 << 30])], [ROW[:1]]), {}),
    "Range": ((I64(0), I64(HUGE), I64(1)), {}),
    "LinSpace": ((ONE, ONE, I64(HUGE)), {}),
    "Bincount": ((I32([0]), I32(1 << 30), F32([])), {}),
    "SegmentSum": ((ROW[:1], I64([HUGE])), {}),
    "UnsortedSegmentSum": ((ROW[:1], I64([0]), I64(HUGE)), {}),
    "UnsortedSegmentMax": ((ROW[:1], I64([0]), I64(HUGE)), {}),
    "SparseSegmentSum": ((TABLE, np.zeros(1000, I32), np.zeros(1000, I32)), {}),
    "SparseSegmentMean": ((TABLE, I32([0]), I32([1 << 30])), {}),
    "SparseSegmentSumWithNumSegments": ((TABLE, I32([0]), I32([0]), I64(HUGE)), {}),
    "SparseSegmentSqrtNGrad": ((TABLE, I32([0]), I32([0]), I32(1 << 30)), {}),
    "RandomStandardNormal": ((I64([HUGE]),), {"dtype": dtypes.float32}),
    "TruncatedNormal": ((I64([HUGE]),), {"dtype": dtypes.float32}),
    "RandomUniform": ((I64([HUGE]),), {"dtype": dtypes.float16}),
    "RandomUniformInt": ((I64([HUGE]), I32(0), I32(1)), {}),
    "RandomGamma": ((I64([HUGE]), ONE), {}),
    "Multinomial": ((TABLE, I32(1 << 30)), {}),
}


@pytest.mark.parametrize("op", TOO_LARGE)
def test_a_result_beyond_the_limit_is_refused_before_it_is_made(op):
    inputs, attrs = TOO_LARGE[op]
    with pytest.raises(errors.ResourceExhaustedError, match="larger than the limit"):
        kernel_driver.run(op, *inputs, **attrs)


# Sizes next to a 0 are not allocated, but NumPy multiplies them, or loops over them.
EMPTY_AND_HUGE = {
    "Fill": ((I64([0, HUGE, HUGE]), ONE), {}),
    "BroadcastTo": ((ROW[:0], I64([HUGE, HUGE, 0])), {}),
    "Reshape": ((ROW[:0], I64([HUGE, HUGE, 0])), {}),
    "Tile": ((np.zeros((0, 1), F32), I64([1, HUGE])), {}),
    "RandomUniform": ((I64([0, HUGE, HUGE]),), {"dtype": dtypes.float32}),
    "UnsortedSegmentSum": ((TABLE[:, :0], np.zeros(16, I32), I64(HUGE)), {}),
}


@pytest.mark.parametrize("op", EMPTY_AND_HUGE)
def test_a_shape_without_elements_is_bounded_too(op):
    inputs, attrs = EMPTY_AND_HUGE[op]
    with pytest.raises(errors.ResourceExhaustedError, match="larger than the limit"):
        kernel_driver.run(op, *inputs, **attrs)


def test_tiling_through_a_large_size_to_no_elements_makes_no_large_array():
    (result,) = kernel_driver.run("Tile", np.zeros((1, 1), F32), I32([LIMIT_BYTES, 0]))
    assert result.shape == (LIMIT_BYTES, 0)


def test_the_band_of_no_matrices_takes_no_memory():
    value = np.zeros((0, LIMIT_BYTES, LIMIT_BYTES), F32)
    (band,) = kernel_driver.run("MatrixBandPart", value, I64(1), I64(1))
    assert band.shape == value.shape


TOO_MANY_AXES = {
    "Reshape": ((RANK_32, np.ones(33, I32)), {}),
    "Fill": ((np.ones(33, I32), ONE), {}),
    "BroadcastTo": ((ONE, np.ones(70, I32)), {}),
    "ExpandDims": ((RANK_32, I32(0)), {}),
    "Pack": (([RANK_32, RANK_32],), {}),
    "Diag": ((RANK_32,), {}),
    "MatrixDiag": ((RANK_32,), {}),
    "Bitcast": ((RANK_32,), {"type": dtypes.uint8}),
    "OneHot": ((RANK_32.astype(I32), I32(1), ONE, ONE), {}),
    "Gather": ((RANK_32, I32([[0]])), {}),
    "GatherNd": ((RANK_32, np.zeros((1, 1, 1), I32)), {}),
    "StridedSlice": (
        (RANK_32, *[np.ones(2, I32)] * 3),
        {"new_axis_mask": 3},
    ),
    "RandomStandardNormal": ((np.ones(33, I32),), {"dtype": dtypes.float32}),
}


@pytest.mark.parametrize("op", TOO_MANY_AXES)
def test_more_axes_than_numpy_holds_are_refused(op):
    inputs, attrs = TOO_MANY_AXES[op]
    with pytest.raises(errors.InvalidArgumentError, match="at most 32 are supported"):
        kernel_driver.run(op, *inputs, **attrs)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int64])
def test_a_negative_index_is_refused_in_every_type(kind):
    # In a table with more rows than the index type counts, -1 read as unsigned would be inside.
    table = np.zeros(1 << 17, np.int8)
    with pytest.raises(errors.InvalidArgumentError, match=r"indices\[1\] = -1 is not in \[0, 131"):
        kernel_driver.run("GatherV2", table, np.array([0, -1], kind), I32(0))


def test_a_strided_slice_of_more_items_than_mask_bits_is_refused():
    with pytest.raises(errors.InvalidArgumentError, match="at most 31"):
        kernel_driver.run("StridedSlice", ROW, *[np.ones(32, I32)] * 3)


@pytest.mark.parametrize(
    ("op", "inputs", "count"),
    [("Split", (I32(0), ROW), "num_split"), ("DynamicPartition", (ROW, I32(0)), "num_partitions")],
)
def test_an_op_cannot_have_any_number_of_outputs(op, inputs, count):
    with pytest.raises(errors.InvalidArgumentError, match=f"{count!r} of op {op} asks for"):
        kernel_driver.run(op, *inputs, **{count: HUGE})


def test_a_constant_of_one_value_and_any_shape_is_bounded():
    node = node_def_pb2.NodeDef(name="huge", op="Const")
    node.attr["dtype"].type = dtypes.float32.as_datatype_enum
    node.attr["value"].tensor.dtype = dtypes.float32.as_datatype_enum
    node.attr["value"].tensor.tensor_shape.dim.add().size = HUGE
    node.attr["value"].tensor.float_val.append(1)
    with pytest.raises(errors.ResourceExhaustedError, match="larger than the limit") as caught:
        Program([node], returned=["huge:0"])
    assert caught.value.node_name == "huge"
