"""From the arguments of an op function to an operation."""

import numpy as np
import pytest

from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve_core import dtypes
from paramserve_core.dtypes import float32, float64, int32, int64
from paramserve_core.errors import NotFoundError
from paramserve_core.shapes import TensorShape


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as graph:
        yield graph


def variable(dtype="float32"):
    return apply_op("VariableV2", "v", shape=[2], dtype=dtype)


def test_the_answer_has_the_form_of_the_ops_outputs():
    assert isinstance(apply_op("NoOp"), Operation)
    assert isinstance(apply_op("Neg", x=1.0), Tensor)
    parts = apply_op("Split", split_dim=0, value=[1, 2], num_split=2)
    assert [t.name for t in parts] == ["Split:0", "Split:1"]
    loss, backprop = apply_op(
        "SoftmaxCrossEntropyWithLogits", features=[[1.0, 2.0]], labels=[[1.0, 0.0]]
    )
    assert (loss.shape, backprop.shape) == (TensorShape([1]), TensorShape([1, 2]))


def test_an_empty_list_of_outputs_is_a_list():
    assert apply_op("Unpack", value=np.zeros([0, 2]), num=0) == []


def test_values_become_constants_in_the_scope_of_the_op(graph):
    total = apply_op("Add", "total", x=1.0, y=[2.0, 3.0])
    assert [op.name for op in graph.get_operations()] == ["total/x", "total/y", "total"]
    assert total.shape == TensorShape([2])


def test_a_type_follows_from_the_first_tensor_that_has_one():
    x = convert_to_tensor([1.0], float64)
    assert apply_op("Add", x=x, y=1).dtype is float64
    packed = apply_op("Pack", values=[[1], x])
    assert packed.dtype is float64
    assert packed.op.get_attr("N") == 2


def test_a_reference_is_read_where_a_value_is_wanted():
    v = variable()
    assert v.dtype is float32.as_ref
    copy = apply_op("Identity", input=v)
    assert (copy.dtype, copy.op.get_attr("T")) == (float32, float32)


def test_a_default_type_is_preferred_for_values_without_a_type():
    indices = apply_op("ArgMax", input=[[1.0, 2.0]], dimension=0)
    assert indices.op.get_attr("Tidx") is int32
    assert indices.dtype is int64


def test_attributes_have_their_defaults_and_the_order_of_the_definition():
    x = apply_op("MatMul", a=[[1.0]], b=[[2.0]], transpose_b=True)
    attrs = dict(x.op.attrs)
    assert (attrs["transpose_a"], attrs["transpose_b"]) == (False, True)
    assert list(attrs) == list(x.op.definition.attrs)


def test_none_stands_for_an_attribute_that_is_not_given():
    assert apply_op("Squeeze", input=[[1.0]], squeeze_dims=None).shape == TensorShape([])


def test_a_list_of_types_follows_from_the_tensors():
    op = apply_op("Assert", condition=True, data=[1.0, 2, "text"])
    assert op.get_attr("T") == [float32, int32, dtypes.string]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: apply_op("Nope"), NotFoundError, "Op type not registered 'Nope'"),
        (lambda: apply_op("Neg"), TypeError, "No argument for input x of Neg"),
        (lambda: apply_op("Neg", x=1.0, z=1), TypeError, "Neg takes no argument z"),
        (lambda: apply_op("Placeholder"), TypeError, "No argument for attr dtype of Placeholder"),
        (
            lambda: apply_op("Add", x=1.0, y=convert_to_tensor(1)),
            TypeError,
            "Input 'y' of 'Add' Op has type int32 that does not match type float32 of argument 'x'",
        ),
        (
            lambda: apply_op("MatMul", a=[[True]], b=[[True]]),
            TypeError,
            "'a' of 'MatMul' has DataType bool not in list of allowed values: .*float32",
        ),
        (lambda: apply_op("Add", x=1, y="a"), TypeError, "Expected int32 passed to parameter 'y'"),
        (lambda: apply_op("Neg", x=None), ValueError, "None is no value for a tensor"),
        (lambda: apply_op("Pack", values=[]), ValueError, "length 0 shorter than minimum length 1"),
        (lambda: apply_op("Pack", values=1), TypeError, "Expected list for 'values' argument"),
        (
            lambda: apply_op("Pack", values=[np.float32(1), np.int64(1)]),
            TypeError,
            r"have types \[float32, int64\] that don't all match",
        ),
        (
            lambda: apply_op("Assign", ref=1.0, value=1.0),
            TypeError,
            "requires that input 'ref' be a mutable tensor",
        ),
        (
            lambda: apply_op("Assert", condition=True, data=[1], T=["int32", "float32"]),
            ValueError,
            "'data' of 'Assert' has 1 tensors, its types are 2",
        ),
        (
            lambda: apply_op("Pack", values=[convert_to_tensor(1.0), "a"]),
            TypeError,
            "must all be convertible to one type",
        ),
        (
            lambda: apply_op("RefMerge", inputs=[1.0, 2.0]),
            TypeError,
            "requires that input 'inputs' be a mutable tensor",
        ),
        (
            lambda: apply_op("DynamicStitch", indices=[[0], [1]], data=[[1.0]]),
            ValueError,
            "length 1 must match length 2 of the others",
        ),
        (lambda: apply_op("Add", x=1.0, y=None), ValueError, "None is no value for a tensor"),
        (
            lambda: apply_op("LogicalNot", x=convert_to_tensor(1.0)),
            TypeError,
            "has type float32 that does not match expected type of bool",
        ),
        (
            lambda: apply_op("Neg", x=convert_to_tensor(1.0), T="int32"),
            TypeError,
            "has type float32 that does not match the attribute T=int32",
        ),
        (lambda: apply_op("MatMul", a=[[1.0]], b=[[1.0], [1.0]]), ValueError, "MatMul"),
        (lambda: apply_op("Split", split_dim=0, value=[1], num_split=0), ValueError, "at least 1"),
    ],
)
def test_a_call_that_cannot_be_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_refused_call_adds_no_operation_of_its_type(graph):
    with pytest.raises(ValueError, match="MatMul"):
        apply_op("MatMul", a=[[1.0]], b=[[1.0], [1.0]])
    assert {op.type for op in graph.get_operations()} == {"Const"}


def test_an_op_is_added_to_the_graph_of_its_inputs():
    x = convert_to_tensor(1.0)
    with Graph().as_default() as other:
        assert apply_op("Neg", x=x).graph is x.graph
        assert other.get_operations() == []
        y = convert_to_tensor(1.0)
        with pytest.raises(ValueError, match="must be from the same graph"):
            apply_op("Add", x=x, y=y)


def test_an_assignment_takes_a_variable_and_checks_its_type():
    v = variable()
    assert apply_op("Assign", ref=v, value=[1, 2]).dtype is float32.as_ref
    with pytest.raises(TypeError, match="does not match type float32 of argument 'ref'"):
        apply_op("Assign", ref=v, value=convert_to_tensor([1, 2]))
    with pytest.raises(ValueError, match="Assign"):
        apply_op("Assign", ref=v, value=[1.0, 2.0, 3.0])
