"""Which function gives the gradient of which op.

A gradient function takes the operation and the gradients of its outputs, and answers the gradients
of its inputs, None where there is none. The functions are in `paramserve._gradients`.

Thread rule: filled while modules are imported, read-only afterwards but for what a program adds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from paramserve._framework.operation import GRADIENT_ATTR, Operation

GradientFunction = Callable[..., Any]

_GRADIENTS: Final[dict[str, GradientFunction | None]] = {}


class RegisterGradient:
    """Decorates the gradient function of an op type.

        @ps.RegisterGradient("Square")
        def _square_grad(op, grad):
            return grad * 2.0 * op.inputs[0]

    Raises:
        KeyError: the op type has a gradient already.
        TypeError: `op_type` is no string.
    """

    def __init__(self, op_type: str) -> None:
        if not isinstance(op_type, str):
            raise TypeError(f"op_type must be a string, got {op_type!r}")
        self._op_type = op_type

    def __call__(self, function: GradientFunction) -> GradientFunction:
        """Registers `function` and answers it."""
        _register(self._op_type, function)
        return function


def NoGradient(op_type: str) -> None:
    """Says that an op type has no gradient: nothing flows back through it.

    Raises:
        KeyError: the op type has a gradient already.
        TypeError: `op_type` is no string.
    """
    if not isinstance(op_type, str):
        raise TypeError(f"op_type must be a string, got {op_type!r}")
    _register(op_type, None)


NotDifferentiable = NoGradient


def _register(op_type: str, function: GradientFunction | None) -> None:
    if op_type in _GRADIENTS:
        raise KeyError(f"the gradient of {op_type!r} is registered already")
    _GRADIENTS[op_type] = function


def is_registered(op_type: str) -> bool:
    """Whether the op type has a gradient function, or was said to have none."""
    return op_type in _GRADIENTS


def has_gradient_function(op_type: str) -> bool:
    """Whether the op type has a gradient function."""
    return _GRADIENTS.get(op_type) is not None


def get_gradient_function(op: Operation) -> GradientFunction | None:
    """The gradient function of an operation; None where nothing flows back through it.

    Raises:
        LookupError: nothing was registered for the op type.
    """
    if not op.inputs:
        return None
    try:
        op_type = op.get_attr(GRADIENT_ATTR).decode()
    except ValueError:
        op_type = op.type
    try:
        return _GRADIENTS[op_type]
    except KeyError:
        raise LookupError(
            f"No gradient defined for operation '{op.name}' (op type: {op_type}); register one "
            "with RegisterGradient, or NoGradient"
        ) from None
