"""Kernels of the families `nn` and `nn_softmax` beside TensorFlow's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernel_driver
from kernel_driver import Case, assert_agrees, few_examples, shapes, tensors
from paramserve_core import dtypes, errors
from paramserve_core.opdefs.type_sets import FLOATS, NUMBERS, REALS

pytestmark = pytest.mark.oracle

RECTIFIERS = ("Relu", "Relu6")
CURVES = ("Elu", "Selu", "Softplus", "Softsign")


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


@st.composite
def one(draw, types, **options):
    return Case(draw(tensors(st.sampled_from(types), **options)))


@st.composite
def two(draw, types):
    dtype, shape = draw(st.sampled_from(types)), draw(shapes())
    return Case(draw(tensors(dtype, shape=shape)), draw(tensors(dtype, shape=shape)))


@st.composite
def leaky(draw, count):
    dtype, shape = draw(st.sampled_from(FLOATS)), draw(shapes())
    values = [draw(tensors(dtype, shape=shape)) for _ in range(count)]
    return Case(*values, alpha=draw(st.sampled_from([0.0, 0.2, 1.0, 3.0])))


@st.composite
def biased(draw, formats=("NHWC", "NCHW")):
    dtype = draw(st.sampled_from(NUMBERS))
    value = draw(tensors(dtype, shape=shapes(min_rank=2, max_rank=4)))
    attrs = {"data_format": draw(st.sampled_from(formats))} if formats else {}
    axis = 1 if attrs.get("data_format") == "NCHW" else -1
    return Case(value, draw(tensors(dtype, shape=(value.shape[axis],))), **attrs)


@st.composite
def bias_gradient(draw):
    case = draw(biased())
    return Case(case.inputs[0], **case.attrs)


@st.composite
def ranked(draw, version):
    predictions = draw(tensors(dtypes.float32, shape=shapes(2, 2, min_size=1), low=-2, high=2))
    kind = draw(st.sampled_from([np.int32, np.int64]))
    targets = draw(
        st.lists(
            st.integers(-1, predictions.shape[1]),
            min_size=len(predictions),
            max_size=len(predictions),
        )
    )
    k = draw(st.integers(-1, 5))
    if version == 1:
        return Case(predictions, np.array(targets, kind), k=k)
    return Case(predictions, np.array(targets, kind), kind(k))


@st.composite
def top(draw):
    # Few different numbers, so that equal ones must keep their order.
    value = draw(tensors(st.sampled_from(REALS), shape=shapes(1, 3, max_size=6), low=-2, high=2))
    return Case(value, np.int32(draw(st.integers(0, value.shape[-1]))))


@st.composite
def classified(draw):
    dtype = draw(st.sampled_from(FLOATS))
    rows, classes = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    labels = draw(tensors(dtype, shape=(draw(st.sampled_from([1, rows])), classes), low=0, high=1))
    return Case(draw(tensors(dtype, shape=(rows, classes))), labels)


@st.composite
def labelled(draw):
    rows, classes = draw(st.integers(0, 3)), draw(st.integers(1, 4))
    logits = draw(tensors(st.sampled_from(FLOATS), shape=(rows, classes)))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    return Case(logits, np.array(labels, draw(st.sampled_from([np.int32, np.int64]))))


CASES = {
    **{op: one(REALS) for op in RECTIFIERS},
    **{op: one(FLOATS) for op in CURVES},
    **{f"{op}Grad": two(REALS) for op in RECTIFIERS},
    **{f"{op}Grad": two(FLOATS) for op in CURVES},
    "LeakyRelu": leaky(1),
    "LeakyReluGrad": leaky(2),
    "BiasAdd": biased(),
    "BiasAddV1": biased(formats=()),
    "BiasAddGrad": bias_gradient(),
    "L2Loss": one(FLOATS),
    "InTopK": ranked(1),
    "InTopKV2": ranked(2),
    "TopKV2": top(),
    "Softmax": one(FLOATS, shape=shapes(min_rank=1, min_size=1)),
    "LogSoftmax": one(FLOATS, shape=shapes(min_rank=1, min_size=1)),
    "SoftmaxCrossEntropyWithLogits": classified(),
    "SparseSoftmaxCrossEntropyWithLogits": labelled(),
}


@pytest.mark.slow
@pytest.mark.parametrize("op", CASES)
@few_examples(40)
@given(data=st.data())
def test_an_op_gives_what_tensorflow_gives(tf, op, data):
    case = data.draw(CASES[op])
    half = {"float16": 1e-2, "bfloat16": 6e-2}.get(case.inputs[0].dtype.name)
    assert_agrees(tf, op, *case.inputs, **case.attrs, rtol=half, atol=half or 1e-6)


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 100.0, -100.0, 1e-30, 6.0]


@pytest.mark.parametrize("op", [*RECTIFIERS, *CURVES, "LeakyRelu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_activation_of_special_numbers_is_tensorflows(tf, op, dtype):
    assert_agrees(tf, op, np.array(SPECIAL, dtype), atol=1e-30)


@pytest.mark.parametrize("op", [*RECTIFIERS, *CURVES, "LeakyRelu"])
def test_a_derivative_at_special_numbers_is_tensorflows(tf, op):
    values = np.array(SPECIAL, np.float32)
    assert_agrees(tf, f"{op}Grad", np.ones_like(values), values, atol=1e-30)


LOGITS = np.float32([[1e4, -1e4, 0], [3e38, 3e38, -3e38], [-np.inf, 1, 2], [-np.inf] * 3])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_a_softmax_of_large_logits_is_tensorflows(tf, op):
    assert_agrees(tf, op, LOGITS)


@pytest.mark.parametrize("column", range(3))
def test_a_loss_of_large_logits_is_tensorflows(tf, column):
    labels = np.full(len(LOGITS), column)
    assert_agrees(tf, "SparseSoftmaxCrossEntropyWithLogits", LOGITS, labels)


@pytest.mark.parametrize("column", range(3))
def test_a_loss_is_the_same_from_labels_and_from_their_numbers(column):
    labels = np.full(len(LOGITS), column)
    sparse = kernel_driver.run("SparseSoftmaxCrossEntropyWithLogits", LOGITS, labels)
    dense = kernel_driver.run(
        "SoftmaxCrossEntropyWithLogits", LOGITS, np.eye(3, dtype=np.float32)[labels]
    )
    for ours, other in zip(dense, sparse, strict=True):
        np.testing.assert_array_equal(ours, other)


def test_both_versions_of_top_k_give_the_same():
    # TensorFlow has lost its kernel of the first.
    value = np.int32([[3, 1, 3, 2], [0, 0, 0, 0]])
    for k in range(5):
        first = kernel_driver.run("TopK", value, k=k)
        second = kernel_driver.run("TopKV2", value, np.int32(k))
        for ours, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(ours, other)


def test_a_row_with_a_number_that_is_not_finite_is_in_no_top(tf):
    predictions = np.float32([[1, np.nan, 0], [1, np.inf, 0], [1, 0, -np.inf], [1, 2, 3]])
    for target in range(3):
        assert_agrees(tf, "InTopK", predictions, np.full(4, target, np.int32), k=2)


X = np.arange(6, dtype=np.float32).reshape(2, 3)
I32 = np.int32
REFUSED = {
    "gradient's shape": ("ReluGrad", Case(X, X.T)),
    "elu gradient's shape": ("EluGrad", Case(X, X[:1])),
    "leaky gradient's shape": ("LeakyReluGrad", Case(X, X[:1])),
    "bias of a vector": ("BiasAdd", Case(X[0], X[0])),
    "bias's size": ("BiasAdd", Case(X, X[:, 0])),
    "bias's size, channels first": ("BiasAdd", Case(X, X[:, 0], data_format="NCHW")),
    "bias's rank": ("BiasAdd", Case(X, X)),
    "bias gradient of a vector": ("BiasAddGrad", Case(X[0])),
    "targets' size": ("InTopK", Case(X, I32([0]), k=1)),
    "targets' rank": ("InTopK", Case(X, I32([[0, 1]]), k=1)),
    "predictions' rank": ("InTopKV2", Case(X[0], I32([0, 1, 2]), I32(1))),
    "k's rank": ("InTopKV2", Case(X, I32([0, 1]), I32([1]))),
    "k of a row": ("TopKV2", Case(X, I32(4))),
    "negative k": ("TopKV2", Case(X, I32(-1))),
    "top's k's rank": ("TopKV2", Case(X, I32([1]))),
    "top of a scalar": ("TopKV2", Case(np.float32(1), I32(0))),
    "top's k": ("TopK", Case(X, k=4)),
    "softmax of a scalar": ("Softmax", Case(np.float32(1))),
    "log softmax of a scalar": ("LogSoftmax", Case(np.float32(1))),
    "labels' shape": ("SoftmaxCrossEntropyWithLogits", Case(X, X.T)),
    "logits' rank": ("SoftmaxCrossEntropyWithLogits", Case(X[None], X[None])),
    "sparse labels' rank": ("SparseSoftmaxCrossEntropyWithLogits", Case(X, I32([[0, 1]]))),
    "sparse labels' size": ("SparseSoftmaxCrossEntropyWithLogits", Case(X, I32([0]))),
    "label": ("SparseSoftmaxCrossEntropyWithLogits", Case(X, I32([0, 3]))),
    "negative label": ("SparseSoftmaxCrossEntropyWithLogits", Case(X, I32([0, -1]))),
    "no class": ("SparseSoftmaxCrossEntropyWithLogits", Case(X[:, :0], I32([0, 0]))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_op_refuses_what_tensorflow_refuses(tf, what):
    op, case = REFUSED[what]
    with pytest.raises(errors.InvalidArgumentError):
        kernel_driver.run(op, *case.inputs, **case.attrs)
    with pytest.raises((errors.OpError, LookupError)):
        kernel_driver.run_oracle(tf, op, *case.inputs, **case.attrs)
