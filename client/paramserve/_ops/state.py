"""Functions that change variables, in the step in which they run.

`ref` is a `Variable`, or the reference tensor of one. Each function answers that reference, so that
what uses the result gets the value after the update.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor

__all__ = [
    "assign",
    "assign_add",
    "assign_sub",
    "count_up_to",
    "is_variable_initialized",
    "scatter_add",
    "scatter_div",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "scatter_sub",
    "scatter_update",
]


def assign(
    ref: Any,
    value: TensorLike,
    validate_shape: bool | None = None,
    use_locking: bool | None = None,
    name: str | None = None,
) -> Tensor:
    """Gives a variable a value; it is initialised from then on.

    Args:
        ref: the variable.
        value: of its type, and of its shape unless `validate_shape` is False.
        validate_shape: False lets the value have another shape.
        use_locking: kept for old programs; every update is atomic.
        name: the name of the op.

    Raises:
        TypeError: another type.
        ValueError: another shape, or at run time InvalidArgumentError.
    """
    return emit_tensor(
        "Assign",
        name,
        ref=ref,
        value=value,
        validate_shape=validate_shape,
        use_locking=use_locking,
    )


def assign_add(
    ref: Any, value: TensorLike, use_locking: bool | None = None, name: str | None = None
) -> Tensor:
    """Adds to a variable.

    Args:
        ref: the variable.
        value: of its type and shape.
        use_locking: kept for old programs; every update is atomic.
        name: the name of the op.

    Raises:
        FailedPreconditionError: at run time, where the variable has no value.
    """
    return emit_tensor("AssignAdd", name, ref=ref, value=value, use_locking=use_locking)


def assign_sub(
    ref: Any, value: TensorLike, use_locking: bool | None = None, name: str | None = None
) -> Tensor:
    """Subtracts from a variable. See `assign_add`."""
    return emit_tensor("AssignSub", name, ref=ref, value=value, use_locking=use_locking)


def _scatter(
    op_type: str,
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None,
    name: str | None,
) -> Tensor:
    return emit_tensor(
        op_type, name, ref=ref, indices=indices, updates=updates, use_locking=use_locking
    )


def scatter_update(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = True,
    name: str | None = None,
) -> Tensor:
    """Replaces rows of a variable. Where a number occurs twice, one of its rows remains.

    Args:
        ref: the variable, of shape `[rows, ...]`.
        indices: numbers of rows, integers of any shape.
        updates: of shape `indices.shape + ref.shape[1:]`, or a scalar.
        use_locking: kept for old programs; every update is atomic.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where an index is out of range. The variable is
            unchanged then.
        FailedPreconditionError: at run time, where the variable has no value.
    """
    return _scatter("ScatterUpdate", ref, indices, updates, use_locking, name)


def scatter_add(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Adds to rows of a variable; a row whose number occurs twice is added to twice.

    Arguments and errors as of `scatter_update`.
    """
    return _scatter("ScatterAdd", ref, indices, updates, use_locking, name)


def scatter_sub(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Subtracts from rows of a variable. See `scatter_add`."""
    return _scatter("ScatterSub", ref, indices, updates, use_locking, name)


def scatter_mul(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Multiplies rows of a variable. See `scatter_add`."""
    return _scatter("ScatterMul", ref, indices, updates, use_locking, name)


def scatter_div(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Divides rows of a variable. See `scatter_add`."""
    return _scatter("ScatterDiv", ref, indices, updates, use_locking, name)


def scatter_max(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Raises elements of rows of a variable to what `updates` has, where that is larger.

    Arguments and errors as of `scatter_update`; floats, int32 or int64.
    """
    return _scatter("ScatterMax", ref, indices, updates, use_locking, name)


def scatter_min(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Lowers elements of rows of a variable to what `updates` has. See `scatter_max`."""
    return _scatter("ScatterMin", ref, indices, updates, use_locking, name)


def count_up_to(ref: Any, limit: int, name: str | None = None) -> Tensor:
    """Adds one to an integer scalar variable, up to a limit.

    Args:
        ref: the variable, int32 or int64.
        limit: the value that it does not go beyond.
        name: the name of the op.

    Returns:
        The value before: a tensor, no reference.

    Raises:
        OutOfRangeError: at run time, where the limit is reached; the variable is unchanged then.
    """
    return emit_tensor("CountUpTo", name, ref=ref, limit=limit)


def is_variable_initialized(variable: Any, name: str | None = None) -> Tensor:
    """Whether a variable has a value, a boolean scalar."""
    return emit_tensor("IsVariableInitialized", name, ref=variable)
