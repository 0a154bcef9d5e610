"""Kernels of the family `indexing` beside TensorFlow's."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, axes, few_examples, index_types, shapes, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import NUMBERS

pytestmark = pytest.mark.oracle

ANY = (*NUMBERS, dtypes.bool, dtypes.string)
POD = (*NUMBERS, dtypes.bool)


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def of(types, **options):
    return tensors(st.sampled_from(types), **options)


@st.composite
def indices(draw, bound, shape=None, low=0):
    """Indices below `bound`, of any shape; none where there is nothing to index."""
    wanted = draw(shapes(max_rank=2)) if shape is None else shape
    if bound <= low and 0 not in wanted:
        wanted = (0, *wanted)
    kind = dtypes.as_dtype(draw(index_types()))
    return draw(tensors(kind, shape=wanted, low=low, high=max(bound - 1, low)))


@st.composite
def slices(draw):
    value = draw(of(ANY, shape=shapes(max_rank=4)))
    index = draw(index_types())
    begin = [draw(st.integers(0, size)) for size in value.shape]
    size = [
        draw(st.integers(-1, whole - first))
        for whole, first in zip(value.shape, begin, strict=True)
    ]
    return Case(value, np.array(begin, index), np.array(size, index))


@st.composite
def strided(draw, rank):
    """Begins, ends and strides of some items, and masks; also for axes that are not there."""
    count = draw(st.integers(0, rank + 1))
    bounds = st.lists(st.integers(-6, 6), min_size=count, max_size=count)
    strides = draw(
        st.lists(st.sampled_from([1, 1, 1, 2, 3, -1, -2]), min_size=count, max_size=count)
    )
    mask = st.integers(0, (1 << count) - 1)
    ellipsis = draw(st.sampled_from([0, *(1 << i for i in range(count))]))
    masks = {
        "begin_mask": draw(mask),
        "end_mask": draw(mask),
        "ellipsis_mask": ellipsis,
        "new_axis_mask": draw(mask) & draw(mask),
        "shrink_axis_mask": draw(mask) & draw(mask),
    }
    index = draw(index_types())
    vectors = [np.array(values, index) for values in (draw(bounds), draw(bounds), strides)]
    return vectors, masks


@st.composite
def strided_slice(draw):
    value = draw(of(ANY, shape=shapes(min_size=1)))
    vectors, masks = draw(strided(value.ndim))
    return Case(value, *vectors, **masks)


@st.composite
def strided_slice_grad(draw):
    dtype, shape = draw(st.sampled_from(POD)), draw(shapes(min_rank=1, min_size=1))
    vectors, masks = draw(strided(len(shape)))
    value = np.zeros(shape, dtype.as_numpy_dtype)
    try:
        (sliced,) = kernel_driver.run("StridedSlice", value, *vectors, **masks)
        dy = draw(tensors(dtype, shape=sliced.shape))
    except errors.InvalidArgumentError:
        dy = value
    return Case(np.array(shape, vectors[0].dtype), *vectors, dy, **masks)


@st.composite
def gather(draw):
    params = draw(of(ANY, shape=shapes(min_rank=1)))
    return Case(params, draw(indices(params.shape[0])))


@st.composite
def gather_v2(draw):
    params = draw(of(ANY, shape=shapes(min_rank=1, max_rank=4)))
    axis = draw(axes(params.ndim))
    return Case(params, draw(indices(params.shape[axis])), np.int32(axis))


@st.composite
def gather_in_batches(draw):
    params = draw(of(POD, shape=shapes(min_rank=2, max_rank=4, min_size=1)))
    batch = draw(st.integers(1, params.ndim - 1))
    axis = draw(st.integers(batch, params.ndim - 1))
    shape = params.shape[:batch] + draw(shapes(max_rank=2))
    return Case(
        params,
        draw(indices(params.shape[axis], shape)),
        np.int32(axis - draw(st.sampled_from([0, params.ndim]))),
        batch_dims=batch - draw(st.sampled_from([0, len(shape)])),
    )


@st.composite
def index_vectors(draw, shape, least=0):
    depth = draw(st.integers(least, len(shape)))
    lead = draw(shapes(least, max_rank=2, min_size=1, max_size=3))
    if 0 in shape[:depth]:
        lead = (0, *lead)
    index = draw(index_types())
    vectors = np.zeros((*lead, depth), index)
    for axis in range(depth):
        vectors[..., axis] = draw(
            tensors(dtypes.as_dtype(index), lead, low=0, high=max(shape[axis] - 1, 0))
        )
    return vectors


@st.composite
def gather_nd(draw):
    params = draw(of(ANY, shape=shapes(min_rank=1, min_size=1)))
    return Case(params, draw(index_vectors(params.shape)))


@st.composite
def scatter_nd(draw):
    shape = draw(shapes(min_rank=1, min_size=1))
    vectors = draw(index_vectors(shape, least=1))
    updates = draw(of(ANY, shape=(*vectors.shape[:-1], *shape[vectors.shape[-1] :])))
    return Case(vectors, updates, np.array(shape, vectors.dtype))


@st.composite
def select(draw):
    dtype, shape = draw(st.sampled_from(ANY)), draw(shapes())
    choices = [(), shape, shape[:1]] if shape else [()]
    condition = draw(tensors(dtypes.bool, shape=draw(st.sampled_from(choices))))
    return Case(condition, *(draw(tensors(dtype, shape=shape)) for _ in "te"))


@st.composite
def select_v2(draw):
    dtype, shape = draw(st.sampled_from(ANY)), draw(shapes())
    own = [
        [draw(st.sampled_from([size, 1])) for size in shape][draw(st.integers(0, 1)) :]
        for _ in range(3)
    ]
    return Case(
        draw(tensors(dtypes.bool, shape=own[0])),
        draw(tensors(dtype, shape=own[1])),
        draw(tensors(dtype, shape=own[2])),
    )


@st.composite
def one_hot(draw):
    kind = draw(st.sampled_from([dtypes.uint8, dtypes.int8, dtypes.int32, dtypes.int64]))
    numbers = draw(tensors(kind, low=-2, high=5))
    dtype = draw(st.sampled_from(ANY))
    on, off = (draw(tensors(dtype, shape=())) for _ in range(2))
    depth = np.int32(draw(st.integers(0, 4)))
    return Case(numbers, depth, on, off, axis=draw(st.integers(-1, numbers.ndim)))


@st.composite
def dynamic_partition(draw):
    count = draw(st.integers(1, 4))
    data = draw(of(ANY))
    lead = data.shape[: draw(st.integers(0, data.ndim))]
    partitions = draw(tensors(dtypes.int32, shape=lead, low=0, high=count - 1))
    return Case(data, partitions, num_partitions=count)


@st.composite
def dynamic_stitch(draw):
    # Without gaps, which TensorFlow does not fill.
    rows = draw(st.integers(1, 6))
    order = np.array(draw(st.permutations(range(rows))), np.int32)
    if draw(st.booleans()):
        order = np.concatenate([order, draw(tensors(dtypes.int32, [2], low=0, high=rows - 1))])
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=2)))
    numbers = np.split(order, cuts)
    dtype, row_shape = draw(st.sampled_from(ANY)), draw(shapes(max_rank=2))
    if len(numbers[0]) == 1 and draw(st.booleans()):
        numbers[0] = numbers[0].reshape(())
    data = [draw(tensors(dtype, shape=(*n.shape, *row_shape))) for n in numbers]
    return Case(numbers, data)


@st.composite
def vector(draw, types, **attrs):
    out_idx = draw(st.sampled_from([dtypes.int32, dtypes.int64]))
    return Case(draw(of(types, shape=shapes(1, 1, max_size=8), low=-2, high=2)), out_idx=out_idx)


@st.composite
def list_diff(draw):
    dtype = draw(st.sampled_from([*NUMBERS[:12], dtypes.string]))
    x, y = (draw(tensors(dtype, shapes(1, 1, max_size=8), low=-2, high=2)) for _ in "xy")
    return Case(x, y, out_idx=draw(st.sampled_from([dtypes.int32, dtypes.int64])))


WHERE = [t for t in POD if t not in (dtypes.float16, dtypes.uint32, dtypes.uint64)]
UNIQUE = [t for t in ANY if not t.is_complex]
CASES = {
    "Slice": slices(),
    "StridedSlice": strided_slice(),
    "StridedSliceGrad": strided_slice_grad(),
    "Gather": gather(),
    "GatherV2": gather_v2() | gather_in_batches(),
    "GatherNd": gather_nd(),
    "ScatterNd": scatter_nd(),
    "Where": of(WHERE, shape=shapes(min_rank=1), low=-1, high=1).map(Case),
    "Select": select(),
    "SelectV2": select_v2(),
    "OneHot": one_hot(),
    "DynamicPartition": dynamic_partition(),
    "DynamicStitch": dynamic_stitch(),
    "Unique": vector(UNIQUE),
    "UniqueWithCounts": vector(UNIQUE),
    "ListDiff": list_diff(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(50)
@given(data=st.data())
def test_an_indexing_op_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    assert_agrees(tf, op, *case.inputs, **case.attrs)


I32 = np.int32
X = np.arange(6, dtype=np.float32).reshape(2, 3)
T, F = np.array(True), np.array(False)
REFUSED = {
    "slice: begin": ("Slice", Case(X, I32([3, 0]), I32([0, 0]))),
    "slice: negative begin": ("Slice", Case(X, I32([-1, 0]), I32([0, 0]))),
    "slice: size": ("Slice", Case(X, I32([1, 0]), I32([2, 1]))),
    "slice: negative size": ("Slice", Case(X, I32([0, 0]), I32([-2, 1]))),
    "slice: too few": ("Slice", Case(X, I32([0]), I32([1]))),
    "strided: stride of 0": ("StridedSlice", Case(X, I32([0]), I32([1]), I32([0]))),
    "strided: too many": ("StridedSlice", Case(X, *[I32([1, 1, 1])] * 3)),
    "strided: lengths": ("StridedSlice", Case(X, I32([0]), I32([1]), I32([1, 1]))),
    "strided: an index": (
        "StridedSlice",
        Case(X, I32([2]), I32([3]), I32([1]), shrink_axis_mask=1),
    ),
    "strided: an index backwards": (
        "StridedSlice",
        Case(X, I32([1]), I32([0]), I32([-1]), shrink_axis_mask=1),
    ),
    "strided: two ellipses": (
        "StridedSlice",
        Case(X, *[I32([1, 1])] * 3, ellipsis_mask=3),
    ),
    "strided grad: shape": (
        "StridedSliceGrad",
        Case(I32([2, 3]), I32([0]), I32([1]), I32([1]), X),
    ),
    "gather: too large": ("Gather", Case(X, I32([0, 2]))),
    "gather: negative": ("Gather", Case(X, I32([[0, -1]]))),
    "gather: a scalar": ("Gather", Case(np.float32(1), I32([0]))),
    "gather: axis": ("GatherV2", Case(X, I32([0]), I32(2))),
    "gather: an axis too large": ("GatherV2", Case(X, I32([3]), I32(1))),
    "gather: no rows": ("GatherV2", Case(X[:0], I32([0]), I32(0))),
    "gather: batch and axis": ("GatherV2", Case(X, I32([[0], [0]]), I32(0), batch_dims=1)),
    "gather: batches": ("GatherV2", Case(X, I32([[0]]), I32(1), batch_dims=1)),
    "gather_nd: outside": ("GatherNd", Case(X, I32([[0, 3]]))),
    "gather_nd: negative": ("GatherNd", Case(X, I32([[-1, 0]]))),
    "gather_nd: too long": ("GatherNd", Case(X, I32([[0, 0, 0]]))),
    "gather_nd: a scalar": ("GatherNd", Case(X, I32(0))),
    "scatter_nd: outside": ("ScatterNd", Case(I32([[2]]), np.float32([1]), I32([2]))),
    "scatter_nd: updates": ("ScatterNd", Case(I32([[1]]), np.float32([1, 2]), I32([2]))),
    "scatter_nd: too long": ("ScatterNd", Case(I32([[1, 1]]), np.float32([1]), I32([2]))),
    "select: shapes": ("Select", Case(T, X, X.T)),
    "select: rows": ("Select", Case(np.array([True]), X, X)),
    "select: scalars": ("Select", Case(np.array([True]), np.float32(1), np.float32(2))),
    "select_v2: shapes": ("SelectV2", Case(np.array([True, False]), X, X)),
    "one_hot: depth": ("OneHot", Case(I32([1]), I32(-1), np.float32(1), np.float32(0))),
    "one_hot: depth of a vector": (
        "OneHot",
        Case(I32([1]), I32([1, 2]), np.float32(1), np.float32(0)),
    ),
    "one_hot: axis": ("OneHot", Case(I32([1]), I32(2), np.float32(1), np.float32(0), axis=2)),
    "partition: number": ("DynamicPartition", Case(X, I32([0, 2]), num_partitions=2)),
    "partition: negative": ("DynamicPartition", Case(X, I32([0, -1]), num_partitions=2)),
    "partition: shape": ("DynamicPartition", Case(X, I32([0]), num_partitions=2)),
    "stitch: negative": ("DynamicStitch", Case([I32([0, -1])], [X])),
    "stitch: shape": ("DynamicStitch", Case([I32([0])], [X])),
    "stitch: rows": ("DynamicStitch", Case([I32([0, 1]), I32([2, 3, 4])], [X, X.T])),
    "unique: a matrix": ("Unique", Case(X)),
    "list_diff: a matrix": ("ListDiff", Case(X, X[0])),
    "list_diff: another matrix": ("ListDiff", Case(X[0], X)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_indexing_op_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.OpError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    assert_agrees(tf, op, *case.inputs, **case.attrs)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("GatherNd", (X, I32([[0, 1], [2, 0], [1, -1]]))),
        ("ScatterNd", (I32([[0], [2], [-1]]), np.float32([1, 2, 3]), I32([2]))),
    ],
)
def test_bad_index_vectors_can_be_ignored(tf, op, inputs):
    assert_agrees(tf, op, *inputs, bad_indices_policy="IGNORE")


def test_every_index_of_a_vector_slices_as_in_tensorflow(tf):
    bounds = [-4, -3, -1, 0, 1, 3, 4]
    value = np.arange(3, dtype=np.float32)
    for begin, end, stride in itertools.product(bounds, bounds, [1, 2, -1, -3]):
        assert_agrees(tf, "StridedSlice", value, I32([begin]), I32([end]), I32([stride]))
