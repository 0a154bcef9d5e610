"""What the graph knows of values and shapes before anything runs."""

import numpy as np
import pytest

from paramserve._framework.apply import apply_op
from paramserve._framework.constant_value import (
    constant_value,
    constant_value_as_shape,
    known_value,
)
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.scopes import control_dependencies
from paramserve._framework.shape_inference import _OVERRIDES, RegisterShape
from paramserve_core.dtypes import int64
from paramserve_core.shapes import TensorShape


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as graph:
        yield graph


def placeholder(shape, dtype="float32"):
    return apply_op("Placeholder", dtype=dtype, shape=shape)


def shape_of(x):
    return apply_op("Shape", input=x)


def element(vector, i):
    return apply_op(
        "StridedSlice", input=vector, begin=[i], end=[i + 1], strides=[1], shrink_axis_mask=1
    )


def test_constants_are_known_and_cannot_be_written_to():
    value = constant_value(convert_to_tensor([1, 2]))
    assert value.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        value[0] = 5


def test_what_is_fed_is_not_known():
    x = placeholder([2])
    assert constant_value(x) is None
    assert constant_value(apply_op("Neg", x=x)) is None
    default = apply_op("PlaceholderWithDefault", input=[1.0], shape=[1])
    assert constant_value(default) is None


def test_static_shapes_are_known():
    x = placeholder([2, 3])
    assert constant_value(shape_of(x)).tolist() == [2, 3]
    assert constant_value(apply_op("Size", input=x)) == 6
    assert constant_value(apply_op("Rank", input=placeholder([None, None]))) == 2
    assert constant_value(shape_of(placeholder([None, 3]))) is None
    assert constant_value(apply_op("Rank", input=placeholder(None))) is None
    wide = apply_op("Shape", input=x, out_type=int64)
    assert constant_value(wide).dtype == np.int64
    _, second = apply_op("ShapeN", input=[placeholder([None]), x])
    assert constant_value(second).tolist() == [2, 3]


def test_one_known_size_of_a_shape_is_known():
    shape = shape_of(placeholder([None, 3, 4]))
    assert constant_value(element(shape, 1)) == 3
    assert constant_value(element(shape, 0)) is None
    tail = apply_op("StridedSlice", input=shape, begin=[1], end=[3], strides=[1])
    assert constant_value(tail).tolist() == [3, 4]


def test_what_a_slice_of_a_shape_leaves_open_is_not_known():
    shape = shape_of(placeholder([None, 3]))
    assert constant_value(element(shape_of(placeholder(None)), 0)) is None
    begin = placeholder([1], "int32")
    unknown = apply_op("StridedSlice", input=shape, begin=begin, end=[2], strides=[1])
    assert constant_value(unknown) is None
    assert constant_value_as_shape(unknown).ndims is None
    column = apply_op("StridedSlice", input=shape, begin=[0], end=[0], strides=[1], new_axis_mask=1)
    assert constant_value(column) is None


def test_a_size_that_its_type_cannot_hold_is_not_known():
    assert constant_value(shape_of(placeholder([2**40]))) is None
    wide = apply_op("Shape", input=placeholder([2**40]), out_type=int64)
    assert constant_value(wide).tolist() == [2**40]


def test_small_pure_ops_on_known_values_are_computed():
    total = apply_op("Mul", x=apply_op("Add", x=[1, 2], y=3), y=[[2], [10]])
    assert constant_value(total).tolist() == [[8, 10], [40, 50]]
    left, right = apply_op("BroadcastGradientArgs", s0=[2, 1, 3], s1=[4, 3])
    assert (constant_value(left).tolist(), constant_value(right).tolist()) == ([1], [0])


def test_waiting_does_not_change_a_value():
    with control_dependencies([apply_op("NoOp")]):
        x = apply_op("Neg", x=convert_to_tensor(1))
    assert constant_value(x) == -1


def test_random_and_stateful_ops_are_never_computed():
    assert constant_value(apply_op("RandomUniform", shape=[2], dtype="float32")) is None
    variable = apply_op("VariableV2", shape=[2], dtype="float32")
    assert constant_value(apply_op("Identity", input=variable)) is None


