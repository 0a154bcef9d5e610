"""Gradients of the family `math_reduce`: sums, means, products, extremes, running totals.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserve._framework.constant_value import constant_value
from paramserve._framework.gradient_registry import NoGradient, RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.handling import takes_sparse
from paramserve._ops.arrangement import invert_permutation, transpose
from paramserve._ops.array import broadcast_to, cast, constant, ones_like, rank, reshape, shape
from paramserve._ops.elementary import conj
from paramserve._ops.indexing import dynamic_stitch, gather, setdiff1d
from paramserve._ops.joining import concat
from paramserve._ops.math import equal, realdiv
from paramserve._ops.math_reduce import cumprod, cumsum, reduce_prod, reduce_sum
from paramserve._ops.math_sequence import range

for _op in ("All", "Any", "ArgMax", "ArgMin"):
    NoGradient(_op)


class _Reduction:
    """The shapes of one reduction, as constants where they are known.

    Attributes:
        sizes: the shape of the input, an integer vector.
        axes: the reduced dimensions, not negative.
        kept: the shape of the result, with size 1 in the place of each reduced dimension.
    """

    def __init__(self, op: Operation) -> None:
        source, axes = op.inputs
        self.sizes = shape(source)
        static_axes = constant_value(axes)
        ndims = source.shape.ndims
        if static_axes is not None and ndims is not None:
            known = np.atleast_1d(static_axes) % max(ndims, 1)
            self.axes = constant(known.astype(np.int32))
        else:
            self.axes = reshape(cast(axes, "int32") % rank(source), [-1])
        self.kept = self._kept(source, static_axes)

    def _kept(self, source: Tensor, static_axes: Any) -> Tensor:
        if static_axes is not None and source.shape.is_fully_defined():
            sizes = np.array(source.shape.as_list(), np.int32)
            sizes[np.atleast_1d(static_axes)] = 1
            return constant(sizes)
        every = range(rank(source))
        return dynamic_stitch([every, self.axes], [self.sizes, ones_like(self.axes)])


def _spread(op: Operation, grad: Tensor) -> Tensor:
    """The gradient of the result, repeated over the reduced dimensions."""
    reduction = _Reduction(op)
    return broadcast_to(reshape(grad, reduction.kept), reduction.sizes)


@RegisterGradient("Sum")
def _sum(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return [_spread(op, grad), None]


@RegisterGradient("Mean")
def _mean(op: Operation, grad: Tensor) -> list[Tensor | None]:
    source = op.inputs[0]
    before, after = source.shape.num_elements(), op.outputs[0].shape.num_elements()
    if before is not None and after:
        count = constant(before // after, grad.dtype.base_dtype)
    else:
        reduction = _Reduction(op)
        count = cast(reduce_prod(gather(reduction.sizes, reduction.axes)), grad.dtype.base_dtype)
    return [_spread(op, realdiv(grad, count)), None]


@RegisterGradient("Max")
@RegisterGradient("Min")
def _extreme(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """Shared evenly among the elements that are the extreme."""
    source = op.inputs[0]
    reduction = _Reduction(op)
    is_extreme = cast(equal(reshape(op.outputs[0], reduction.kept), source), grad.dtype.base_dtype)
    count = reduce_sum(is_extreme, reduction.axes, keep_dims=True)
    return [realdiv(is_extreme, count) * reshape(grad, reduction.kept), None]


@RegisterGradient("Prod")
def _prod(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """Each element's share is the product of the others, so that zeros do no harm."""
    source = op.inputs[0]
    reduction = _Reduction(op)
    every = range(rank(source))
    others = setdiff1d(every, reduction.axes).out
    order = concat([reduction.axes, others], 0)
    moved = transpose(source, order)
    rows = reduce_prod(gather(reduction.sizes, reduction.axes))
    columns = reduce_prod(gather(reduction.sizes, others))
    matrix = reshape(moved, [rows, columns])
    before = cumprod(matrix, exclusive=True)
    after = cumprod(matrix, exclusive=True, reverse=True)
    product_of_others = reshape(conj(before * after), shape(moved))
    share = transpose(product_of_others, invert_permutation(order))
    result = reshape(grad, reduction.kept) * share
    result.set_shape(source.shape)
    return [result, None]


@RegisterGradient("Cumsum")
def _cumsum(op: Operation, grad: Tensor) -> list[Tensor | None]:
    flags = op.attrs["exclusive"], not op.attrs["reverse"]
    return [cumsum(grad, op.inputs[1], *flags), None]


@RegisterGradient("Cumprod")
def _cumprod(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """Not a number where an element is 0, as in TensorFlow."""
    flags = op.attrs["exclusive"], not op.attrs["reverse"]
    total = cumsum(conj(op.outputs[0]) * grad, op.inputs[1], *flags)
    return [realdiv(total, conj(op.inputs[0])), None]


@RegisterGradient("AccumulateNV2")
@RegisterGradient("AddN")
@takes_sparse
def _add_n(op: Operation, grad: Any) -> list[Any]:
    return [grad] * len(op.inputs)
