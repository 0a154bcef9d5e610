"""Assertions about tensors: when the graph runs, or while it is built where that is possible.

An assertion is an op; something must depend on it:

    with ps.control_dependencies([ps.assert_positive(x)]):
        y = ps.log(x)

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramserve._framework.constant_value import constant_value
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.operation import Operation
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, TensorLike
from paramserve._ops import math
from paramserve._ops.array import rank, reshape
from paramserve._ops.control import no_op
from paramserve._ops.emit import emit_operation
from paramserve._ops.indexing import strided_slice
from paramserve._ops.math_reduce import reduce_all
from paramserve_core.dtypes import as_dtype
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.opdefs.type_sets import NUMBERS

__all__ = [
    "Assert",
    "assert_equal",
    "assert_greater",
    "assert_greater_equal",
    "assert_integer",
    "assert_less",
    "assert_less_equal",
    "assert_negative",
    "assert_non_negative",
    "assert_non_positive",
    "assert_none_equal",
    "assert_positive",
    "assert_rank",
    "assert_rank_at_least",
    "assert_scalar",
    "assert_type",
    "is_non_decreasing",
    "is_numeric_tensor",
    "is_strictly_increasing",
]

Data = Sequence[TensorLike] | None


def Assert(
    condition: TensorLike,
    data: Sequence[TensorLike],
    summarize: int | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails where a condition is false.

    Args:
        condition: a boolean scalar.
        data: tensors that the error's message shows.
        summarize: how many elements of each; 3 by default, all if negative.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where `condition` is false.
    """
    return emit_operation(
        "Assert",
        name,
        condition=condition,
        data=data,
        summarize=3 if summarize is None else summarize,
    )


def _compare(
    default_name: str,
    holds: Callable[[Tensor, Tensor], Tensor],
    numpy_holds: Callable[[Any, Any], Any],
    sign: str,
    x: TensorLike,
    y: TensorLike,
    data: Data,
    summarize: int | None,
    message: str | None,
    name: str | None,
) -> Operation:
    with name_scope(name, default_name, [x, y, data]) as scope:
        x = convert_to_tensor(x, name="x")
        y = convert_to_tensor(
            y, name="y", dtype=None if hasattr(y, "graph") else x.dtype.base_dtype
        )
        known_x, known_y = constant_value(x), constant_value(y)
        if known_x is not None and known_y is not None:
            _check_now(numpy_holds(known_x, known_y), x, y, sign, message)
            return no_op(name=scope)
        if data is None:
            text = f"Condition x {sign} y did not hold element-wise:"
            data = [message or "", text, f"x ({x.name}) = ", x, f"y ({y.name}) = ", y]
        return Assert(reduce_all(holds(x, y)), data, summarize=summarize, name=scope)


def _check_now(held: Any, x: Tensor, y: Tensor, sign: str, message: str | None) -> None:
    if not np.all(held):
        prefix = f"{message}. " if message else ""
        raise InvalidArgumentError(
            None,
            None,
            f"{prefix}Condition x {sign} y did not hold: x ({x.name}) is {constant_value(x)}, "
            f"y ({y.name}) is {constant_value(y)}",
        )


