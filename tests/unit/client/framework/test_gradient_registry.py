"""Which function gives the gradient of which op."""

import pytest

from paramserve._framework import gradient_registry
from paramserve._framework.apply import apply_op
from paramserve._framework.gradient_registry import (
    NoGradient,
    NotDifferentiable,
    RegisterGradient,
    get_gradient_function,
    is_registered,
)
from paramserve._framework.graph import Graph


@pytest.fixture
def graph(monkeypatch):
    monkeypatch.setattr(gradient_registry, "_GRADIENTS", {})
    with Graph().as_default() as graph:
        yield graph


def test_a_gradient_is_found_by_the_type_of_the_op(graph):
    @RegisterGradient("Neg")
    def gradient(op, grad):
        return -grad

    assert get_gradient_function(apply_op("Neg", x=1.0).op) is gradient
    assert is_registered("Neg")
    assert not is_registered("Abs")


def test_an_op_may_have_been_said_to_have_no_gradient(graph):
    NoGradient("Neg")
    NotDifferentiable("Abs")
    assert get_gradient_function(apply_op("Neg", x=1.0).op) is None
    assert is_registered("Abs")


def test_nothing_flows_back_through_an_op_without_inputs(graph):
    assert get_gradient_function(apply_op("NoOp")) is None


def test_an_override_is_found_by_its_own_name(graph):
    RegisterGradient("Neg")(lambda op, grad: grad)

    @RegisterGradient("Mine")
    def mine(op, grad):
        return grad

    with graph.gradient_override_map({"Neg": "Mine"}):
        op = apply_op("Neg", x=1.0).op
    assert get_gradient_function(op) is mine


def test_a_missing_gradient_names_the_operation_and_what_to_do(graph):
    op = apply_op("Neg", "n", x=1.0).op
    with pytest.raises(LookupError, match=r"operation 'n' \(op type: Neg\); register one"):
        get_gradient_function(op)


def test_a_gradient_is_registered_once(graph):
    NoGradient("Neg")
    with pytest.raises(KeyError, match="'Neg' is registered already"):
        RegisterGradient("Neg")(lambda op, grad: grad)
    for register in (RegisterGradient, NoGradient):
        with pytest.raises(TypeError, match="op_type must be a string"):
            register(3)
