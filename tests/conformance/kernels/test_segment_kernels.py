"""Kernels of the family `math_segment` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, few_examples, index_types, shapes, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import FLOATS, NUMBERS, REALS

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def of(types, **options):
    return tensors(st.sampled_from(types), **options)


@st.composite
def numbers(draw, shape, low, high):
    """Segment numbers; a small range makes long runs, a large one leaves segments empty."""
    kind = dtypes.as_dtype(draw(index_types()))
    return draw(tensors(kind, shape=shape, low=low, high=high))


@st.composite
def segment(draw, types, low=-8, high=8):
    rows = draw(st.integers(1, 24))
    data = draw(of(types, shape=(rows, *draw(shapes(max_rank=2))), low=low, high=high))
    return Case(data, np.sort(draw(numbers((rows,), 0, draw(st.sampled_from([2, 9, 40]))))))


@st.composite
def unsorted_segment(draw, types, low=-8, high=8):
    lead = draw(shapes(max_rank=2, max_size=6))
    data = draw(of(types, shape=lead + draw(shapes(max_rank=2)), low=low, high=high))
    count = draw(st.sampled_from([1, 3, 30]))
    return Case(data, draw(numbers(lead, -1, count - 1)), draw(index_types())(count))


@st.composite
def sparse_segment(draw, types, counted=False):
    data = draw(of(types, shape=(draw(st.integers(1, 5)), *draw(shapes(max_rank=2)))))
    rows = draw(st.integers(1, 12))
    indices = draw(numbers((rows,), 0, len(data) - 1))
    segments = np.sort(draw(numbers((rows,), 0, draw(st.sampled_from([2, 9])))))
    if not counted:
        return Case(data, indices, segments)
    count = int(segments[-1]) + draw(st.integers(1, 3))
    return Case(data, indices, segments, draw(index_types())(count))


@st.composite
def sparse_segment_grad(draw):
    count = draw(st.integers(1, 5))
    rows = draw(st.integers(1, 12))
    segments = np.sort(draw(numbers((rows,), 0, 4)))
    grad = draw(of(FLOATS, shape=(int(segments[-1]) + 1, *draw(shapes(max_rank=2)))))
    return Case(grad, draw(numbers((rows,), 0, count - 1)), segments, np.int32(count))


CASES = {
    "SegmentSum": segment(NUMBERS),
    "SegmentMean": segment(NUMBERS),
    "SegmentProd": segment(NUMBERS, low=-1, high=2),
    "SegmentMax": segment(REALS),
    "SegmentMin": segment(REALS),
    "UnsortedSegmentSum": unsorted_segment(NUMBERS),
    "UnsortedSegmentProd": unsorted_segment(NUMBERS, low=-1, high=2),
    "UnsortedSegmentMax": unsorted_segment(REALS),
    "UnsortedSegmentMin": unsorted_segment(REALS),
    "SparseSegmentSum": sparse_segment(REALS),
    "SparseSegmentMean": sparse_segment(FLOATS),
    "SparseSegmentSqrtN": sparse_segment(FLOATS),
    "SparseSegmentSumWithNumSegments": sparse_segment(REALS, counted=True),
    "SparseSegmentMeanWithNumSegments": sparse_segment(FLOATS, counted=True),
    "SparseSegmentSqrtNWithNumSegments": sparse_segment(FLOATS, counted=True),
    "SparseSegmentSumGrad": sparse_segment_grad(),
    "SparseSegmentMeanGrad": sparse_segment_grad(),
    "SparseSegmentSqrtNGrad": sparse_segment_grad(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(40)
@given(data=st.data())
def test_a_segment_op_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    # Rows are added in another order, and TensorFlow rounds half precision after every row.
    rtol = {"float16": 1e-2, "bfloat16": 8e-2}.get(case.inputs[0].dtype.name)
    atol = {"float16": 5e-2, "bfloat16": 5e-1, "float32": 1e-5, "complex64": 1e-5}
    assert_agrees(
        tf,
        op,
        *case.inputs,
        **case.attrs,
        rtol=rtol,
        atol=atol.get(case.inputs[0].dtype.name, 1e-13),
    )


I32 = np.int32
X = np.arange(6, dtype=np.float32).reshape(2, 3)
REFUSED = {
    "not sorted": ("SegmentSum", Case(X, I32([1, 0]))),
    "negative": ("SegmentMax", Case(X, I32([-1, 0]))),
    "too few numbers": ("SegmentMean", Case(X, I32([0]))),
    "a matrix of numbers": ("SegmentSum", Case(X, I32([[0], [1]]))),
    "unsorted: too large": ("UnsortedSegmentSum", Case(X, I32([0, 2]), I32(2))),
    "unsorted: shape": ("UnsortedSegmentMax", Case(X, I32([0, 1, 1]), I32(2))),
    "unsorted: count": ("UnsortedSegmentSum", Case(X, I32([0, 1]), I32(-1))),
    "unsorted: a vector as count": ("UnsortedSegmentSum", Case(X, I32([0, 1]), I32([2, 2]))),
    "sparse: index": ("SparseSegmentSum", Case(X, I32([2]), I32([0]))),
    "sparse: negative index": ("SparseSegmentMean", Case(X, I32([-1]), I32([0]))),
    "sparse: lengths": ("SparseSegmentSum", Case(X, I32([0, 1]), I32([0]))),
    "sparse: not sorted": ("SparseSegmentSum", Case(X, I32([0, 1]), I32([1, 0]))),
    "sparse: too few segments": (
        "SparseSegmentSumWithNumSegments",
        Case(X, I32([0, 1]), I32([0, 1]), I32(1)),
    ),
    "sparse grad: index": ("SparseSegmentMeanGrad", Case(X, I32([2]), I32([0]), I32(2))),
    "sparse grad: segment": ("SparseSegmentMeanGrad", Case(X, I32([1]), I32([2]), I32(2))),
    "sparse grad: lengths": ("SparseSegmentMeanGrad", Case(X, I32([1]), I32([0, 1]), I32(2))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_segment_op_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.OpError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    assert_agrees(tf, op, *case.inputs, **case.attrs)
