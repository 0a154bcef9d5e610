"""Kernels of the family `math_product` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, few_examples, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import COMPLEX, FLOATS, REALS

pytestmark = pytest.mark.oracle

# TensorFlow 2.21 has no kernel of its other types on a CPU.
MULTIPLIED = (*FLOATS, dtypes.int32, dtypes.int64, *COMPLEX)


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def sizes(count):
    return st.tuples(*[st.integers(0, 4)] * count)


@st.composite
def matrices(draw):
    rows, inner, columns = draw(sizes(3))
    dtype = draw(st.sampled_from(MULTIPLIED))
    transpose_a, transpose_b = draw(st.booleans()), draw(st.booleans())
    a = draw(tensors(dtype, shape=(inner, rows) if transpose_a else (rows, inner)))
    b = draw(tensors(dtype, shape=(columns, inner) if transpose_b else (inner, columns)))
    return Case(a, b, transpose_a=transpose_a, transpose_b=transpose_b)


@st.composite
def batches(draw, broadcasts):
    rows, inner, columns = draw(sizes(3))
    batch = draw(st.lists(st.integers(1, 3), max_size=2))
    x_batch = y_batch = batch
    if broadcasts:
        x_batch = [draw(st.sampled_from([1, size])) for size in batch]
        y_batch = batch[draw(st.integers(0, len(batch))) :]
    dtype = draw(st.sampled_from(MULTIPLIED))
    adj_x, adj_y = draw(st.booleans()), draw(st.booleans())
    x = draw(tensors(dtype, shape=(*x_batch, *((inner, rows) if adj_x else (rows, inner)))))
    y = draw(tensors(dtype, shape=(*y_batch, *((columns, inner) if adj_y else (inner, columns)))))
    return Case(x, y, adj_x=adj_x, adj_y=adj_y)


@st.composite
def vectors(draw):
    shape = (*draw(st.lists(st.integers(0, 3), max_size=2)), 3)
    dtype = draw(st.sampled_from(REALS))
    return Case(draw(tensors(dtype, shape=shape)), draw(tensors(dtype, shape=shape)))


CASES = {
    "MatMul": matrices(),
    "BatchMatMul": batches(broadcasts=False),
    "BatchMatMulV2": batches(broadcasts=True),
    "Cross": vectors(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(60)
@given(data=st.data())
def test_a_product_is_tensorflows(tf, op, data):
    case = data.draw(CASES[op])
    half = case.inputs[0].dtype.itemsize == 2 and case.inputs[0].dtype.kind != "i"
    # TensorFlow rounds the terms of a cross product, and these may cancel.
    atol = 1.0 if half and op == "Cross" else 1e-4
    assert_agrees(tf, op, *case.inputs, **case.attrs, atol=atol)


X = np.arange(6, dtype=np.float32).reshape(2, 3)
REFUSED = {
    "inner size": ("MatMul", Case(X, X)),
    "inner size, transposed": ("MatMul", Case(X, X, transpose_a=True, transpose_b=True)),
    "a vector": ("MatMul", Case(X, X[0])),
    "a batch": ("MatMul", Case(X[None], X.T)),
    "batches' inner size": ("BatchMatMulV2", Case(X[None], X[None])),
    "batches": ("BatchMatMul", Case(np.ones((2, 1, 1)), np.ones((3, 1, 1)))),
    "batches that do not broadcast": (
        "BatchMatMulV2",
        Case(np.ones((2, 1, 1)), np.ones((3, 1, 1))),
    ),
    "a vector in a batch": ("BatchMatMulV2", Case(X, X[0])),
    "not three": ("Cross", Case(X[:, :2], X[:, :2])),
    "shapes of a cross": ("Cross", Case(X, X[:1])),
    "scalars": ("Cross", Case(np.float32(1), np.float32(1))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_product_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.InvalidArgumentError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    with pytest.raises(errors.OpError):
        kernel_driver.run_oracle(tf, op, *case.inputs, **case.attrs)


def test_a_product_of_many_half_precision_terms_is_rounded_once(tf):
    ones = np.full((1, 4096), 0.1, np.float16)
    assert_agrees(tf, "MatMul", ones, ones, transpose_b=True)
    (product,) = kernel_driver.run("MatMul", ones, ones, transpose_b=True)
    exact = 4096 * float(np.float16(0.1)) ** 2
    assert product.item() == np.float16(exact)


def test_integers_wrap_around(tf):
    large = np.full((1, 2), 1 << 30, np.int32)
    assert_agrees(tf, "MatMul", large, large, transpose_b=True)
