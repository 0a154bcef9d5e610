"""Kernels of the family `math_sequence` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, few_examples, index_types, shapes, tensors
from paramserve_core import dtypes, errors

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


@st.composite
def ranges(draw):
    kind = draw(st.sampled_from([np.int32, np.int64, np.float32, np.float64]))
    # Tenths: a float's multiples of them miss the limit now above and now below.
    scale = 1 if issubclass(kind, np.integer) else 10
    start, limit = (kind(draw(st.integers(-40, 40)) / scale) for _ in range(2))
    delta = kind(draw(st.integers(1, 15)) / scale)
    return Case(start, limit, delta if start <= limit else -delta)


@st.composite
def lin_space(draw):
    kind = draw(st.sampled_from([np.float32, np.float64]))
    ends = (kind(draw(st.integers(-99, 99)) / 10) for _ in range(2))
    return Case(*ends, draw(index_types())(draw(st.integers(1, 9))))


@st.composite
def bincount(draw):
    arr = draw(tensors(dtypes.int32, shapes(1, 1, max_size=20), low=0, high=6))
    kind = draw(st.sampled_from([dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64]))
    weights = draw(tensors(kind, draw(st.sampled_from([(0,), arr.shape]))))
    return Case(arr, np.int32(draw(st.integers(1, 8))), weights)


CASES = {"Range": ranges(), "LinSpace": lin_space(), "Bincount": bincount()}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(100)
@given(data=st.data())
def test_a_sequence_op_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    # Where TensorFlow adds up steps, 0 comes out as a small remainder.
    atol = {"float32": 1e-5, "float64": 1e-13}.get(case.inputs[0].dtype.name, 0)
    assert_agrees(tf, op, *case.inputs, **case.attrs, atol=atol)


I32, F32 = np.int32, np.float32
REFUSED = {
    "range: no step": ("Range", Case(I32(0), I32(1), I32(0))),
    "range: the wrong way": ("Range", Case(I32(0), I32(1), I32(-1))),
    "range: backwards": ("Range", Case(F32(1), F32(0), F32(1))),
    "range: to nan": ("Range", Case(F32(1), F32(np.nan), F32(1))),
    "range: to infinity": ("Range", Case(F32(1), F32(np.inf), F32(1))),
    "range: of a vector": ("Range", Case(I32([0, 1]), I32(1), I32(1))),
    "lin_space: no numbers": ("LinSpace", Case(F32(0), F32(1), I32(0))),
    "lin_space: of a vector": ("LinSpace", Case(F32([0]), F32(1), I32(2))),
    "bincount: negative": ("Bincount", Case(I32([1, -1]), I32(2), F32([]))),
    "bincount: size": ("Bincount", Case(I32([1]), I32(-1), F32([]))),
    "bincount: weights": ("Bincount", Case(I32([1, 0]), I32(2), F32([1]))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_sequence_op_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.OpError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    assert_agrees(tf, op, *case.inputs, **case.attrs)
