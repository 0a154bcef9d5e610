"""Gradients of the family `indexing`: what was read goes back to where it was read from.

The gradient of a gather is an IndexedSlices, the rows alone: a table of millions of rows of which
a step reads a few never becomes a dense gradient unless something else needs it dense.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserve._framework.constant_value import constant_value
from paramserve._framework.gradient_registry import NoGradient, RegisterGradient
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import summed_to, zero_unless
from paramserve._ops.arrangement import invert_permutation, pad, transpose
from paramserve._ops.array import cast, constant, reshape, shape, size, zeros_like
from paramserve._ops.elementary import logical_not
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import (
    dynamic_partition,
    dynamic_stitch,
    gather,
    gather_nd,
    scatter_nd,
    strided_slice,
    where,
)
from paramserve._ops.joining import concat, stack
from paramserve._ops.math import maximum
from paramserve._ops.math_reduce import reduce_prod
from paramserve._ops.math_segment import unsorted_segment_sum
from paramserve._ops.math_sequence import range

Gradients = list[Any]

for _op in ("ListDiff", "OneHot", "Unique", "UniqueWithCounts", "Where"):
    NoGradient(_op)

_MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


@RegisterGradient("Slice")
def _slice(op: Operation, grad: Tensor) -> Gradients:
    source, begin, _ = op.inputs
    dtype = begin.dtype.base_dtype
    before = reshape(begin, [-1, 1])
    after = reshape(shape(source, out_type=dtype) - begin - shape(grad, out_type=dtype), [-1, 1])
    padded = pad(grad, concat([before, after], 1))
    padded.set_shape(source.shape)
    return [padded, None, None]


@RegisterGradient("StridedSlice")
def _strided_slice(op: Operation, grad: Tensor) -> Gradients:
    source, begin, end, strides = op.inputs
    sizes = shape(source, out_type=begin.dtype.base_dtype)
    masks = {name: op.attrs[name] for name in _MASKS}
    found = emit_tensor(
        "StridedSliceGrad",
        None,
        shape=sizes,
        begin=begin,
        end=end,
        strides=strides,
        dy=grad,
        **masks,
    )
    return [found, None, None, None]


@RegisterGradient("StridedSliceGrad")
def _strided_slice_grad(op: Operation, grad: Tensor) -> Gradients:
    masks = {name: op.attrs[name] for name in _MASKS}
    _, begin, end, strides, _ = op.inputs
    return [None, None, None, None, strided_slice(grad, begin, end, strides, **masks)]


# Gathered.


def _rows_read(params: Tensor, indices: Tensor, grad: Tensor) -> IndexedSlices:
    """The gradient of the rows `indices`, dimension 0, of `params`."""
    with params.graph.colocate_with(params.op):
        # Here the shape, not the table, goes to where the gradient is computed.
        sizes = shape(params, out_type="int64")
    if params.shape[1:].is_fully_defined():
        row_sizes = constant(np.array(params.shape[1:].as_list(), np.int64))
    else:
        row_sizes = strided_slice(sizes, [1], [0], [1], end_mask=1)
    count = constant([-1], "int64")
    values = reshape(grad, concat([count, row_sizes], 0))
    return IndexedSlices(values, reshape(indices, [-1]), sizes)


@RegisterGradient("Gather")
def _gather(op: Operation, grad: Tensor) -> Gradients:
    params, indices = op.inputs
    return [_rows_read(params, indices, grad), None]


@RegisterGradient("GatherV2")
def _gather_v2(op: Operation, grad: Tensor) -> Gradients:
    params, indices, axis = op.inputs
    batch_dims = op.attrs["batch_dims"]
    known = constant_value(axis)
    if known is not None and int(known) == 0 and batch_dims == 0:
        return [_rows_read(params, indices, grad), None, None]
    ndims, indices_ndims = params.shape.ndims, indices.shape.ndims
    if known is None or ndims is None or indices_ndims is None:
        raise LookupError(
            f"the gradient of {op.name!r} along another axis than 0 needs the axis and the ranks "
            f"of {params!r} and {indices!r} while the graph is built"
        )
    batch = batch_dims % (indices_ndims + 1)
    found = _along(params, indices, grad, int(known) % ndims, batch, ndims, indices_ndims)
    return [found, None, None]


def _along(
    params: Tensor,
    indices: Tensor,
    grad: Tensor,
    axis: int,
    batch: int,
    ndims: int,
    indices_ndims: int,
) -> Tensor:
    """The gradient of what was gathered along `axis`, behind `batch` common dimensions.

    The dimensions are put in the order: batch, axis, rest. Then an element's row is its index
    plus that of its batch, and rows add up.
    """
    picked = indices_ndims - batch
    # In the gradient the dimensions `axis .. axis + picked` stand for the axis.
    moved_grad = transpose(
        grad,
        [
            *np.arange(batch),
            *np.arange(axis, axis + picked),
            *np.arange(batch, axis),
            *np.arange(axis + picked, ndims - 1 + picked),
        ],
    )
    order = [*np.arange(batch), axis, *np.arange(batch, axis), *np.arange(axis + 1, ndims)]
    sizes = gather(shape(params), np.array(order, np.int32))
    length = gather(sizes, batch)
    batches = reduce_prod(strided_slice(sizes, [0], [batch], [1]))
    rest = strided_slice(sizes, [batch + 1], [0], [1], end_mask=1)
    first_rows = reshape(range(batches) * length, [-1, 1])
    rows = reshape(cast(indices, "int32"), stack([batches, size(indices) // maximum(batches, 1)]))
    total = unsorted_segment_sum(
        reshape(moved_grad, concat([[-1], rest], 0)),
        reshape(rows + first_rows, [-1]),
        batches * length,
    )
    result = transpose(reshape(total, sizes), invert_permutation(np.array(order, np.int32)))
    result.set_shape(params.shape)
    return result


@RegisterGradient("GatherNd")
def _gather_nd(op: Operation, grad: Tensor) -> Gradients:
    params, indices = op.inputs
    sizes = shape(params, out_type=indices.dtype.base_dtype)
    return [scatter_nd(indices, grad, sizes), None]


@RegisterGradient("ScatterNd")
def _scatter_nd(op: Operation, grad: Tensor) -> Gradients:
    return [None, gather_nd(grad, op.inputs[0]), None]


# Chosen.


@RegisterGradient("Select")
def _select(op: Operation, grad: Tensor) -> Gradients:
    condition = op.inputs[0]
    nothing = zeros_like(grad)
    return [None, where(condition, grad, nothing), where(condition, nothing, grad)]


@RegisterGradient("SelectV2")
def _select_v2(op: Operation, grad: Tensor) -> Gradients:
    condition, t, e = op.inputs
    t_gradient = summed_to(zero_unless(condition, grad), t, condition, e)
    e_gradient = summed_to(zero_unless(logical_not(condition), grad), e, condition, t)
    return [None, t_gradient, e_gradient]


@RegisterGradient("DynamicPartition")
def _dynamic_partition(op: Operation, *grads: Tensor) -> Gradients:
    data, partitions = op.inputs
    positions = reshape(range(size(partitions)), shape(partitions))
    places = dynamic_partition(positions, partitions, op.attrs["num_partitions"])
    stitched = dynamic_stitch(places, list(grads))
    return [reshape(stitched, shape(data)), None]


@RegisterGradient("DynamicStitch")
@RegisterGradient("ParallelDynamicStitch")
def _dynamic_stitch(op: Operation, grad: Tensor) -> Gradients:
    """As in TensorFlow, a part that another one replaced gets the gradient all the same."""
    count = op.attrs["N"]
    return [*[None] * count, *(gather(grad, indices) for indices in op.inputs[:count])]
