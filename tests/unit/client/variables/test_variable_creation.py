"""What a variable adds to the graph, and where."""

import pytest

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.collections import GraphKeys
from paramserve._ops import array
from paramserve._ops.conditional import cond
from paramserve._ops.random import random_normal
from paramserve._variables.initialization import global_variables_initializer
from paramserve._variables.variable import Variable
from paramserve_core import dtypes
from paramserve_core.shapes import TensorShape


def names(graph):
    return [op.name for op in graph.get_operations()]


def test_a_variable_is_four_ops_of_known_names(graph):
    v = Variable([1.0, 2.0], name="weights")
    assert [(op.name, op.type) for op in graph.get_operations()] == [
        ("weights/initial_value", "Const"),
        ("weights", "VariableV2"),
        ("weights/Assign", "Assign"),
        ("weights/read", "Identity"),
    ]
    assert v.op.name == "weights"
    assert v.initializer.name == "weights/Assign"
    assert v.value().name == "weights/read:0"
    assert v.initial_value.name == "weights/initial_value:0"


def test_a_variable_says_its_name_type_shape_and_graph(graph):
    v = Variable([1.0, 2.0], name="weights")
    assert v.name == "weights:0"
    assert v.dtype is dtypes.float32_ref
    assert v.shape == v.get_shape() == TensorShape([2])
    assert v.graph is graph
    assert v.device == ""
    assert v.trainable
    assert repr(v) == "<paramserve.Variable 'weights:0' shape=(2,) dtype=float32_ref>"


def test_a_tensor_as_initial_value_is_taken_as_it_is():
    value = random_normal([784, 200], stddev=0.35)
    v = Variable(value, name="weights")
    assert v.initial_value is value
    assert v.initializer.inputs[1] is value


def test_a_name_that_is_taken_gets_a_number():
    assert [Variable(0.0, name="w").op.name for _ in range(3)] == ["w", "w_1", "w_2"]
    assert [Variable(0.0).op.name for _ in range(2)] == ["Variable", "Variable_1"]


def test_a_name_scope_is_part_of_the_name():
    with scopes.name_scope("layer"):
        assert Variable(0.0, name="w").name == "layer/w:0"


def test_the_type_asked_for_converts_the_initial_value():
    assert Variable(1, dtype=dtypes.float64).dtype is dtypes.float64_ref
    assert Variable(1).dtype is dtypes.int32_ref
    assert Variable("text").dtype is dtypes.string_ref


def test_the_initializer_and_the_reading_are_beside_the_variable():
    with scopes.device("/job:ps/task:3"):
        v = Variable(0.0, name="w")
    for op in (v.op, v.initializer, v.value().op):
        assert op.device == "/job:ps/task:3"
    assert v.initializer.colocation_groups() == [b"loc:@w"]
    assert v.value().op.colocation_groups() == [b"loc:@w"]


def test_a_caching_device_reads_the_value_there():
    with scopes.device("/job:ps/task:3"):
        v = Variable(0.0, name="w", caching_device="/job:worker/task:1")
    assert v.op.device == v.initializer.device == "/job:ps/task:3"
    assert v.value().op.device == "/job:worker/task:1"


def test_a_container_is_an_attribute_of_the_variable_op():
    with scopes.container("experiment"):
        assert Variable(0.0).op.get_attr("container") == b"experiment"


def test_control_dependencies_around_do_not_hold_the_variable():
    other = apply_op("NoOp")
    with scopes.control_dependencies([other]):
        v = Variable([1.0], name="w")
        inside = array.identity(v)
    for op in (v.op, v.initializer, v.value().op, v.initial_value.op):
        assert op.control_inputs == []
    assert inside.op.control_inputs == [other]


def test_a_variable_made_in_a_branch_is_initialised_outside_of_it(session):
    made = []

    def branch():
        made.append(Variable(5.0, name="inner"))
        made.append(Variable(lambda: array.constant(6.0), dtype=dtypes.float32, name="called"))
        return made[0] + made[1]

    result = cond(array.placeholder_with_default(False, []), branch, lambda: array.constant(0.0))
    assert all(op.op.control_flow is None for v in made for op in (v.ref(), v.value()))
    session.run(global_variables_initializer())
    assert session.run(made) == [5.0, 6.0]
    assert session.run(result) == 0.0


