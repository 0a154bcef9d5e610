"""What the functions are written with whose gradients are checked; see `differentiable`.

Each is written for a namespace, `paramserve` or `tensorflow.compat.v1`, whose names are the same.
Values are chosen away from corners and jumps, where a derivative would depend on the side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_RANDOM = np.random.default_rng(20160427)


def normal(*shape: int) -> Array:
    """Numbers around 0, of which none is near it."""
    values = _RANDOM.uniform(0.2, 1.5, shape)
    return values * _RANDOM.choice([-1.0, 1.0], shape)


def positive(*shape: int) -> Array:
    return _RANDOM.uniform(0.3, 2.0, shape)


def unit(*shape: int) -> Array:
    """Numbers within (-1, 1)."""
    return _RANDOM.uniform(-0.8, 0.8, shape)


def distinct(*shape: int) -> Array:
    """Numbers that differ by 0.1 or more, in random order."""
    count = int(np.prod(shape))
    return (_RANDOM.permutation(count) * 0.1 - 0.05 * count + 0.033).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A function of tensors and the values at which its gradient is checked.

    Attributes:
        name: what the test is called.
        function: takes a namespace and a float64 tensor per value; answers a tensor or a list.
        values: the arguments.
        is_twice: whether its gradient's gradient is checked too.
        oracle: whether TensorFlow has the function, and the same gradient.
    """

    name: str
    function: Callable[..., Any]
    values: tuple[Array, ...]
    is_twice: bool = True
    oracle: bool = True


EXPRESSIONS: list[Expression] = []


def add(
    name: str,
    function: Callable[..., Any],
    *values: Array,
    twice: bool = True,
    oracle: bool = True,
) -> None:
    expression = Expression(
        name=name, function=function, values=values, is_twice=twice, oracle=oracle
    )
    EXPRESSIONS.append(expression)


def unary(names: str, values: Array, **options: Any) -> None:
    for name in names.split():
        add(name, lambda ns, x, name=name: getattr(ns, name)(x), values, **options)


def raw(op: str, ns: Any, **arguments: Any) -> Any:
    """An op by its type, where the function of that name would make another one."""
    if ns.__name__ == "paramserve":
        from paramserve._framework.apply import apply_op

        return apply_op(op, None, **arguments)
    return getattr(ns.raw_ops, op)(**arguments)


def is_tensorflow(ns: Any) -> bool:
    return bool(ns.__name__ != "paramserve")
