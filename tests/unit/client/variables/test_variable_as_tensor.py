"""Where a variable stands for its value, and how it is read."""

import numpy as np
import pytest

from paramserve._framework import scopes
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.tensor import Tensor
from paramserve._variables.initialization import global_variables_initializer
from paramserve._variables.variable import Variable
from paramserve_core import dtypes
from paramserve_core.errors import (
    FailedPreconditionError,
)

# As a tensor.


def test_a_variable_stands_for_its_value_and_where_it_is_changed_for_its_reference():
    v = Variable([1.0])
    assert convert_to_tensor(v) is v.value()
    assert convert_to_tensor(v, dtypes.float32) is v.value()
    assert convert_to_tensor(v, as_ref=True) is v.ref()
    assert v.ref().dtype is dtypes.float32_ref
    with pytest.raises(ValueError, match=r"Incompatible type conversion.*'int32'.*'float32_ref'"):
        convert_to_tensor(v, dtypes.int32)


def test_a_list_with_variables_becomes_their_stack(session):
    a, b = Variable(1.0), Variable(2.0)
    session.run(global_variables_initializer())
    assert session.run(convert_to_tensor([a, 5.0, b])).tolist() == [1, 5, 2]


def test_a_variable_has_every_operator_of_a_tensor():
    operators = {
        name
        for name, member in vars(Tensor).items()
        if name.startswith("__") and getattr(member, "__module__", "").startswith("paramserve._ops")
    }
    assert {"__add__", "__rmatmul__", "__getitem__", "__le__"} <= operators
    for name in operators:
        assert getattr(Variable, name) is not getattr(object, name, None), name


BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
    "@": lambda a, b: a @ b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


@pytest.mark.parametrize("operator", BINARY.values(), ids=BINARY)
def test_binary_operators_compute_with_the_value_on_either_side(session, operator):
    left = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    right = np.array([[2.0, 2.0], [0.5, 3.0]], np.float32)
    a, b = Variable(left), Variable(right)
    session.run(global_variables_initializer())
    expected = operator(left, right)
    for result in (operator(a, b), operator(a, right), operator(left, b)):
        np.testing.assert_allclose(session.run(result), expected, rtol=1e-6)


def test_logical_and_unary_operators_compute_with_the_value(session):
    p, v = Variable([True, False]), Variable([-1.0, 2.0])
    q = np.array([True, True])
    session.run(global_variables_initializer())
    found = session.run([p & q, p | q, p ^ q, q & p, q | p, q ^ p, ~p, -v, abs(v)])
    expected = [
        [True, False], [True, True], [False, True],
        [True, False], [True, True], [False, True],
        [False, True], [1, -2], [1, 2],
    ]  # fmt: skip
    assert [value.tolist() for value in found] == expected


def test_brackets_slice_the_value(session):
    v = Variable(np.arange(12.0).reshape(3, 4))
    session.run(v.initializer)
    found = session.run([v[1], v[:, 2], v[0, 1:3], v[..., -1]])
    whole = np.arange(12.0).reshape(3, 4)
    for value, expected in zip(
        found, [whole[1], whole[:, 2], whole[0, 1:3], whole[..., -1]], strict=True
    ):
        np.testing.assert_array_equal(value, expected)


def test_two_variables_are_equal_only_if_they_are_one():
    v, w = Variable(0.0), Variable(0.0)
    assert v == v
    assert v != w
    assert len({v, w, v}) == 2


def test_a_variable_has_no_elements_and_no_array_while_the_graph_is_built():
    v = Variable([1.0, 2.0], name="w")
    with pytest.raises(TypeError, match=r"'Variable' object is not iterable.*'w:0'"):
        iter(v)
    with pytest.raises(TypeError, match="'w:0' has no value while the graph is built"):
        np.asarray(v)
    with pytest.raises(TypeError):
        float(v)


# Reading.


def test_reading_before_initialization_names_the_variable(session):
    v = Variable(1.0, name="weights")
    for fetch in (v, v.value(), v + 1.0):
        with pytest.raises(
            FailedPreconditionError, match="Attempting to use uninitialized value weights"
        ):
            session.run(fetch)


def test_read_value_reads_after_what_it_waits_for(session):
    v = Variable(1.0, name="w")
    session.run(v.initializer)
    with scopes.control_dependencies([v.assign_add(1.0)]):
        after = v.read_value()
    assert session.run(after) == 2.0
    assert session.run(after) == 3.0


def test_read_value_is_beside_the_variable_whatever_device_is_around():
    v = Variable(1.0, name="w")
    with scopes.device("/job:worker"):
        assert v.read_value().op.colocation_groups() == [b"loc:@w"]
        assert v.read_value().device == ""


def test_eval_uses_the_session_given_or_the_default_one(session):
    v = Variable([1.0, 2.0])
    session.run(v.initializer)
    assert v.eval(session).tolist() == [1, 2]
    assert v.eval().tolist() == [1, 2]
    value = v.eval()
    value += 1
    assert v.eval().tolist() == [1, 2]


def test_eval_without_a_session_is_refused():
    with pytest.raises(ValueError, match="No default session"):
        Variable(1.0).eval()