def test_an_initial_value_computed_in_a_branch_is_refused():
    def branch():
        return Variable(array.identity(1.0), name="inner").value()

    with pytest.raises(ValueError, match=r"inner: the initial value.*inside a conditional.*callab"):
        cond(array.constant(True), branch, lambda: array.constant(0.0))


def test_a_callable_that_answers_a_tensor_of_a_branch_is_refused():
    def branch():
        inside = array.identity(1.0)
        return Variable(lambda: inside, dtype=dtypes.float32, name="inner").value()

    with pytest.raises(ValueError, match=r"inner: the initial value.*inside a conditional"):
        cond(array.constant(True), branch, lambda: array.constant(0.0))


def test_a_callable_makes_the_initial_value_under_the_variables_name(graph, session):
    v = Variable(lambda: array.zeros([2]) + 3.0, dtype=dtypes.float32, name="w")
    assert {"w/Initializer/zeros", "w/Initializer/add"} <= set(names(graph))
    assert v.shape == TensorShape([2])
    session.run(v.initializer)
    assert session.run(v).tolist() == [3, 3]


def test_a_callable_of_known_shape_makes_the_value_beside_the_variable():
    with scopes.device("/job:ps/task:2"):
        v = Variable(lambda: random_normal([2]), dtype=dtypes.float32, name="w", expected_shape=[2])
    assert v.initial_value.op.colocation_groups() == [b"loc:@w"]
    assert v.initial_value.device == "/job:ps/task:2"


def test_a_callable_that_breaks_its_promise_of_a_shape_is_refused():
    with pytest.raises(ValueError, match=r"(?s)Assign.*2.*3"):
        Variable(lambda: array.zeros([3]), dtype=dtypes.float32, expected_shape=[2])


def test_a_callable_needs_a_type():
    with pytest.raises(ValueError, match="w: a callable initial_value does not say"):
        Variable(lambda: 1.0, name="w")


def test_an_initial_value_is_needed():
    with pytest.raises(ValueError, match="initial_value must be specified"):
        Variable()


@pytest.mark.parametrize("shape", [None, [None, 2]])
def test_an_initial_value_of_unknown_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"initial_value must have a shape specified.*Placeholder"):
        Variable(array.placeholder(dtypes.float32, shape))


def test_an_initial_value_of_another_type_is_refused():
    with pytest.raises(ValueError, match="float32"):
        Variable(array.zeros([2]), dtype=dtypes.int32)


def test_without_validate_shape_the_shape_is_unknown_and_may_change(session):
    x = array.placeholder(dtypes.float32, [None])
    v = Variable(x, validate_shape=False)
    assert v.shape.ndims is None
    session.run(v.initializer, {x: [1, 2, 3]})
    assert session.run(v).tolist() == [1, 2, 3]
    session.run(v.initializer, {x: [4]})
    assert session.run(v).tolist() == [4]


def test_set_shape_says_more_and_contradicts_nothing():
    v = Variable(array.placeholder(dtypes.float32), validate_shape=False)
    v.set_shape([None, 3])
    assert v.shape.as_list() == v.value().shape.as_list() == [None, 3]
    with pytest.raises(ValueError, match="3"):
        v.set_shape([None, 4])


def test_a_finalized_graph_takes_no_variable(graph):
    graph.finalize()
    with pytest.raises(RuntimeError, match="finalized"):
        Variable(1.0)
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == []


# Collections.


def test_a_variable_is_collected_as_global_and_trainable(graph):
    v, fixed = Variable(0.0), Variable(0.0, trainable=False)
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == [v, fixed]
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == [v]
    assert not fixed.trainable


def test_collections_named_take_the_place_of_the_global_one(graph):
    v = Variable(0.0, collections=["a", "b", GraphKeys.TRAINABLE_VARIABLES])
    assert graph.get_collection("a") == graph.get_collection("b") == [v]
    assert graph.get_collection(GraphKeys.GLOBAL_VARIABLES) == []
    assert graph.get_collection(GraphKeys.TRAINABLE_VARIABLES) == [v]


@pytest.mark.parametrize("collections", ["abc", 3, {"a": 1}])
def test_collections_that_are_no_list_are_refused(collections):
    with pytest.raises(ValueError, match=r"must be a list, tuple, or set. Got"):
        Variable(0.0, collections=collections)
