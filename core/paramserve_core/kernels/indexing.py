"""Kernels that read, choose or place elements by index, position or condition.

Slices are views. What reads or writes rows by index checks every index first and then lets NumPy
copy whole rows.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from paramserve_core.executor.memory import Memory
from paramserve_core.kernels import placing, sets
from paramserve_core.kernels.arguments import (
    check_indices,
    check_prefix,
    check_result_rank,
    shape_value,
    size_value,
    vector_value,
    zeros,
)
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import (
    Array,
    axis_value,
    check_rank,
    invalid,
    shape_text,
)
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_core.kernels.rows import as_rows, gather
from paramserve_core.kernels.strided import decoded_index

# Slices.


@kernel("Slice")
def _slice(node: KernelNode, value: Array, begin: Array, size: Array) -> Array:
    begins = vector_value("Slice", "begin", begin, value.ndim)
    sizes = vector_value("Slice", "size", size, value.ndim)
    index: list[Any] = []
    for axis, (first, count, whole) in enumerate(zip(begins, sizes, value.shape, strict=True)):
        if not 0 <= first <= whole:
            invalid(f"Expected begin[{axis}] in [0, {whole}], but got {first}")
        if not -1 <= count <= whole - first:
            invalid(f"Expected size[{axis}] in [0, {whole - first}], but got {count}")
        index.append(slice(first, whole if count == -1 else first + count))
    # The ellipsis keeps a scalar an array.
    return value[(*index, ...)]


@kernel("StridedSlice")
def _strided_slice(
    node: KernelNode, value: Array, begin: Array, end: Array, strides: Array
) -> Array:
    index, _ = decoded_index(node, value.shape, begin, end, strides)
    sliced: Array = value[index]
    return sliced


@kernel("StridedSliceGrad")
def _strided_slice_grad(
    node: KernelNode, shape: Array, begin: Array, end: Array, strides: Array, dy: Array
) -> Array:
    whole = shape_value(node.op, "shape", shape)
    checked_size(whole, dy.itemsize)
    index, sliced = decoded_index(node, whole, begin, end, strides)
    if list(dy.shape) != sliced:
        invalid(f"shape of dy was {shape_text(dy.shape)} instead of {shape_text(sliced)}")
    result = zeros(whole, dy.dtype)
    result[index] = dy
    return result


# Rows and elements by index.


@kernel("Gather", takes_step=True)
def _gather(node: KernelNode, step: Any, params: Array, indices: Array) -> Array:
    return _take(params, indices, 0, step.store.memory)


@kernel("GatherV2", takes_step=True)
def _gather_v2(
    node: KernelNode, step: Any, params: Array, indices: Array, axis_input: Array
) -> Array:
    if params.ndim == 0:
        invalid("params must be at least 1 dimensional")
    axis = axis_value("GatherV2", axis_input, params.ndim)
    batch_dims = node.attrs["batch_dims"]
    if not -indices.ndim <= batch_dims <= indices.ndim:
        invalid(
            f"Expected batch_dims in the range [{-indices.ndim}, {indices.ndim}], but got "
            f"{batch_dims}"
        )
    batch = batch_dims + indices.ndim if batch_dims < 0 else batch_dims
    if batch == 0:
        return _take(params, indices, axis, step.store.memory)
    if batch > axis:
        invalid(f"batch_dims ({batch}) must be less than or equal to axis ({axis})")
    if params.shape[:batch] != indices.shape[:batch]:
        invalid(
            f"GatherV2: the first {batch} dimensions of params {shape_text(params.shape)} and "
            f"indices {shape_text(indices.shape)} must be equal"
        )
    return _take_in_batches(params, indices, axis, batch)


def _take(params: Array, indices: Array, axis: int, memory: Memory) -> Array:
    if params.ndim == 0:
        invalid("params must be at least 1 dimensional")
    check_indices("indices", indices, params.shape[axis])
    shape = params.shape[:axis] + indices.shape + params.shape[axis + 1 :]
    check_result_rank("Gather", len(shape))
    checked_size(shape, params.itemsize)
    before: tuple[Any, ...] = (slice(None),) * axis
    if indices.ndim == 0:
        # Not `take`, which gives no array for an element. The ellipsis keeps it one.
        taken: Array = params[(*before, int(indices), ...)]
    elif params.flags.c_contiguous:
        taken = memory.allocate(shape, params.dtype)
        if axis == 0:
            table = as_rows(params)
            gather(table, indices.reshape(-1), taken.reshape(indices.size, table.shape[1]))
        else:
            # "clip" because "raise" copies through a buffer; nothing is out of range any more.
            np.take(params, indices, axis, out=taken, mode="clip")
        if not taken.flags.owndata:
            # Shared with other processes, which may read it where it is: it stays as it is.
            taken.setflags(write=False)
    else:
        # `take` would make a contiguous copy of all of params first.
        taken = params[(*before, indices)]
    return taken


def _take_in_batches(params: Array, indices: Array, axis: int, batch: int) -> Array:
    """Gathers along `axis`, where the first `batch` axes of params and indices run together."""
    check_indices("indices", indices, params.shape[axis])
    shape = params.shape[:axis] + indices.shape[batch:] + params.shape[axis + 1 :]
    check_result_rank("GatherV2", len(shape))
    checked_size(shape, params.itemsize)
    moved = np.moveaxis(params, axis, batch)
    grid = np.ogrid[tuple(slice(size) for size in params.shape[:batch])]
    extra = (1,) * (indices.ndim - batch)
    rows = tuple(positions.reshape(positions.shape + extra) for positions in grid)
    # Shape [batch..., indices..., outer..., inner...]: the outer axes belong before the indices.
    result = moved[(*rows, indices)]
    outer = axis - batch
    source = range(indices.ndim, indices.ndim + outer)
    return np.moveaxis(result, tuple(source), tuple(range(batch, batch + outer)))


@kernel("GatherNd")
def _gather_nd(node: KernelNode, params: Array, indices: Array) -> Array:
    return placing.gather(params, indices, ignore=placing.ignores_bad_indices(node))


@kernel("ScatterNd")
def _scatter_nd(node: KernelNode, indices: Array, updates: Array, shape: Array) -> Array:
    whole = shape_value("ScatterNd", "shape", shape)
    return placing.scatter(whole, indices, updates, ignore=placing.ignores_bad_indices(node))


# By condition.


@kernel("Where")
def _where(node: KernelNode, condition: Array) -> Array:
    checked_size((int(np.count_nonzero(condition)), condition.ndim), 8)
    return np.argwhere(condition).astype(np.int64, copy=False)


@kernel("Select")
def _select(node: KernelNode, condition: Array, t: Array, e: Array) -> Array:
    if t.shape != e.shape:
        invalid(
            f"'then' and 'else' must have the same size, but received: {shape_text(t.shape)} vs. "
            f"{shape_text(e.shape)}"
        )
    if condition.ndim == 0:
        return t if condition else e
    if condition.shape != t.shape:
        if condition.ndim != 1 or t.ndim == 0 or condition.size != t.shape[0]:
            invalid(
                f"'cond' must be a scalar, of the shape of 'then', or a vector with an element per "
                f"row of it: {shape_text(condition.shape)} vs. {shape_text(t.shape)}"
            )
        condition = condition.reshape(-1, *(1,) * (t.ndim - 1))
    return np.where(condition, t, e)


@kernel("SelectV2")
def _select_v2(node: KernelNode, condition: Array, t: Array, e: Array) -> Array:
    try:
        shape = np.broadcast_shapes(condition.shape, t.shape, e.shape)
    except ValueError:
        invalid(
            f"condition {shape_text(condition.shape)}, then {shape_text(t.shape)}, and else "
            f"{shape_text(e.shape)} must be broadcastable"
        )
    checked_size(shape, t.itemsize)
    return np.where(condition, t, e)


@kernel("OneHot")
def _one_hot(node: KernelNode, indices: Array, depth: Array, on: Array, off: Array) -> Array:
    axis = node.attrs["axis"]
    if not -1 <= axis <= indices.ndim:
        invalid(f"Expected axis to be -1 or between [0, {indices.ndim}]. But received: {axis}")
    axis = indices.ndim if axis == -1 else axis
    check_result_rank("OneHot", indices.ndim + 1)
    count = size_value("OneHot", "depth", depth)
    check_rank("OneHot", "on_value", on, 0)
    check_rank("OneHot", "off_value", off, 0)
    shape = (*indices.shape[:axis], count, *indices.shape[axis:])
    checked_size(shape, on.itemsize)
    result: Array = np.full(shape, off, off.dtype)
    # An index that is out of range has no element that is on.
    if not result.size:
        return result
    numbers = indices.reshape(math.prod(indices.shape[:axis]), -1)
    before, after = np.nonzero((numbers >= 0) & (numbers < count))
    cube = result.reshape(numbers.shape[0], count, numbers.shape[1])
    cube[before, numbers[before, after], after] = on
    return result


# By a number per element or row.


@kernel("DynamicPartition")
def _dynamic_partition(node: KernelNode, data: Array, partitions: Array) -> Any:
    count = node.attrs["num_partitions"]
    check_prefix("DynamicPartition", "data", "partitions", data, partitions)
    check_indices("partitions", partitions, count)
    numbers = partitions.reshape(-1)
    rows = data.reshape(numbers.size, *data.shape[partitions.ndim :])
    ordered = rows[np.argsort(numbers, kind="stable")]
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    parts = np.split(ordered, ends[:-1])
    return tuple(parts) if count > 1 else parts[0]


@kernel("DynamicStitch", "ParallelDynamicStitch")
def _dynamic_stitch(node: KernelNode, *inputs: Array) -> Array:
    count = node.attrs["N"]
    indices, data = inputs[:count], inputs[count:]
    row_shape = data[0].shape[indices[0].ndim :]
    rows = 0
    for i, (numbers, values) in enumerate(zip(indices, data, strict=True)):
        check_prefix(node.op, f"data[{i}]", f"indices[{i}]", values, numbers)
        if values.shape[numbers.ndim :] != row_shape:
            invalid(
                f"{node.op}: the rows of data[0] have shape {shape_text(row_shape)}, those of "
                f"data[{i}] have shape {shape_text(values.shape[numbers.ndim :])}"
            )
        if numbers.size:
            check_indices(f"indices[{i}]", numbers, 1 << 31)
            rows = max(rows, int(numbers.max()) + 1)
    checked_size((rows, *row_shape), data[0].itemsize)
    result = zeros((rows, *row_shape), data[0].dtype)
    for numbers, values in zip(indices, data, strict=True):
        result[numbers] = values
    return result


# Vectors as sets.


@kernel("Unique")
def _unique(node: KernelNode, x: Array) -> tuple[Array, Array]:
    first, position, _ = sets.unique(node.op, x)
    return x[first], position.astype(node.output_dtypes[1].as_numpy_dtype)


@kernel("UniqueWithCounts")
def _unique_with_counts(node: KernelNode, x: Array) -> tuple[Array, Array, Array]:
    first, position, counts = sets.unique(node.op, x)
    dtype = node.output_dtypes[1].as_numpy_dtype
    return x[first], position.astype(dtype), counts.astype(dtype)


@kernel("ListDiff")
def _list_diff(node: KernelNode, x: Array, y: Array) -> tuple[Array, Array]:
    kept = sets.difference(node.op, x, y)
    return x[kept], kept.astype(node.output_dtypes[1].as_numpy_dtype)
