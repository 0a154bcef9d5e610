"""Kernels of the family `math_reduce` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, axes, few_examples, index_types, shapes, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import FLOATS, NUMBERS, REALS

pytestmark = pytest.mark.oracle

# TensorFlow 2.21 has no kernel of these on a CPU.
NO_MEAN = (dtypes.uint32, dtypes.uint64)


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def of(types, **options):
    return tensors(st.sampled_from(types), **options)


@st.composite
def reduction(draw, types, low=-8, high=8):
    value = draw(of(types, shape=shapes(max_rank=4, max_size=5), low=low, high=high))
    chosen = [axis for axis in range(value.ndim) if draw(st.booleans())]
    named = [axis - draw(st.sampled_from([0, value.ndim])) for axis in chosen]
    index = draw(index_types())
    scalar = len(named) == 1 and draw(st.booleans())
    axes_input = np.array(named[0] if scalar else named, index)
    return Case(value, axes_input, keep_dims=draw(st.booleans()))


@st.composite
def mean(draw):
    case = draw(reduction([t for t in NUMBERS if t not in NO_MEAN]))
    # A mean of no integers divides by zero in TensorFlow, and ends the process; one of no complex
    # numbers is 0 there, and nan here, as one of no floats is in both.
    if case.inputs[0].size == 0 and case.inputs[0].dtype.kind in "iuc":
        return Case(np.ones((2, 2), case.inputs[0].dtype), np.int32([0]))
    return case


@st.composite
def position(draw):
    # Few different numbers, so that the first of several equal ones must be found.
    value = draw(of((*REALS, dtypes.bool), shape=shapes(min_rank=1, min_size=1), low=-1, high=1))
    kinds = [dtypes.int32, dtypes.int64]
    return Case(value, np.int32(draw(axes(value.ndim))), output_type=draw(st.sampled_from(kinds)))


@st.composite
def running(draw, low=-8, high=8):
    value = draw(of(NUMBERS, shape=shapes(min_rank=1), low=low, high=high))
    axis = draw(index_types())(draw(axes(value.ndim)))
    return Case(value, axis, exclusive=draw(st.booleans()), reverse=draw(st.booleans()))


@st.composite
def add_n(draw):
    dtype, shape = draw(st.sampled_from(NUMBERS)), draw(shapes())
    return Case([draw(tensors(dtype, shape=shape)) for _ in range(draw(st.integers(1, 10)))])


CASES = {
    "Sum": reduction(NUMBERS),
    "Mean": mean(),
    "Prod": reduction(NUMBERS, low=-2, high=2),
    "Max": reduction(REALS),
    "Min": reduction(REALS),
    "All": reduction([dtypes.bool]),
    "Any": reduction([dtypes.bool]),
    "ArgMax": position(),
    "ArgMin": position(),
    "Cumsum": running(),
    "Cumprod": running(-2, 2),
    "AddN": add_n(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(50)
@given(data=st.data())
def test_a_reduction_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    assert_agrees(tf, op, *case.inputs, **case.attrs, rtol=_rtol(case))


def _rtol(case):
    # TensorFlow sums half precision in half precision, with a rounding per element.
    value = case.inputs[0][0] if isinstance(case.inputs[0], list) else case.inputs[0]
    return {"float16": 1e-2, "bfloat16": 6e-2}.get(value.dtype.name)


I32 = np.int32
X = np.arange(6, dtype=np.float32).reshape(2, 3)
REFUSED = {
    "sum: axis": ("Sum", Case(X, I32([2]))),
    "sum: negative axis": ("Sum", Case(X, I32(-3))),
    "sum: twice": ("Sum", Case(X, I32([1, -1]))),
    "max: twice": ("Max", Case(X, I32([0, 0]))),
    "all: axis": ("All", Case(X > 1, I32([5]))),
    "argmax: axis": ("ArgMax", Case(X, I32(2))),
    "argmax: axes": ("ArgMax", Case(X, I32([0]))),
    "argmax: nothing there": ("ArgMax", Case(X[:0], I32(0))),
    "argmin: a scalar": ("ArgMin", Case(np.float32(1), I32(0))),
    "cumsum: axis": ("Cumsum", Case(X, I32(2))),
    "cumsum: axes": ("Cumsum", Case(X, I32([0, 1]))),
    "cumprod: a scalar": ("Cumprod", Case(np.float32(1), I32(0))),
    "add_n: shapes": ("AddN", Case([X, X.T])),
    "add_n: no broadcasting": ("AddN", Case([X, X[:1]])),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_reduction_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.OpError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    assert_agrees(tf, op, *case.inputs, **case.attrs)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min", "Prod"])
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_a_reduction_of_nan_and_infinities_is_tensorflows(tf, op, dtype):
    values = np.array([[1, np.nan, 3], [1, np.inf, 3], [1, -np.inf, np.inf]], dtype.as_numpy_dtype)
    assert_agrees(tf, op, values, I32(1))


def test_integers_wrap_around_as_in_tensorflow(tf):
    for op in ("Sum", "Prod", "Mean"):
        assert_agrees(tf, op, np.int8([[100, 100], [-100, -101]]), I32(1))
    assert_agrees(tf, "Cumsum", np.uint8([200, 100, 7]), I32(0))
