"""What each array, index, reduction and segment op gives, on an example that one can check by eye.

`tests/conformance/kernels` compares many more inputs with TensorFlow, where that is installed.
"""

import ml_dtypes
import numpy as np
import pytest

import kernel_driver
from kernel_driver import Case, as_tensor
from paramserve_core import dtypes, errors
from paramserve_core.opdefs import all_ops

I32, F32, BF16 = np.int32, np.float32, ml_dtypes.bfloat16
X = F32([[1, 2, 3], [4, 5, 6]])
V = I32([10, 20, 30, 40])
LARGE = np.array([2**63, 2**63 + 1], np.uint64)
T, F = True, False


def i(*values):
    return np.array(values, np.int32)


def shaped(value, dtype=np.float32):
    return np.array(value, dtype)


EXPECTED = [
    # array
    ("ZerosLike", Case(X), [np.zeros((2, 3), F32)]),
    ("ZerosLike", Case(["a", "b"]), [as_tensor(["", ""])]),
    ("OnesLike", Case(V), [i(1, 1, 1, 1)]),
    ("Fill", Case(i(2, 2), shaped(7)), [F32([[7, 7], [7, 7]])]),
    ("Fill", Case(i(2), as_tensor(b"a")), [as_tensor(["a", "a"])]),
    ("Identity", Case(X), [X]),
    ("IdentityN", Case([X, V]), [X, V]),
    ("StopGradient", Case(X), [X]),
    ("PreventGradient", Case(X), [X]),
    ("PlaceholderWithDefault", Case(X, shape=[None, 3]), [X]),
    ("EnsureShape", Case(X, shape=[2, None]), [X]),
    ("CheckNumerics", Case(X, message=""), [X]),
    ("Cast", Case(F32([-1.5, 0, 2.7]), DstT=dtypes.int32), [i(-1, 0, 2)]),
    ("Cast", Case(np.complex64([1j, 2]), DstT=dtypes.bool), [np.array([F, T])]),
    (
        "Cast",
        Case(F32([1.999]), DstT=dtypes.bfloat16, Truncate=True),
        [shaped([1.9921875], BF16)],
    ),
    ("Bitcast", Case(F32([1.0]), type=dtypes.int32), [i(0x3F800000)]),
    ("Shape", Case(X), [i(2, 3)]),
    ("ShapeN", Case([X, X[0]]), [i(2, 3), i(3)]),
    ("Size", Case(X), [shaped(6, I32)]),
    ("Rank", Case(X), [shaped(2, I32)]),
    ("BroadcastArgs", Case(i(2, 1), i(3)), [i(2, 3)]),
    ("BroadcastGradientArgs", Case(i(2, 1), i(3)), [i(1), i(0)]),
    ("Reshape", Case(X, i(3, -1)), [F32([[1, 2], [3, 4], [5, 6]])]),
    ("ExpandDims", Case(V, i(-1)), [V[:, None]]),
    ("Squeeze", Case(X[:1], squeeze_dims=[0]), [X[0]]),
    ("BroadcastTo", Case(V, i(2, 4)), [I32([V, V])]),
    ("Tile", Case(i(1, 2), i(2)), [i(1, 2, 1, 2)]),
    ("Pad", Case(i(1, 2), I32([[1, 2]])), [i(0, 1, 2, 0, 0)]),
    ("PadV2", Case(i(1, 2), I32([[1, 0]]), I32(9)), [i(9, 1, 2)]),
    ("MirrorPad", Case(i(1, 2, 3), I32([[2, 1]]), mode="REFLECT"), [i(3, 2, 1, 2, 3, 2)]),
    ("MirrorPad", Case(i(1, 2, 3), I32([[2, 1]]), mode="SYMMETRIC"), [i(2, 1, 1, 2, 3, 3)]),
    ("MirrorPadGrad", Case(i(1, 1, 1, 1, 1), I32([[1, 1]]), mode="REFLECT"), [i(1, 3, 1)]),
    ("Concat", Case(I32(0), [V, V]), [I32([*V, *V])]),
    ("ConcatV2", Case([X, X[:, :1]], I32(-1)), [F32([[1, 2, 3, 1], [4, 5, 6, 4]])]),
    ("ConcatOffset", Case(I32(0), [i(2, 5), i(3, 5)]), [i(0, 0), i(2, 0)]),
    ("Split", Case(I32(0), V, num_split=2), [V[:2], V[2:]]),
    ("SplitV", Case(V, i(1, -1), I32(0), num_split=2), [V[:1], V[1:]]),
    ("Pack", Case([V, V], axis=1), [I32([V, V]).T]),
    ("Unpack", Case(X, axis=0, num=2), [X[0], X[1]]),
    ("Unpack", Case(["a", "b"], num=2), [as_tensor(b"a"), as_tensor(b"b")]),
    ("Transpose", Case(X, i(1, 0)), [X.T]),
    ("InvertPermutation", Case(i(2, 0, 1)), [i(1, 2, 0)]),
    ("Reverse", Case(X, np.array([F, T])), [X[:, ::-1]]),
    ("ReverseV2", Case(X, i(0)), [X[::-1]]),
    ("ReverseSequence", Case(X, i(2, 3), seq_dim=1), [F32([[2, 1, 3], [6, 5, 4]])]),
    ("Diag", Case(i(1, 2)), [I32([[1, 0], [0, 2]])]),
    ("DiagPart", Case(I32([[1, 5], [6, 2]])), [i(1, 2)]),
    ("MatrixDiag", Case(I32([[1, 2], [3, 4]])), [I32([[[1, 0], [0, 2]], [[3, 0], [0, 4]]])]),
    ("MatrixDiagPart", Case(X), [F32([1, 5])]),
    ("MatrixSetDiag", Case(X, F32([8, 9])), [F32([[8, 2, 3], [4, 9, 6]])]),
    ("MatrixBandPart", Case(X, I32(0), I32(1)), [F32([[1, 2, 0], [0, 5, 6]])]),
    # indexing
    ("Slice", Case(X, i(0, 1), i(-1, 1)), [X[:, 1:2]]),
    ("StridedSlice", Case(V, i(3), i(0), i(-2)), [i(40, 20)]),
    ("StridedSlice", Case(X, i(1), i(0), i(1), shrink_axis_mask=1), [X[1]]),
    ("StridedSliceGrad", Case(i(4), i(0), i(3), i(2), F32([7, 8])), [F32([7, 0, 8, 0])]),
    ("Gather", Case(X, I32([[1], [0]])), [F32([[[4, 5, 6]], [[1, 2, 3]]])]),
    ("GatherV2", Case(X, i(2, 0), I32(1)), [F32([[3, 1], [6, 4]])]),
    ("GatherV2", Case(X, I32([[2], [0]]), I32(1), batch_dims=1), [F32([[3], [4]])]),
    ("GatherV2", Case(["a", "b"], I32(1), I32(0)), [as_tensor(b"b")]),
    ("GatherNd", Case(X, I32([[1, 2], [0, 0]])), [F32([6, 1])]),
    ("ScatterNd", Case(I32([[1], [1], [3]]), F32([1, 2, 4]), i(4)), [F32([0, 3, 0, 4])]),
    ("Where", Case(np.array([[F, T], [T, F]])), [np.int64([[0, 1], [1, 0]])]),
    ("Select", Case(np.array([T, F]), X, -X), [F32([[1, 2, 3], [-4, -5, -6]])]),
    ("SelectV2", Case(np.array([T, F, T]), X, F32(0)), [F32([[1, 0, 3], [4, 0, 6]])]),
    ("OneHot", Case(i(1, -1, 5), I32(2), I32(7), I32(0)), [I32([[0, 7], [0, 0], [0, 0]])]),
    ("DynamicPartition", Case(V, i(1, 0, 1, 1), num_partitions=2), [i(20), i(10, 30, 40)]),
    ("DynamicPartition", Case(V, i(0, 0, 0, 0), num_partitions=1), [V]),
    ("DynamicStitch", Case([i(2), I32(0)], [i(5), I32(6)]), [i(6, 0, 5)]),
    ("ParallelDynamicStitch", Case([i(1), i(0)], [i(5), i(6)]), [i(6, 5)]),
    ("Unique", Case(i(7, 3, 7)), [i(7, 3), i(0, 1, 0)]),
    ("Unique", Case(["b", "a", "b"]), [as_tensor(["b", "a"]), i(0, 1, 0)]),
    ("UniqueWithCounts", Case(i(7, 3, 7)), [i(7, 3), i(0, 1, 0), i(2, 1)]),
    ("ListDiff", Case(i(1, 2, 3, 2), i(2)), [i(1, 3), i(0, 2)]),
    ("ListDiff", Case(["a", "b"], ["a"]), [as_tensor(["b"]), i(1)]),
    # math_reduce
    ("Sum", Case(X, i(0)), [F32([5, 7, 9])]),
    ("Sum", Case(X, i(0, -1), keep_dims=True), [F32([[21]])]),
    ("Mean", Case(X, i(1)), [F32([2, 5])]),
    ("Mean", Case(i(-1, -2), I32(0)), [shaped(-1, I32)]),
    ("Mean", Case(V[:0], I32(0)), [shaped(0, I32)]),
    ("Prod", Case(X, i(1)), [F32([6, 120])]),
    ("Max", Case(X, i(0)), [F32([4, 5, 6])]),
    ("Min", Case(X[:0], i(0)), [F32([np.inf] * 3)]),
    ("All", Case(np.array([T, F]), I32(0)), [np.array(F)]),
    ("Any", Case(np.array([T, F]), I32(0)), [np.array(T)]),
    ("ArgMax", Case(X, I32(1)), [np.int64([2, 2])]),
    ("ArgMin", Case(X, I32(0), output_type=dtypes.int32), [i(0, 0, 0)]),
    ("Cumsum", Case(V, I32(0)), [i(10, 30, 60, 100)]),
    ("Cumsum", Case(V, I32(0), exclusive=T, reverse=T), [i(90, 70, 40, 0)]),
    ("Cumprod", Case(i(2, 3), I32(0), exclusive=T), [i(1, 2)]),
    ("AddN", Case([X, X, X]), [3 * X]),
    ("AccumulateNV2", Case([X, X], shape=[2, 3]), [2 * X]),
    # math_sequence
    ("Range", Case(I32(5), I32(0), I32(-2)), [i(5, 3, 1)]),
    ("Range", Case(np.int8(-100), np.int8(127), np.int8(100)), [np.int8([-100, 0, 100])]),
    ("Range", Case(np.uint64(2**63), np.uint64(2**63 + 2), np.uint64(1)), [LARGE]),
    ("Range", Case(F32(0), F32(0.6), F32(0.2)), [F32([0, 0.2, 0.4])]),
    ("LinSpace", Case(F32(1), F32(2), I32(3)), [F32([1, 1.5, 2])]),
    ("Bincount", Case(i(1, 1, 5), I32(3), F32([])), [F32([0, 2, 0])]),
    ("Bincount", Case(i(1, 1), I32(2), I32([3, 4])), [i(0, 7)]),
    # math_segment
    ("SegmentSum", Case(V, i(0, 0, 2, 2)), [i(30, 0, 70)]),
    ("SegmentMean", Case(X, i(1, 1)), [F32([[0, 0, 0], [2.5, 3.5, 4.5]])]),
    ("SegmentProd", Case(V, i(0, 0, 2, 2)), [i(200, 1, 1200)]),
    ("SegmentMax", Case(V, i(0, 0, 2, 2)), [i(20, 0, 40)]),
    ("SegmentMin", Case(V, i(0, 0, 2, 2)), [i(10, 0, 30)]),
    ("UnsortedSegmentSum", Case(V, i(2, 0, -1, 2), I32(3)), [i(20, 0, 50)]),
    ("UnsortedSegmentProd", Case(V, i(2, 0, -1, 2), I32(3)), [i(20, 1, 400)]),
    ("UnsortedSegmentMax", Case(V, i(2, 0, -1, 2), I32(3)), [i(20, -(2**31), 40)]),
    ("UnsortedSegmentMin", Case(V, i(2, 0, -1, 2), I32(3)), [i(20, 2**31 - 1, 10)]),
    ("SparseSegmentSum", Case(X, i(1, 0, 1), i(0, 1, 1)), [F32([[4, 5, 6], [5, 7, 9]])]),
    ("SparseSegmentMean", Case(X, i(1, 0), i(0, 0)), [F32([[2.5, 3.5, 4.5]])]),
    ("SparseSegmentSqrtN", Case(X, i(0, 0, 0, 0), i(0, 0, 0, 0)), [2 * X[:1]]),
    ("SparseSegmentSumWithNumSegments", Case(X, i(1), i(0), I32(2)), [F32([[4, 5, 6], [0, 0, 0]])]),
    ("SparseSegmentMeanWithNumSegments", Case(X, i(0, 1), i(0, 0), I32(1)), [X.mean(0)[None]]),
    ("SparseSegmentSqrtNWithNumSegments", Case(X, i(0), i(0), I32(1)), [X[:1]]),
    ("SparseSegmentSumGrad", Case(X, i(1, 1), i(0, 1), I32(2)), [F32([[0, 0, 0], [5, 7, 9]])]),
    ("SparseSegmentMeanGrad", Case(X[:1], i(0, 1), i(0, 0), I32(2)), [F32([X[0] / 2, X[0] / 2])]),
    ("SparseSegmentSqrtNGrad", Case(2 * X[:1], i(0, 0, 0, 0), i(0, 0, 0, 0), I32(1)), [4 * X[:1]]),
]
FAMILIES = ("array", "indexing", "math_reduce", "math_sequence", "math_segment")


