"""Kernels of the family `random`: the shapes, types and errors of TensorFlow's.

The numbers themselves are others; that they are well distributed is tested without an oracle.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, few_examples, index_types, shapes, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import FLOATS, NUMBERS

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


@st.composite
def floats(draw):
    dims = np.array(draw(shapes()), draw(index_types()))
    return Case(dims, dtype=draw(st.sampled_from(FLOATS)), seed=1)


@st.composite
def integers(draw):
    dims, kind = np.array(draw(shapes()), draw(index_types())), draw(index_types())
    low = draw(st.integers(-5, 5))
    return Case(dims, kind(low), kind(low + draw(st.integers(1, 5))), seed=1)


@st.composite
def gamma(draw):
    alpha = draw(tensors(st.sampled_from([dtypes.float16, dtypes.float32]), low=1, high=5))
    return Case(np.array(draw(shapes()), draw(index_types())), alpha, seed=1)


@st.composite
def multinomial(draw):
    logits = draw(tensors(st.sampled_from(FLOATS), shapes(2, 2, min_size=1)))
    kind = draw(st.sampled_from([dtypes.int32, dtypes.int64]))
    return Case(logits, np.int32(draw(st.integers(0, 4))), output_dtype=kind, seed=1)


CASES = {
    "RandomStandardNormal": floats(),
    "TruncatedNormal": floats(),
    "RandomUniform": floats(),
    "RandomUniformInt": integers(),
    "RandomGamma": gamma(),
    "RandomShuffle": tensors(st.sampled_from([*NUMBERS, dtypes.string])).map(Case),
    "Multinomial": multinomial(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples()
@given(data=st.data())
def test_random_tensors_have_tensorflows_shape_and_type(tf, op, data):
    case = data.draw(CASES[op])
    (ours,) = kernel_driver.run(op, *case.inputs, **case.attrs)
    (theirs,) = kernel_driver.run_oracle(tf, op, *case.inputs, **case.attrs)
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype
    kernel_driver.assert_shapes_fit(op, *case.inputs, outputs=[ours], **case.attrs)


I32, F32 = np.int32, np.float32
X = np.zeros((2, 3), F32)
REFUSED = {
    "normal: a negative size": ("RandomStandardNormal", Case(I32([-1]), dtype=dtypes.float32)),
    "normal: a matrix": ("RandomStandardNormal", Case(I32([[1]]), dtype=dtypes.float32)),
    "uniform: a negative size": ("RandomUniform", Case(I32([2, -1]), dtype=dtypes.float32)),
    "integers: none between": ("RandomUniformInt", Case(I32([1]), I32(3), I32(3))),
    "integers: a vector": ("RandomUniformInt", Case(I32([1]), I32([3]), I32(4))),
    "multinomial: a vector": ("Multinomial", Case(X[0], I32(1))),
    "multinomial: no classes": ("Multinomial", Case(X[:, :0], I32(1))),
    "multinomial: negative": ("Multinomial", Case(X, I32(-1))),
    "multinomial: two counts": ("Multinomial", Case(X, I32([1, 2]))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_random_op_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.OpError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    assert_agrees(tf, op, *case.inputs, **case.attrs)