def assert_equal(
    x: TensorLike,
    y: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless `x == y` for every pair of elements.

    Args:
        x: a tensor.
        y: another of the same type, of a shape that broadcasts with that of `x`.
        data: tensors that the error's message shows; `x` and `y` by default.
        summarize: how many elements of each.
        message: what the error's message begins with.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at once where both are known while the graph is built, else at run
            time.
    """
    return _compare(
        "assert_equal", math.equal, np.equal, "==", x, y, data, summarize, message, name
    )


def assert_none_equal(
    x: TensorLike,
    y: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless `x != y` for every pair of elements. See `assert_equal`."""
    return _compare(
        "assert_none_equal",
        math.not_equal,
        np.not_equal,
        "!=",
        x,
        y,
        data,
        summarize,
        message,
        name,
    )


def assert_less(
    x: TensorLike,
    y: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless `x < y` for every pair of elements. See `assert_equal`."""
    return _compare("assert_less", math.less, np.less, "<", x, y, data, summarize, message, name)


def assert_less_equal(
    x: TensorLike,
    y: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless `x <= y` for every pair of elements. See `assert_equal`."""
    return _compare(
        "assert_less_equal",
        math.less_equal,
        np.less_equal,
        "<=",
        x,
        y,
        data,
        summarize,
        message,
        name,
    )


def assert_greater(
    x: TensorLike,
    y: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless `x > y` for every pair of elements. See `assert_equal`."""
    return _compare(
        "assert_greater", math.greater, np.greater, ">", x, y, data, summarize, message, name
    )


def assert_greater_equal(
    x: TensorLike,
    y: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless `x >= y` for every pair of elements. See `assert_equal`."""
    return _compare(
        "assert_greater_equal",
        math.greater_equal,
        np.greater_equal,
        ">=",
        x,
        y,
        data,
        summarize,
        message,
        name,
    )


def assert_negative(
    x: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless every element is below 0. See `assert_equal`."""
    return assert_less(x, _zero_of(x), data, summarize, message, name or "assert_negative")


def assert_positive(
    x: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless every element is above 0. See `assert_equal`."""
    return assert_greater(x, _zero_of(x), data, summarize, message, name or "assert_positive")


def assert_non_negative(
    x: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless every element is 0 or above. See `assert_equal`."""
    return assert_greater_equal(
        x, _zero_of(x), data, summarize, message, name or "assert_non_negative"
    )


def assert_non_positive(
    x: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless every element is 0 or below. See `assert_equal`."""
    return assert_less_equal(
        x, _zero_of(x), data, summarize, message, name or "assert_non_positive"
    )


def _zero_of(x: TensorLike) -> TensorLike:
    return np.zeros((), x.dtype.as_numpy_dtype) if hasattr(x, "graph") else 0


def assert_rank(
    x: TensorLike,
    rank: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless a tensor has `rank` dimensions.

    Args:
        x: a tensor.
        rank: how many dimensions it must have, a scalar.
        data: tensors that the error's message shows.
        summarize: how many elements of each.
        message: what the error's message begins with.
        name: the name of the op.

    Raises:
        ValueError: both are known while the graph is built, and differ.
        InvalidArgumentError: at run time, where the rank is another.
    """
    return _check_rank("assert_rank", "be", math.equal, x, rank, data, summarize, message, name)


def assert_rank_at_least(
    x: TensorLike,
    rank: TensorLike,
    data: Data = None,
    summarize: int | None = None,
    message: str | None = None,
    name: str | None = None,
) -> Operation:
    """An op that fails unless a tensor has `rank` dimensions or more. See `assert_rank`."""
    return _check_rank(
        "assert_rank_at_least",
        "be at least",
        math.greater_equal,
        x,
        rank,
        data,
        summarize,
        message,
        name,
    )


def _check_rank(
    default_name: str,
    must: str,
    holds: Callable[[TensorLike, TensorLike], Tensor],
    x: TensorLike,
    wanted: TensorLike,
    data: Data,
    summarize: int | None,
    message: str | None,
    name: str | None,
) -> Operation:
    with name_scope(name, default_name, [x, wanted]) as scope:
        x = convert_to_tensor(x, name="x")
        wanted = convert_to_tensor(wanted, name="rank")
        if wanted.shape.ndims not in (None, 0):
            raise ValueError(f"Rank must be a scalar, got {wanted!r}")
        known = constant_value(wanted)
        if known is not None and x.shape.ndims is not None:
            fits = x.shape.ndims >= known if must == "be at least" else x.shape.ndims == known
            if not fits:
                prefix = f"{message}. " if message else ""
                raise ValueError(
                    f"{prefix}Tensor {x.name} must {must} rank {int(known)}, it has rank "
                    f"{x.shape.ndims}, shape {x.shape}"
                )
            return no_op(name=scope)
        if data is None:
            data = [message or "", f"Tensor {x.name} must {must} rank", wanted, "it has", rank(x)]
        return Assert(holds(rank(x), wanted), data, summarize=summarize, name=scope)


def assert_integer(x: TensorLike, message: str | None = None, name: str | None = None) -> Operation:
    """Fails while the graph is built, unless a tensor is of an integer type.

    Returns:
        An op that does nothing.

    Raises:
        TypeError: it is of another type.
    """
    with name_scope(name, "assert_integer", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        if not x.dtype.is_integer:
            prefix = f"{message}. " if message else ""
            raise TypeError(f'{prefix}Expected "x" to be integer type. Found: {x!r}')
        return no_op(name=scope)


def assert_type(
    tensor: TensorLike, tf_type: DTypeLike, message: str | None = None, name: str | None = None
) -> Operation:
    """Fails while the graph is built, unless a tensor is of a type.

    Returns:
        An op that does nothing.

    Raises:
        TypeError: it is of another type.
    """
    with name_scope(name, "assert_type", [tensor]) as scope:
        tensor = convert_to_tensor(tensor, name="tensor")
        wanted = as_dtype(tf_type)
        if tensor.dtype.base_dtype is not wanted.base_dtype:
            prefix = f"{message}. " if message else ""
            raise TypeError(f"{prefix}{tensor!r} must be of type {wanted.name}")
        return no_op(name=scope)


def assert_scalar(
    tensor: TensorLike, name: str | None = None, message: str | None = None
) -> Tensor:
    """Fails while the graph is built, if a tensor is known to have dimensions.

    Args:
        tensor: the tensor.
        name: the scope of the ops.
        message: what the error begins with.

    Returns:
        The tensor.

    Raises:
        ValueError: its shape is known, and not `[]`.
    """
    with name_scope(name, "assert_scalar", [tensor]):
        scalar: Tensor = convert_to_tensor(tensor, name="tensor")
        if scalar.shape.ndims not in (None, 0):
            prefix = f"{message}. " if message else ""
            raise ValueError(f"{prefix}Expected scalar shape, saw shape {scalar.shape}: {scalar!r}")
        return scalar


def is_numeric_tensor(tensor: Any) -> bool:
    """Whether `tensor` is a tensor of numbers."""
    return isinstance(tensor, Tensor) and tensor.dtype.base_dtype in NUMBERS


def is_non_decreasing(x: TensorLike, name: str | None = None) -> Tensor:
    """Whether no element is less than the one before it, in the order of memory; a scalar."""
    with name_scope(name, "is_non_decreasing", [x]) as scope:
        before, after = _neighbours(x)
        return reduce_all(math.less_equal(before, after), name=scope)


def is_strictly_increasing(x: TensorLike, name: str | None = None) -> Tensor:
    """Whether every element is greater than the one before it; a scalar."""
    with name_scope(name, "is_strictly_increasing", [x]) as scope:
        before, after = _neighbours(x)
        return reduce_all(math.less(before, after), name=scope)


def _neighbours(x: TensorLike) -> tuple[Tensor, Tensor]:
    """All elements but the last, and all but the first."""
    flat = reshape(convert_to_tensor(x, name="x"), [-1])
    before = strided_slice(flat, [0], [-1], [1], begin_mask=1)
    return before, strided_slice(flat, [1], [0], [1], end_mask=1)
