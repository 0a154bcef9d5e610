"""Evenly spaced numbers, and counts of numbers.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, TensorLike
from paramserve._ops.array import cast, constant, size
from paramserve._ops.emit import emit_tensor
from paramserve_core import dtypes
from paramserve_core.dtypes import DType, as_dtype

__all__ = ["bincount", "lin_space", "linspace", "range"]

_WIDTH = (dtypes.int32, dtypes.int64, dtypes.float32, dtypes.float64)
"""From the narrowest type to the widest, for numbers of several types."""


def range(
    start: TensorLike,
    limit: TensorLike | None = None,
    delta: TensorLike = 1,
    dtype: DTypeLike | None = None,
    name: str = "range",
) -> Tensor:
    """Numbers from `start` in steps of `delta`, up to `limit` and without it.

    With one argument, `range(limit)` begins at 0.

    Args:
        start: the first number, a scalar.
        limit: the first that is not in the sequence.
        delta: the step, which may be negative.
        dtype: the type of the numbers; the widest of the arguments' by default.
        name: the name of the op.

    Raises:
        ValueError: the step is 0 or leads away from `limit`, or at run time InvalidArgumentError.
    """
    if limit is None:
        start, limit = 0, start
    with name_scope(name, "range", [start, limit, delta]) as scope:
        wanted = None if dtype is None else as_dtype(dtype)
        parts = [
            convert_to_tensor(value, None if _typed(value) else wanted, name=part)
            for value, part in ((start, "start"), (limit, "limit"), (delta, "delta"))
        ]
        if wanted is None:
            wanted = _widest([part.dtype.base_dtype for part in parts])
        start, limit, delta = (cast(part, wanted) for part in parts)
        return emit_tensor("Range", scope, start=start, limit=limit, delta=delta)


def _typed(value: TensorLike) -> bool:
    return hasattr(value, "graph")


def _widest(found: list[DType]) -> DType:
    unknown = [dtype for dtype in found if dtype not in _WIDTH]
    if unknown:
        return unknown[0]  # then all must be of it, and the op says so
    return max(found, key=_WIDTH.index)


def linspace(
    start: TensorLike, stop: TensorLike, num: TensorLike, name: str | None = None
) -> Tensor:
    """`num` numbers at even distances, the first `start` and the last `stop`.

    Args:
        start: a float scalar.
        stop: another of the same type.
        num: how many, at least 1.
        name: the name of the op.

    Raises:
        ValueError: `num` is not positive, or at run time InvalidArgumentError.
    """
    return emit_tensor("LinSpace", name, start=start, stop=stop, num=num)


lin_space = linspace


def bincount(
    arr: TensorLike,
    weights: TensorLike | None = None,
    minlength: TensorLike | None = None,
    maxlength: TensorLike | None = None,
    dtype: DTypeLike = dtypes.int32,
    name: str | None = None,
) -> Tensor:
    """How often each number from 0 up occurs.

    Args:
        arr: int32, none negative.
        weights: what each occurrence counts; 1 by default.
        minlength: at least so many counts, zeros at the end.
        maxlength: at most so many; larger numbers are passed over.
        dtype: the type of the counts, where there are no weights.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where a number is negative.
    """
    with name_scope(name, "bincount", [arr, weights]) as scope:
        arr = convert_to_tensor(arr, dtype=None if _typed(arr) else dtypes.int32, name="arr")
        flat = emit_tensor("Reshape", None, tensor=arr, shape=[-1])
        # Largest + 1 counts; none at all where there is no number, though 0 is then the largest.
        some = cast(emit_tensor("Greater", None, x=size(arr), y=0), dtypes.int32)
        padded = emit_tensor("ConcatV2", None, values=[flat, constant([0], dtypes.int32)], axis=0)
        largest = emit_tensor("Max", None, input=padded, reduction_indices=[0])
        count = emit_tensor("Mul", None, x=some, y=emit_tensor("Add", None, x=largest, y=1))
        if minlength is not None:
            count = emit_tensor("Maximum", None, x=count, y=minlength)
        if maxlength is not None:
            count = emit_tensor("Minimum", None, x=count, y=maxlength)
        given = constant([], dtype) if weights is None else weights
        return emit_tensor("Bincount", scope, arr=arr, size=count, weights=given)
