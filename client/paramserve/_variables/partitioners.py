"""Into how many parts to cut a variable: functions for `get_variable` and `variable_scope`.

A partitioner is called with the keywords `shape` and `dtype` of the whole variable and answers the
number of parts per dimension, more than 1 for at most one of them.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape

__all__ = [
    "fixed_size_partitioner",
    "min_max_variable_partitioner",
    "variable_axis_size_partitioner",
]


class Partitioner(Protocol):
    """Says how a variable is cut."""

    def __call__(self, *, shape: TensorShape, dtype: DType) -> Sequence[int]:
        """The number of parts per dimension of a variable of a known shape."""


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Partitioner:
    """Cuts a variable into a number of parts.

    Args:
        num_shards: how many; a variable that is shorter along the axis gets fewer.
        axis: the dimension to cut.

    Raises:
        ValueError: `num_shards` is not positive.
    """
    _require_positive(num_shards=num_shards)

    def partitioner(*, shape: TensorShape, dtype: DType) -> Sequence[int]:
        length = _length(shape, axis)
        return _cut(shape, axis, min(num_shards, length))

    return partitioner


def variable_axis_size_partitioner(
    max_shard_bytes: int,
    axis: int = 0,
    bytes_per_string_element: int = 16,
    max_shards: int | None = None,
) -> Partitioner:
    """Cuts a variable into parts that are no larger than a number of bytes.

    Args:
        max_shard_bytes: the most that one part may have; a part has at least one row, however
            large that is.
        axis: the dimension to cut.
        bytes_per_string_element: what to count for an element of a string variable.
        max_shards: cut into at most so many parts, however large they become.

    Raises:
        ValueError: one of the numbers is not positive.
    """
    _require_positive(
        max_shard_bytes=max_shard_bytes, bytes_per_string_element=bytes_per_string_element
    )
    if max_shards is not None:
        _require_positive(max_shards=max_shards)

    def partitioner(*, shape: TensorShape, dtype: DType) -> Sequence[int]:
        length = _length(shape, axis)
        row_bytes = _elements(shape) // max(length, 1) * (dtype.size or bytes_per_string_element)
        rows_per_shard = max(1, max_shard_bytes // max(row_bytes, 1))
        shards = -(-length // rows_per_shard)
        return _cut(shape, axis, shards if max_shards is None else min(shards, max_shards))

    return partitioner


def min_max_variable_partitioner(
    max_partitions: int = 1,
    axis: int = 0,
    min_slice_size: int = 256 << 10,
    bytes_per_string_element: int = 16,
) -> Partitioner:
    """Cuts a variable into parts of about a number of bytes, but not into too many.

    Args:
        max_partitions: the most parts.
        axis: the dimension to cut.
        min_slice_size: bytes of a part; what remains of the variable counts as one more part, so
            that parts may be a little smaller.
        bytes_per_string_element: what to count for an element of a string variable.

    Raises:
        ValueError: one of the numbers is not positive.
    """
    _require_positive(
        max_partitions=max_partitions,
        min_slice_size=min_slice_size,
        bytes_per_string_element=bytes_per_string_element,
    )

    def partitioner(*, shape: TensorShape, dtype: DType) -> Sequence[int]:
        length = _length(shape, axis)
        total_bytes = _elements(shape) * (dtype.size or bytes_per_string_element)
        return _cut(shape, axis, min(length, max_partitions, -(-total_bytes // min_slice_size)))

    return partitioner


def _require_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be positive, got {number}")


def _length(shape: TensorShape, axis: int) -> int:
    """The length of the axis to cut, of a shape that is fully known."""
    sizes = shape.as_list()
    if not 0 <= axis < len(sizes):
        raise ValueError(f"cannot cut axis {axis} of a variable of shape {shape}")
    length = sizes[axis]
    if length is None or shape.num_elements() is None:
        raise ValueError(f"shape is not fully defined: {shape}")
    return length


def _elements(shape: TensorShape) -> int:
    return shape.num_elements() or 0


def _cut(shape: TensorShape, axis: int, shards: int) -> list[int]:
    parts = [1] * len(shape.as_list())
    parts[axis] = max(1, shards)
    return parts
