"""Kernels of the family `array` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, axes, few_examples, index_types, shapes, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import COMPLEX, FLOATS, NUMBERS
from paramserve_core.shapes import TensorShape

pytestmark = pytest.mark.oracle

ANY = (*NUMBERS, dtypes.bool, dtypes.string)
POD = (*NUMBERS, dtypes.bool)


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def of(types, **options):
    return tensors(st.sampled_from(types), **options)


@st.composite
def one_input(draw, types=ANY, min_rank=0, **attrs):
    return Case(draw(of(types, shape=shapes(min_rank))), **attrs)


@st.composite
def fill(draw):
    dims = np.array(draw(shapes()), draw(index_types()))
    return Case(dims, draw(of(ANY, shape=())))


@st.composite
def ones_like(draw):
    return Case(draw(of((*NUMBERS, dtypes.bool))))


@st.composite
def identity_n(draw):
    return Case([draw(of(ANY)) for _ in range(draw(st.integers(1, 3)))])


@st.composite
def ensure_shape(draw):
    value = draw(of(POD))
    known = [draw(st.sampled_from([size, None])) for size in value.shape]
    return Case(value, shape=draw(st.sampled_from([TensorShape(known), TensorShape(None)])))


@st.composite
def check_numerics(draw):
    value = draw(of(FLOATS))
    if value.size and draw(st.booleans()):
        value.flat[0] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    return Case(value, message="found")


@st.composite
def cast(draw):
    # Within the range of every type: what is outside converts to anything.
    value = draw(of(POD, low=0, high=100))
    return Case(value, DstT=draw(st.sampled_from(POD)))


@st.composite
def truncating_cast(draw):
    value = np.float64(
        draw(st.lists(st.floats(-1e4, 1e4, width=16, allow_subnormal=False), min_size=1))
    )
    source, target = draw(
        st.sampled_from(
            [
                (dtypes.float64, dtypes.float32),
                (dtypes.float64, dtypes.float16),
                (dtypes.float32, dtypes.bfloat16),
                (dtypes.float32, dtypes.float16),
                (dtypes.complex128, dtypes.complex64),
                (dtypes.float16, dtypes.float32),
            ]
        )
    )
    return Case((value / 3).astype(source.as_numpy_dtype), DstT=target, Truncate=True)


@st.composite
def bitcast(draw):
    source, target = (draw(st.sampled_from(NUMBERS)) for _ in range(2))
    shape = draw(shapes(min_size=1))
    if target.size > source.size:
        shape = (*shape, target.size // source.size)
    value = draw(tensors(source, shape=shape, low=0))
    return Case(value, type=target)


@st.composite
def shape_n(draw):
    dtype = draw(st.sampled_from(POD))
    values = [draw(tensors(dtype)) for _ in range(draw(st.integers(1, 3)))]
    return Case(values, out_type=draw(st.sampled_from([dtypes.int32, dtypes.int64])))


@st.composite
def shape_of(draw):
    return Case(draw(of(ANY)), out_type=draw(st.sampled_from([dtypes.int32, dtypes.int64])))


@st.composite
def two_shapes(draw):
    # Sizes of 1 and 2 mostly broadcast, and sometimes not.
    index = draw(index_types())
    sizes = st.lists(st.sampled_from([1, 1, 1, 2, 2, 0, 3]), max_size=4)
    return Case(np.array(draw(sizes), index), np.array(draw(sizes), index))


@st.composite
def reshape(draw):
    value = draw(of(ANY))
    wanted = list(draw(st.permutations(value.shape)))
    if wanted and draw(st.booleans()):
        wanted[draw(st.integers(0, len(wanted) - 1))] = -1
    if draw(st.booleans()):
        wanted.insert(0, draw(st.sampled_from([1, 1, 2])))
    return Case(value, np.array(wanted, draw(index_types())))


@st.composite
def expand_dims(draw):
    value = draw(of(ANY))
    axis = draw(axes(value.ndim + 1))
    return Case(value, np.array(draw(st.sampled_from([axis, [axis]])), draw(index_types())))


@st.composite
def squeeze(draw):
    value = draw(of(ANY, shape=shapes(max_size=2, max_rank=4)))
    ones = [axis for axis, size in enumerate(value.shape) if size == 1]
    chosen = draw(st.lists(st.sampled_from(ones), max_size=3)) if ones else []
    return Case(
        value, squeeze_dims=[axis - draw(st.sampled_from([0, value.ndim])) for axis in chosen]
    )


@st.composite
def broadcast_to(draw):
    wanted = draw(shapes())
    own = [draw(st.sampled_from([size, 1])) for size in wanted][draw(st.integers(0, 1)) :]
    return Case(draw(of(POD, shape=own)), np.array(wanted, draw(index_types())))


@st.composite
def tile(draw):
    value = draw(of([dtype for dtype in ANY if dtype is not dtypes.uint16]))
    counts = [draw(st.integers(0, 3)) for _ in value.shape]
    return Case(value, np.array(counts, draw(index_types())))


@st.composite
def pad(draw, constant=False, types=POD):
    value = draw(of(types))
    sizes = [[draw(st.integers(0, 3)) for _ in "ba"] for _ in value.shape]
    inputs = [value, np.array(sizes, draw(index_types())).reshape(-1, 2)]
    if constant:
        inputs.append(draw(tensors(dtypes.as_dtype(value.dtype), shape=())))
    return Case(*inputs)


@st.composite
def mirror_pad(draw, grad=False):
    mode = draw(st.sampled_from(["REFLECT", "SYMMETRIC"]))
    value = draw(of(FLOATS if grad else POD, shape=shapes(min_rank=1, min_size=1)))
    skip = mode == "REFLECT"
    sizes = [[draw(st.integers(0, size - skip)) for _ in "ba"] for size in value.shape]
    if grad:
        padded = [size + sum(pair) for size, pair in zip(value.shape, sizes, strict=True)]
        value = draw(tensors(dtypes.as_dtype(value.dtype), shape=padded))
    return Case(value, np.array(sizes, draw(index_types())), mode=mode)


@st.composite
def concat(draw, axis_first=False):
    dtype, shape = draw(st.sampled_from(ANY)), draw(shapes(min_rank=1))
    axis = draw(axes(len(shape)))
    values = []
    for _ in range(draw(st.integers(2, 4))):
        own = list(shape)
        own[axis] = draw(st.integers(0, 3))
        values.append(draw(tensors(dtype, shape=own)))
    return Case(np.int32(axis), values) if axis_first else Case(values, np.int32(axis))


@st.composite
def concat_offset(draw):
    shape, index = draw(shapes(min_rank=1)), draw(index_types())
    axis = draw(axes(len(shape)))
    all_shapes = []
    for _ in range(draw(st.integers(2, 4))):
        own = np.array(shape, index)
        own[axis] = draw(st.integers(0, 3))
        all_shapes.append(own)
    # TensorFlow has this op in int32 for every axis, and in int64 since lately.
    return Case(np.int32(axis), all_shapes)


@st.composite
def split(draw):
    count, shape = draw(st.integers(1, 3)), list(draw(shapes(min_rank=1)))
    axis = draw(axes(len(shape)))
    shape[axis] *= count
    return Case(np.int32(axis), draw(of(ANY, shape=shape)), num_split=count)


@st.composite
def split_v(draw):
    sizes, shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)), list(draw(shapes(1)))
    axis = draw(axes(len(shape)))
    shape[axis] = sum(sizes)
    if len(sizes) > 1 and draw(st.booleans()):
        sizes[draw(st.integers(0, len(sizes) - 1))] = -1
    given_sizes = np.array(sizes, draw(index_types()))
    return Case(draw(of(ANY, shape=shape)), given_sizes, np.int32(axis), num_split=len(sizes))


@st.composite
def pack(draw):
    dtype, shape = draw(st.sampled_from(ANY)), draw(shapes())
    values = [draw(tensors(dtype, shape=shape)) for _ in range(draw(st.integers(1, 3)))]
    return Case(values, axis=draw(axes(len(shape) + 1)))


@st.composite
def unpack(draw):
    value = draw(of(ANY, shape=shapes(min_rank=1, min_size=1)))
    axis = draw(axes(value.ndim))
    return Case(value, axis=axis, num=value.shape[axis])


@st.composite
def transpose(draw):
    value = draw(of(ANY, shape=shapes(max_rank=5, max_size=3)))
    perm = draw(st.permutations(range(value.ndim)))
    return Case(value, np.array(perm, draw(index_types())))


@st.composite
def invert_permutation(draw):
    return Case(
        np.array(draw(st.permutations(range(draw(st.integers(0, 6))))), draw(index_types()))
    )


@st.composite
def reverse(draw, flags=False):
    value = draw(of(ANY, shape=shapes(min_size=1)))
    chosen = [draw(st.booleans()) for _ in value.shape]
    if flags:
        return Case(value, np.array(chosen, np.bool_))
    named = [i - draw(st.sampled_from([0, value.ndim])) for i, c in enumerate(chosen) if c]
    return Case(value, np.array(named, draw(index_types())))


@st.composite
def reverse_sequence(draw):
    value = draw(of((*NUMBERS, dtypes.bool, dtypes.string), shape=shapes(2, 4, 1, 3)))
    batch, seq = draw(st.permutations(range(value.ndim)))[:2]
    lengths = [draw(st.integers(0, value.shape[seq])) for _ in range(value.shape[batch])]
    return Case(value, np.array(lengths, draw(index_types())), batch_dim=batch, seq_dim=seq)


DIAGONAL = (*FLOATS[:2], dtypes.float16, dtypes.int32, dtypes.int64, *COMPLEX)


@st.composite
def diag_part(draw):
    half = draw(shapes(1, 2, min_size=1))
    return Case(draw(of(DIAGONAL, shape=half + half)))


@st.composite
def matrix_set_diag(draw):
    dtype, shape = draw(st.sampled_from(POD)), draw(shapes(2, 4, min_size=1))
    diagonal = (*shape[:-2], min(shape[-2:]))
    return Case(draw(tensors(dtype, shape=shape)), draw(tensors(dtype, shape=diagonal)))


@st.composite
def band_part(draw):
    value, index = draw(of(POD, shape=shapes(2, 4))), draw(index_types())
    bounds = [index(draw(st.integers(-1, size))) for size in value.shape[-2:]]
    return Case(value, *bounds)


CASES = {
    "ZerosLike": one_input(),
    "OnesLike": ones_like(),
    "Fill": fill(),
    "Identity": one_input(),
    "IdentityN": identity_n(),
    "StopGradient": one_input(),
    "PreventGradient": one_input(POD),
    "EnsureShape": ensure_shape(),
    "CheckNumerics": check_numerics(),
    "Cast": cast() | truncating_cast() | one_input([dtypes.string], DstT=dtypes.string),
    "Bitcast": bitcast(),
    "Shape": shape_of(),
    "ShapeN": shape_n(),
    "Size": shape_of(),
    "Rank": one_input(),
    "BroadcastArgs": two_shapes(),
    "BroadcastGradientArgs": two_shapes(),
    "Reshape": reshape(),
    "ExpandDims": expand_dims(),
    "Squeeze": squeeze(),
    "BroadcastTo": broadcast_to(),
    "Tile": tile(),
    "Pad": pad(types=(*POD, dtypes.string)),
    "PadV2": pad(constant=True),
    "MirrorPad": mirror_pad(),
    "MirrorPadGrad": mirror_pad(grad=True),
    "Concat": concat(axis_first=True),
    "ConcatV2": concat(),
    "ConcatOffset": concat_offset(),
    "Split": split(),
    "SplitV": split_v(),
    "Pack": pack(),
    "Unpack": unpack(),
    "Transpose": transpose(),
    "InvertPermutation": invert_permutation(),
    "Reverse": reverse(flags=True),
    "ReverseV2": reverse(),
    "ReverseSequence": reverse_sequence(),
    "Diag": one_input(DIAGONAL, min_rank=1),
    "DiagPart": diag_part(),
    "MatrixDiag": one_input(POD, min_rank=1),
    "MatrixDiagPart": one_input(POD, min_rank=2),
    "MatrixSetDiag": matrix_set_diag(),
    "MatrixBandPart": band_part(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples()
@given(data=st.data())
def test_an_array_op_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    assert_agrees(tf, op, *case.inputs, **case.attrs)


I32 = np.int32
X = np.arange(6, dtype=np.float32).reshape(2, 3)
REFUSED = {
    "fill: dims is a matrix": ("Fill", Case(I32([[2]]), np.float32(1))),
    "fill: value is a vector": ("Fill", Case(I32([2]), np.float32([1, 2]))),
    "fill: a negative dimension": ("Fill", Case(I32([-2]), np.float32(1))),
    "ensure_shape: another size": ("EnsureShape", Case(X, shape=[3, None])),
    "check_numerics: nan": ("CheckNumerics", Case(X * np.nan, message="x")),
    "cast: text to a number": ("Cast", Case(["1"], DstT=dtypes.int32)),
    "cast: a number to text": ("Cast", Case(X, DstT=dtypes.string)),
    "bitcast: last dimension": ("Bitcast", Case(X, type=dtypes.float64)),
    "bitcast: a scalar": ("Bitcast", Case(np.float32(1), type=dtypes.float64)),
    "broadcast: shapes": ("BroadcastArgs", Case(I32([2]), I32([3]))),
    "broadcast gradient: shapes": ("BroadcastGradientArgs", Case(I32([2]), I32([3]))),
    "reshape: too few": ("Reshape", Case(X, I32([5]))),
    "reshape: two unknown": ("Reshape", Case(X, I32([-1, -1]))),
    "reshape: less than -1": ("Reshape", Case(X, I32([-2, -3]))),
    "reshape: no divisor": ("Reshape", Case(X, I32([4, -1]))),
    "reshape: 0 times unknown": ("Reshape", Case(X, I32([0, -1]))),
    "expand_dims: axis": ("ExpandDims", Case(X, I32(3))),
    "expand_dims: two axes": ("ExpandDims", Case(X, I32([0, 1]))),
    "squeeze: a size of 2": ("Squeeze", Case(X, squeeze_dims=[0])),
    "squeeze: axis": ("Squeeze", Case(X, squeeze_dims=[2])),
    "broadcast_to: size": ("BroadcastTo", Case(X, I32([2, 4]))),
    "broadcast_to: smaller rank": ("BroadcastTo", Case(X, I32([3]))),
    "tile: too few": ("Tile", Case(X, I32([2]))),
    "tile: negative": ("Tile", Case(X, I32([2, -1]))),
    "pad: too few rows": ("Pad", Case(X, I32([[0, 0]]))),
    "pad: too many columns": ("Pad", Case(X, I32([[0, 0, 0], [0, 0, 0]]))),
    "pad: negative": ("Pad", Case(X, I32([[0, -1], [0, 0]]))),
    "pad: a vector to pad with": ("PadV2", Case(X, I32([[0, 1], [0, 0]]), X[0])),
    "mirror_pad: too much": ("MirrorPad", Case(X, I32([[2, 0], [0, 0]]), mode="REFLECT")),
    "mirror_pad: too much after": ("MirrorPad", Case(X, I32([[0, 3], [0, 0]]), mode="SYMMETRIC")),
    "concat: axis": ("ConcatV2", Case([X, X], I32(2))),
    "concat: another size": ("ConcatV2", Case([X, X.T], I32(0))),
    "concat: another rank": ("ConcatV2", Case([X, X[0]], I32(0))),
    "concat: scalars": ("ConcatV2", Case([np.float32(1), np.float32(2)], I32(0))),
    "concat offset: sizes": ("ConcatOffset", Case(I32(0), [I32([2, 3]), I32([2, 4])])),
    "concat offset: axis": ("ConcatOffset", Case(I32(2), [I32([2, 3]), I32([2, 3])])),
    "split: no divisor": ("Split", Case(I32(1), X, num_split=2)),
    "split: axis": ("Split", Case(I32(2), X, num_split=1)),
    "split: a vector as axis": ("Split", Case(I32([0, 1]), X, num_split=2)),
    "split_v: sum": ("SplitV", Case(X, I32([1, 1]), I32(1), num_split=2)),
    "split_v: two unknown": ("SplitV", Case(X, I32([-1, -1]), I32(1), num_split=2)),
    "split_v: unknown below 0": ("SplitV", Case(X, I32([4, -1]), I32(1), num_split=2)),
    "split_v: too many sizes": ("SplitV", Case(X, I32([1, 1, 1]), I32(1), num_split=2)),
    "pack: shapes": ("Pack", Case([X, X.T])),
    "pack: axis": ("Pack", Case([X, X], axis=3)),
    "unpack: count": ("Unpack", Case(X, num=3)),
    "unpack: axis": ("Unpack", Case(X, num=2, axis=2)),
    "unpack: a scalar": ("Unpack", Case(np.float32(1), num=1)),
    "transpose: too short": ("Transpose", Case(X, I32([0]))),
    "transpose: twice": ("Transpose", Case(X, I32([0, 0]))),
    "transpose: axis": ("Transpose", Case(X, I32([0, 2]))),
    "invert_permutation: twice": ("InvertPermutation", Case(I32([0, 0]))),
    "invert_permutation: range": ("InvertPermutation", Case(I32([0, 2]))),
    "invert_permutation: negative": ("InvertPermutation", Case(I32([0, -1]))),
    "reverse: flags": ("Reverse", Case(X, np.array([True]))),
    "reverse: axis": ("ReverseV2", Case(X, I32([2]))),
    "reverse: twice": ("ReverseV2", Case(X, I32([1, -1]))),
    "reverse_sequence: length": ("ReverseSequence", Case(X, I32([1, 4]), seq_dim=1)),
    "reverse_sequence: negative": ("ReverseSequence", Case(X, I32([1, -1]), seq_dim=1)),
    "reverse_sequence: count": ("ReverseSequence", Case(X, I32([1]), seq_dim=1)),
    "reverse_sequence: axis": ("ReverseSequence", Case(X, I32([1, 1]), seq_dim=2)),
    "reverse_sequence: same axis": ("ReverseSequence", Case(X, I32([1, 1]), seq_dim=0)),
    "diag: a scalar": ("Diag", Case(np.float32(1))),
    "diag_part: odd rank": ("DiagPart", Case(X[0])),
    "diag_part: no repeat": ("DiagPart", Case(X)),
    "matrix_diag: a scalar": ("MatrixDiag", Case(np.float32(1))),
    "matrix_diag_part: a vector": ("MatrixDiagPart", Case(X[0])),
    "matrix_set_diag: length": ("MatrixSetDiag", Case(X, X[0])),
    "matrix_band_part: lower": ("MatrixBandPart", Case(X, I32(3), I32(0))),
    "matrix_band_part: upper": ("MatrixBandPart", Case(X, I32(0), I32(4))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_array_op_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.OpError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    assert_agrees(tf, op, *case.inputs, **case.attrs)