@pytest.mark.parametrize(
    ("op", "case", "expected"), EXPECTED, ids=[f"{op}-{n}" for n, (op, _, _) in enumerate(EXPECTED)]
)
def test_an_op_gives_its_known_value(op, case, expected):
    outputs = kernel_driver.run(op, *case.inputs, **case.attrs)
    assert len(outputs) == len(expected)
    for output, value in zip(outputs, expected, strict=True):
        kernel_driver.assert_same(output, value)
    kernel_driver.assert_shapes_fit(op, *case.inputs, outputs=outputs, **case.attrs)


def test_every_op_of_these_families_has_a_known_value():
    fed = {"Const", "Placeholder", "PlaceholderV2"}
    ops = {name for name, definition in all_ops().items() if definition.family in FAMILIES}
    assert ops - fed == {op for op, _, _ in EXPECTED}


@pytest.mark.parametrize("op", ["Placeholder", "PlaceholderV2"])
def test_a_placeholder_that_is_not_fed_is_named(op):
    with pytest.raises(errors.InvalidArgumentError, match="feed a value for placeholder tensor"):
        kernel_driver.run(op, dtype=dtypes.float32, shape=[2])


@pytest.mark.parametrize("kind", [np.float16, BF16])
def test_half_precision_sums_are_rounded_once(kind):
    # Added up in the type itself, the ones after 2048 (256) would be lost.
    values = np.ones(4096, kind)
    assert kernel_driver.run("Sum", values, I32(0))[0] == 4096
    (segment,) = kernel_driver.run("SegmentSum", values, np.zeros(4096, I32))
    assert segment.tolist() == [4096]
    assert kernel_driver.run("Cumsum", values, I32(0))[0][-1] == 4096


