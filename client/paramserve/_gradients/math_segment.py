"""Gradients of the family `math_segment`: rows that were combined get what came of them.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import zero_unless
from paramserve._ops.array import cast, ones, ones_like, rank, reshape, shape
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import gather
from paramserve._ops.joining import concat
from paramserve._ops.math import equal, greater_equal, maximum, realdiv
from paramserve._ops.math_segment import (
    segment_prod,
    segment_sum,
    unsorted_segment_prod,
    unsorted_segment_sum,
)


class _Segments:
    """The segments of one op: how rows are combined into them, and taken from them."""

    def __init__(self, op: Operation) -> None:
        self._ids = op.inputs[1]
        self._count = op.inputs[2] if len(op.inputs) > 2 else None

    def sum(self, data: Tensor) -> Tensor:
        """The sum of each segment's rows."""
        if self._count is None:
            return segment_sum(data, self._ids)
        return unsorted_segment_sum(data, self._ids, self._count)

    def product(self, data: Tensor) -> Tensor:
        """The product of each segment's rows."""
        if self._count is None:
            return segment_prod(data, self._ids)
        return unsorted_segment_prod(data, self._ids, self._count)

    def spread(self, rows: Tensor) -> Tensor:
        """For each row of the data the row of its segment; zeros for a row of no segment."""
        if self._count is None:
            return gather(rows, self._ids)
        found = gather(rows, maximum(self._ids, 0))
        # Conditions of the data's rank: one per row, in dimensions of 1.
        belongs = greater_equal(self._ids, 0)
        tail = ones(reshape(rank(found) - rank(belongs), [1]), "int32")
        return zero_unless(reshape(belongs, concat([shape(belongs), tail], 0)), found)


def _padded(found: list[Tensor], op: Operation) -> list[Tensor | None]:
    return [*found, *[None] * (len(op.inputs) - len(found))]


@RegisterGradient("SegmentSum")
@RegisterGradient("UnsortedSegmentSum")
def _sum(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return _padded([_Segments(op).spread(grad)], op)


@RegisterGradient("SegmentMean")
def _mean(op: Operation, grad: Tensor) -> list[Tensor | None]:
    segments = _Segments(op)
    ids, tail = op.inputs[1], ones(reshape(rank(grad) - 1, [1]), "int32")
    each = ones(concat([shape(ids), tail], 0), grad.dtype.base_dtype)
    return _padded([segments.spread(realdiv(grad, segments.sum(each)))], op)


@RegisterGradient("SegmentMax")
@RegisterGradient("SegmentMin")
@RegisterGradient("UnsortedSegmentMax")
@RegisterGradient("UnsortedSegmentMin")
def _extreme(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """Shared evenly among the rows that are the extreme."""
    segments = _Segments(op)
    is_extreme = equal(op.inputs[0], segments.spread(op.outputs[0]))
    count = segments.sum(cast(is_extreme, grad.dtype.base_dtype))
    return _padded([zero_unless(is_extreme, segments.spread(realdiv(grad, count)))], op)


@RegisterGradient("SegmentProd")
@RegisterGradient("UnsortedSegmentProd")
def _product(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """Each row's share is the product of the others, so that zeros do no harm."""
    data, segments = op.inputs[0], _Segments(op)
    is_zero = equal(data, 0)
    nonzero = emit_tensor("SelectV2", None, condition=is_zero, t=ones_like(data), e=data)
    zeros = segments.spread(segments.sum(cast(is_zero, data.dtype.base_dtype)))
    product_of_nonzero = segments.spread(segments.product(nonzero))
    # Of the only zero the others are all that is not zero; a second zero makes every share 0.
    share = emit_tensor(
        "SelectV2",
        None,
        condition=is_zero,
        t=zero_unless(equal(zeros, 1), product_of_nonzero),
        e=zero_unless(equal(zeros, 0), realdiv(product_of_nonzero, nonzero)),
    )
    return _padded([segments.spread(grad) * share], op)


@RegisterGradient("SparseSegmentSum")
@RegisterGradient("SparseSegmentSumWithNumSegments")
def _sparse_sum(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return _sparse("SparseSegmentSumGrad", op, grad)


@RegisterGradient("SparseSegmentMean")
@RegisterGradient("SparseSegmentMeanWithNumSegments")
def _sparse_mean(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return _sparse("SparseSegmentMeanGrad", op, grad)


@RegisterGradient("SparseSegmentSqrtN")
@RegisterGradient("SparseSegmentSqrtNWithNumSegments")
def _sparse_sqrt_n(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return _sparse("SparseSegmentSqrtNGrad", op, grad)


def _sparse(op_type: str, op: Operation, grad: Tensor) -> list[Tensor | None]:
    data, indices, segment_ids = op.inputs[:3]
    rows = gather(shape(data), 0)
    found = emit_tensor(
        op_type, None, grad=grad, indices=indices, segment_ids=segment_ids, output_dim0=rows
    )
    return _padded([found], op)


@RegisterGradient("SparseSegmentSumGrad")
@RegisterGradient("SparseSegmentMeanGrad")
@RegisterGradient("SparseSegmentSqrtNGrad")
def _sparse_grad(op: Operation, grad: Tensor) -> list[Tensor | None]:
    """What these ops do to a gradient is linear, and the forward op is its transpose."""
    forward = op.type.removesuffix("Grad") + "WithNumSegments"
    found = emit_tensor(
        forward,
        None,
        data=grad,
        indices=op.inputs[1],
        segment_ids=op.inputs[2],
        num_segments=gather(shape(op.inputs[0]), 0),
    )
    return _padded([found], op)
