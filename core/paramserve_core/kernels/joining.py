"""Joining tensors along an axis, and cutting one along it.

The parts of a cut are views of the whole.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramserve_core.kernels.arguments import (
    check_axis,
    check_result_rank,
    shape_value,
    vector_value,
)
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import Array, axis_value, invalid, shape_text

Parts = tuple[Array, ...] | Array
"""The outputs of an op: one alone is no tuple."""


def concatenate(op: str, axis_input: Array, values: Sequence[Array]) -> Array:
    """All `values`, one after the other along an axis.

    Raises:
        InvalidArgumentError: the axis is out of range, or they differ in another dimension.
        ResourceExhaustedError: the result would be too large.
    """
    first = values[0]
    axis = axis_value(op, axis_input, first.ndim)
    for i, value in enumerate(values):
        if not _equal_but_for(axis, value.shape, first.shape):
            invalid(
                f"{op}: Dimensions of inputs should match but for axis {axis}: shape[0] = "
                f"{shape_text(first.shape)} vs. shape[{i}] = {shape_text(value.shape)}"
            )
    shape = list(first.shape)
    shape[axis] = sum(value.shape[axis] for value in values)
    checked_size(shape, first.itemsize)
    return np.concatenate(values, axis)


def offsets(axis_input: Array, shapes: Sequence[Array]) -> tuple[Array, ...]:
    """Where the part of each of `shapes` begins in the whole that they are joined to.

    Raises:
        InvalidArgumentError: the axis is out of range, or they differ in another dimension.
    """
    first = shape_value("ConcatOffset", "shape[0]", shapes[0])
    axis = axis_value("ConcatOffset", axis_input, len(first))
    begins, position = [], 0
    for i, shape in enumerate(shapes):
        sizes = shape_value("ConcatOffset", f"shape[{i}]", shape)
        if not _equal_but_for(axis, sizes, first):
            invalid(
                f"ConcatOffset: all dimensions except {axis} must match: shape[{i}] is "
                f"{shape_text(sizes)}, shape[0] is {shape_text(first)}"
            )
        begin = np.zeros(len(sizes), shape.dtype)
        begin[axis] = position
        position += sizes[axis]
        begins.append(begin)
    return tuple(begins)


def _equal_but_for(axis: int, a: Sequence[int], b: Sequence[int]) -> bool:
    return len(a) == len(b) and all(
        x == y or d == axis for d, (x, y) in enumerate(zip(a, b, strict=True))
    )


def stack(axis: int, values: Sequence[Array]) -> Array:
    """All `values`, of one shape, along a new axis.

    Raises:
        InvalidArgumentError: the axis is out of range, or the shapes differ.
        ResourceExhaustedError: the result would be too large.
    """
    first = values[0]
    axis = check_axis("Pack", axis, first.ndim + 1)
    check_result_rank("Pack", first.ndim + 1)
    for i, value in enumerate(values):
        if value.shape != first.shape:
            invalid(
                f"Shapes of all inputs must match: values[0].shape = {shape_text(first.shape)} != "
                f"values[{i}].shape = {shape_text(value.shape)}"
            )
    checked_size((len(values), *first.shape), first.itemsize)
    return np.stack(values, axis)


def unstack(axis: int, value: Array, count: int) -> Parts:
    """The `count` parts of `value` along an axis, which they don't have.

    Raises:
        InvalidArgumentError: the axis is out of range, or has not `count` elements.
    """
    axis = check_axis("Unpack", axis, value.ndim)
    if value.shape[axis] != count:
        invalid(f"Input shape axis {axis} must equal {count}, got shape {shape_text(value.shape)}")
    along = np.moveaxis(value, axis, 0)
    # The ellipsis keeps an element an array of no dimensions.
    return tuple(along[i, ...] for i in range(count)) if count != 1 else along[0, ...]


def split(axis_input: Array, value: Array, count: int) -> Parts:
    """The `count` equal parts of `value` along an axis.

    Raises:
        InvalidArgumentError: the axis is out of range, or no multiple of `count`.
    """
    axis = axis_value("Split", axis_input, value.ndim)
    whole = value.shape[axis]
    if whole % count:
        invalid(
            "Number of ways to split should evenly divide the split dimension, but got "
            f"split_dim {axis} (size = {whole}) and num_split {count}"
        )
    return _cut(value, axis, [whole // count] * count)


def split_sizes(axis_input: Array, value: Array, size_splits: Array, count: int) -> Parts:
    """The `count` parts of `value` along an axis, of given sizes; one of them may be -1, the rest.

    Raises:
        InvalidArgumentError: the axis is out of range, or the sizes do not add up to it.
    """
    sizes = vector_value("SplitV", "size_splits", size_splits, count)
    axis = axis_value("SplitV", axis_input, value.ndim)
    whole = value.shape[axis]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = whole - sum(sizes) - 1
    if min(sizes) < 0 or sum(sizes) != whole:
        invalid(
            f"SplitV: the sizes {size_splits.tolist()} must add up to {whole}, the size of "
            f"dimension {axis}; one of them may be -1, the others must not be negative"
        )
    return _cut(value, axis, sizes)


def _cut(value: Array, axis: int, sizes: Sequence[int]) -> Parts:
    before = (slice(None),) * axis
    parts, position = [], 0
    for size in sizes:
        parts.append(value[(*before, slice(position, position + size))])
        position += size
    return tuple(parts) if len(parts) > 1 else parts[0]