@pytest.mark.parametrize("op", ["Div", "TruncateDiv", "FloorDiv", "FloorMod", "TruncateMod"])
def test_zero_divides_nothing_without_error(op):
    assert kernel_driver.run(op, i(), i(0)[0])[0].tolist() == []
    with pytest.raises(errors.InvalidArgumentError, match="Integer division by zero"):
        kernel_driver.run(op, i(1), i(0)[0])


def test_fill_keeps_the_sign_of_zero():
    (filled,) = kernel_driver.run("Fill", i(2), shaped(-0.0))
    assert np.signbit(filled).all()


def test_nan_is_distinct_from_itself_and_zeros_are_equal():
    values, index = kernel_driver.run("Unique", F32([np.nan, 0.0, np.nan, -0.0]))
    assert len(values) == 3
    assert index.tolist() == [0, 1, 2, 1]


def test_accumulating_another_shape_than_declared_is_refused():
    with pytest.raises(errors.InvalidArgumentError, match="attribute 'shape'"):
        kernel_driver.run("AccumulateNV2", [X, X], shape=[3, 3])


def test_an_unknown_policy_for_bad_indices_is_refused():
    with pytest.raises(errors.InvalidArgumentError, match="must be ERROR or IGNORE"):
        kernel_driver.run("GatherNd", X, I32([[0]]), bad_indices_policy="MAYBE")


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Slice", (X, i(0, 1), i(2, 2)), {}),
        ("StridedSlice", (X, i(0), i(1), i(1)), {}),
        ("Transpose", (X, i(1, 0)), {}),
        ("ReverseV2", (X, i(0)), {}),
        ("Split", (I32(1), X), {"num_split": 3}),
        ("Unpack", (X,), {"num": 2}),
        ("Reshape", (X, i(6)), {}),
        ("BroadcastTo", (X, i(2, 2, 3)), {}),
        ("MatrixDiagPart", (X,), {}),
    ],
)
def test_what_only_looks_at_elements_copies_none(op, inputs, attrs):
    assert not kernel_driver.run(op, *inputs, **attrs)[0].flags.owndata


RUNS = {
    "all different": np.arange(300),
    "a few each": np.arange(300) // 2,
    "one long run among short ones": np.r_[np.zeros(50, int), np.arange(1, 251)],
    "one run": np.zeros(300, int),
    "many each": np.arange(300) // 30,
}


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("width", [1, 3])
def test_rows_are_combined_right_however_long_the_runs_are(runs, width):
    numbers = RUNS[runs].astype(I32)
    order = np.random.default_rng(0).permutation(300)
    rows = np.random.default_rng(1).integers(-99, 99, (300, width))
    count = int(numbers[-1]) + 1
    expected = np.zeros((count, width), np.int64)
    np.add.at(expected, numbers, rows)
    assert np.array_equal(kernel_driver.run("SegmentSum", rows, numbers)[0], expected)
    (unsorted,) = kernel_driver.run("UnsortedSegmentSum", rows[order], numbers[order], I32(count))
    assert np.array_equal(unsorted, expected)
