"""What kernels read out of small integer inputs: shapes, axes, sizes, indices.

Such an input decides how much a kernel allocates and where it reads, and it may come from anyone.
So it is read in one place, into Python integers, with an error that says which input it was.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve_core.kernels.numerics import Array, check_rank, invalid, scalar_value, shape_text
from paramserve_core.values import MAX_RANK


def vector_value(op: str, what: str, array: Array, length: int) -> list[int]:
    """The integers in `array`, which is a vector of `length` of them.

    Raises:
        InvalidArgumentError: it has another shape.
    """
    if array.shape != (length,):
        invalid(
            f"{op}: {what} must be a vector of length {length}, but has shape "
            f"{shape_text(array.shape)}"
        )
    values: list[int] = array.tolist()
    return values


def shape_value(op: str, what: str, array: Array) -> list[int]:
    """The integers in `array`, a vector that is read as a shape; they may be negative.

    Raises:
        InvalidArgumentError: it is no vector, or has more elements than a tensor can have axes.
    """
    if array.ndim != 1:
        check_rank(op, what, array, 1)
    check_result_rank(op, array.size)
    values: list[int] = array.tolist()
    return values


def size_value(op: str, what: str, array: Array) -> int:
    """The integer in `array`, a scalar that is not negative.

    Raises:
        InvalidArgumentError: it is no scalar, or negative.
    """
    size = int(scalar_value(op, what, array))
    if size < 0:
        invalid(f"{op}: {what} must be non-negative, got: {size}")
    return size


def check_result_rank(op: str, rank: int) -> None:
    """Raises InvalidArgumentError for a result of more axes than every NumPy can hold."""
    if rank > MAX_RANK:
        invalid(f"{op}: the result would have {rank} dimensions; at most {MAX_RANK} are supported")


def check_axis(op: str, axis: int, rank: int, what: str = "axis") -> int:
    """`axis` counted from the front, for a tensor of `rank` dimensions.

    Raises:
        InvalidArgumentError: it is not in ``[-rank, rank)``.
    """
    if not -rank <= axis < rank:
        invalid(f"{op}: expected {what} in the range [{-rank}, {rank}), but got {axis}")
    return axis + rank if axis < 0 else axis


def axes_value(op: str, array: Array, rank: int) -> tuple[int, ...]:
    """The axes in `array`, of any shape, each counted from the front.

    Raises:
        InvalidArgumentError: one is out of range, or named twice.
    """
    named: list[int] = []
    # One more than there can be is enough to find one twice, however many there are.
    for axis in array.reshape(-1)[: rank + 1].tolist():
        position = check_axis(op, axis, rank)
        if position in named:
            invalid(f"{op}: the axes contain a duplicate dimension: {position}")
        named.append(position)
    return tuple(named)


def check_indices(what: str, indices: Array, bound: int) -> None:
    """Refuses an index outside ``[0, bound)``.

    Args:
        what: name of the input, for the message.
        indices: signed integers of any shape.
        bound: one more than the largest index allowed.

    Raises:
        InvalidArgumentError: the first such index, where it is, and the bound.
    """
    if indices.size == 0:
        return
    # One pass instead of two: a negative number, read as unsigned, is larger than any other.
    unsigned = indices.view(f"u{indices.itemsize}")
    if int(unsigned.max()) >= min(bound, 1 << (8 * indices.itemsize - 1)):
        where = tuple(int(i) for i in np.argwhere((indices < 0) | (indices >= bound))[0])
        place = f"[{','.join(map(str, where))}]" if where else ""
        invalid(f"{what}{place} = {int(indices[where])} is not in [0, {bound})")


def check_prefix(op: str, whole: str, part: str, array: Array, prefix: Array) -> None:
    """Raises InvalidArgumentError unless the shape of `array` begins with that of `prefix`."""
    if array.shape[: prefix.ndim] != prefix.shape:
        invalid(
            f"{op}: {whole}.shape must start with {part}.shape, got {whole}.shape = "
            f"{shape_text(array.shape)}, {part}.shape = {shape_text(prefix.shape)}"
        )


def zero_of(dtype: np.dtype[Any]) -> Any:
    """The value that fills what nothing else does: 0, False, or empty text."""
    return b"" if dtype.hasobject else dtype.type(0)


def zeros(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A new array of `zero_of(dtype)`; numbers come as zero pages, without a pass over them."""
    if dtype.hasobject:
        return np.full(shape, b"", object)
    return np.zeros(shape, dtype)
