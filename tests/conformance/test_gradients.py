"""Gradients of a table of expressions beside TensorFlow's."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest

import kernel_driver
import paramserve as ps
from differentiable import EXPRESSIONS, Expression
from places import everywhere

pytestmark = pytest.mark.oracle

COMPARED = [e for e in EXPRESSIONS if e.oracle]
Arrays = list[np.ndarray[Any, Any] | None]


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow().compat.v1


@pytest.fixture(scope="module")
def tf_session(tf):
    """One session for all, because TensorFlow takes longer to make one than for the rest."""
    with tf.Session(graph=tf.Graph()) as session:
        yield session


def is_conditional(expression: Expression) -> bool:
    """Whether parts of it wait for a branch to be taken, on the task where that is decided."""
    return "cond" in expression.name or expression.name == "case"


def as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def values_and_gradients(
    ns: Any, expression: Expression, session: Any, devices: AbstractContextManager[Any]
) -> tuple[Arrays, Arrays]:
    with session.graph.as_default(), devices:
        xs = [ns.placeholder(ns.float64, value.shape) for value in expression.values]
        ys = as_list(expression.function(ns, *xs))
        found = ns.gradients(ys, xs, [ns.cos(ns.ones_like(y)) for y in ys])
        known = [ns.convert_to_tensor(g) for g in found if g is not None]
    values, results = session.run([ys, known], dict(zip(xs, expression.values, strict=True)))
    gradients = iter(results)
    return values, [None if g is None else next(gradients) for g in found]


@pytest.mark.parametrize(
    ("expression", "place"), everywhere(COMPARED, [e.name for e in COMPARED]), indirect=["place"]
)
def test_gradients_are_tensorflows(tf, tf_session, expression, place):
    with place.session(ps.Graph()) as session:
        devices = place.devices(spread=not is_conditional(expression))
        ours = values_and_gradients(ps, expression, session, devices)
    theirs = values_and_gradients(tf, expression, tf_session, nullcontext())
    for mine, other in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]], strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-12)
