"""Every gradient is what a small change of the arguments does to the value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import paramserve as ps
from differentiable import EXPRESSIONS, Expression
from paramserve._framework.gradient_registry import has_gradient_function
from paramserve_core.opdefs import all_ops

STEP = 1e-5
TESTED_ELSEWHERE = {
    "Enter",  # stands in a loop only: see the tests of loops
    "RefEnter",
    "PreventGradient",  # its gradient is an error
    "RefMerge",  # needs a variable
    "RefSwitch",
}


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def weights_of(y: ps.Tensor) -> ps.Tensor:
    """Other weights for every element, so that no two gradients can be mistaken."""
    positions = ps.cast(ps.range(ps.size(y)), ps.float64)
    return ps.reshape(positions * 0.3 + 0.5, ps.shape(y))


def build(expression: Expression, order: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Placeholders, the values, which are gradients if `order` is 2, and their gradients."""
    xs = [ps.placeholder(ps.float64, value.shape) for value in expression.values]
    ys = as_list(expression.function(ps, *xs))
    for _ in range(order - 1):
        found = ps.gradients(ys, xs, [weights_of(y) for y in ys])
        ys = [ps.convert_to_tensor(gradient) for gradient in found if gradient is not None]
    found = ps.gradients(ys, xs, [weights_of(y) for y in ys])
    return xs, ys, found


def differences(loss: Any, values: Sequence[np.ndarray[Any, Any]], index: int) -> Any:
    """The derivative of `loss` by argument `index`, from its values on both sides."""
    result = np.empty(values[index].shape)
    for position in np.ndindex(*result.shape):
        sides = []
        for sign in (1, -1):
            moved = [np.array(value) for value in values]
            moved[index][position] += sign * STEP
            sides.append(loss(*moved))
        result[position] = (sides[0] - sides[1]) / (2 * STEP)
    return result


def check(expression: Expression, order: int) -> None:
    with ps.Graph().as_default(), ps.Session() as session:
        xs, ys, found = build(expression, order)
        if not ys:
            assert all(gradient is None for gradient in found)
            return
        total = ps.add_n([ps.reduce_sum(y * weights_of(y)) for y in ys])
        loss = session.make_callable(total, xs)
        for i, gradient in enumerate(found):
            expected = differences(loss, expression.values, i)
            if gradient is None:
                assert not expected.any(), f"argument {i} has no gradient"
                continue
            feeds = dict(zip(xs, expression.values, strict=True))
            analytic = session.run(ps.convert_to_tensor(gradient), feeds)
            np.testing.assert_allclose(analytic, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: e.name)
def test_a_gradient_is_the_limit_of_differences(expression):
    check(expression, order=1)


@pytest.mark.parametrize("expression", [e for e in EXPRESSIONS if e.is_twice], ids=lambda e: e.name)
def test_a_gradient_of_a_gradient_is_the_limit_of_differences(expression):
    check(expression, order=2)


@pytest.mark.slow
def test_every_differentiable_op_is_among_the_expressions():
    used = set(TESTED_ELSEWHERE)
    for expression in EXPRESSIONS:
        with ps.Graph().as_default() as graph:
            build(expression, order=2 if expression.is_twice else 1)
            used.update(op.type for op in graph.get_operations())
    differentiable = {name for name in all_ops() if has_gradient_function(name)}
    assert differentiable <= used