def test_large_results_are_not_computed():
    assert constant_value(apply_op("Fill", dims=[5000], value=1.0)) is None
    assert constant_value(apply_op("Neg", x=np.zeros(5000))) is None
    assert constant_value(apply_op("Fill", dims=[10], value=1.0)).tolist() == [1] * 10


def test_an_error_is_left_to_the_session():
    x = apply_op("Gather", params=[1, 2], indices=[0, 7])
    assert constant_value(x) is None


@pytest.mark.parametrize("count", [10, 300])
def test_a_value_used_many_times_over_is_computed_once(count):
    x = convert_to_tensor(0)
    for _ in range(count):
        x = apply_op("Add", x=x, y=x)
    assert constant_value(x) == (0 if count == 10 else None)


def test_a_value_that_a_program_relied_on_cannot_be_fed(graph):
    x = apply_op("Neg", x=1)
    assert known_value(x) == -1
    assert graph.is_feedable(x)
    assert constant_value(x) == -1
    assert not graph.is_feedable(x)


# Tensors read as shapes.


def test_parts_of_a_shape_may_be_known():
    shape = shape_of(placeholder([None, 3]))
    assert constant_value_as_shape(shape) == TensorShape([None, 3])
    packed = apply_op("Pack", values=[element(shape, 0), element(shape, 1), 5, -1])
    assert constant_value_as_shape(packed) == TensorShape([None, 3, 5, None])
    joined = apply_op("ConcatV2", values=[shape, [7]], axis=0)
    assert constant_value_as_shape(joined) == TensorShape([None, 3, 7])
    cast = apply_op("Cast", x=shape, DstT=int64)
    assert constant_value_as_shape(cast) == TensorShape([None, 3])
    tail = apply_op("StridedSlice", input=cast, begin=[0], end=[1], strides=[1])
    assert constant_value_as_shape(tail) == TensorShape([None])


def test_of_an_unknown_vector_the_rank_may_be_known():
    assert constant_value_as_shape(placeholder([2], "int32")) == TensorShape([None, None])
    assert constant_value_as_shape(placeholder([None], "int32")) == TensorShape(None)
    assert constant_value_as_shape(placeholder(None, "int32")) == TensorShape(None)


def test_a_scalar_is_a_shape_only_if_it_says_that_nothing_is_known():
    assert constant_value_as_shape(convert_to_tensor(-1)) == TensorShape(None)
    with pytest.raises(ValueError, match="a shape must be a vector"):
        constant_value_as_shape(convert_to_tensor(3))
    with pytest.raises(ValueError, match="a shape must be a vector"):
        constant_value_as_shape(convert_to_tensor([[3]]))
    with pytest.raises(ValueError, match="has -2; a dimension is at least 0"):
        constant_value_as_shape(convert_to_tensor([-2]))


def test_shapes_flow_through_computed_shapes():
    x = placeholder([None, 3, 4])
    shape = shape_of(x)
    rows = element(shape, 0)
    size = apply_op("Mul", x=element(shape, 1), y=element(shape, 2))
    flat = apply_op("Reshape", tensor=x, shape=apply_op("Pack", values=[rows, size]))
    assert flat.shape == TensorShape([None, 12])


def test_a_chain_longer_than_one_question_looks_still_has_a_rank():
    shape = shape_of(placeholder([None, 3]))
    for _ in range(1000):
        shape = apply_op("Identity", input=shape)
    assert constant_value_as_shape(shape) == TensorShape([None, None])


# Shape functions of a program.


def test_a_program_may_infer_the_shapes_of_an_op_itself(monkeypatch):
    monkeypatch.delitem(_OVERRIDES, "Neg", raising=False)

    @RegisterShape("Neg")
    def infer(op):
        return [op.inputs[0].shape.with_rank(2)]

    assert apply_op("Neg", x=placeholder(None)).shape == TensorShape([None, None])
    with pytest.raises(KeyError, match="'Neg' is registered already"):
        RegisterShape("Neg")(infer)
    _OVERRIDES["Neg"] = lambda op: []
    with pytest.raises(ValueError, match="answers 0 shapes for 1 outputs"):
        apply_op("Neg", x=1.0)
    del _OVERRIDES["Neg"]
