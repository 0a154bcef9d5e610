"""Runs an op's shape function while the graph is built.

Thread rule: called with the graph's lock held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramserve._framework.constant_value import constant_value_as_shape, known_value
from paramserve._framework.operation import Operation
from paramserve_core.opdefs import ShapeContext
from paramserve_core.shapes import as_shape

_OVERRIDES: dict[str, Callable[[Operation], Any]] = {}


class RegisterShape:
    """Decorates a function that infers the shapes of an op type, in place of the op's own.

    The function takes the operation and answers one shape per output.

    Raises:
        KeyError: the op type has one already.
    """

    def __init__(self, op_type: str) -> None:
        self._op_type = op_type

    def __call__(self, function: Callable[[Operation], Any]) -> Callable[[Operation], Any]:
        """Registers `function` and answers it."""
        if self._op_type in _OVERRIDES:
            raise KeyError(f"a shape function of {self._op_type!r} is registered already")
        _OVERRIDES[self._op_type] = function
        return function


def infer_shapes(op: Operation) -> None:
    """Sets what is known of the shapes of an operation's outputs.

    Raises:
        ValueError: the inputs' shapes cannot fit.
    """
    override = _OVERRIDES.get(op.type)
    if override is not None:
        shapes = [as_shape(shape) for shape in override(op)]
    else:
        inputs = op.inputs
        context = ShapeContext(
            op.type,
            op.name,
            op.attrs,
            [tensor.shape for tensor in inputs],
            [tensor.dtype for tensor in inputs],
            lambda index: known_value(inputs[index]),
            lambda index: constant_value_as_shape(inputs[index]),
        )
        shapes = list(op.definition.shape(context))
    if len(shapes) != len(op.values()):
        raise ValueError(
            f"the shape function of {op.type!r} answers {len(shapes)} shapes for "
            f"{len(op.values())} outputs"
        )
    for tensor, shape in zip(op.values(), shapes, strict=True):
        tensor._shape = shape
