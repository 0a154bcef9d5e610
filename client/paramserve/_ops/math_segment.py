"""Rows combined by segment: a number per row says which row of the result it goes to.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor

__all__ = [
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_prod",
    "segment_sum",
    "sparse_segment_mean",
    "sparse_segment_sqrt_n",
    "sparse_segment_sum",
    "unsorted_segment_max",
    "unsorted_segment_min",
    "unsorted_segment_prod",
    "unsorted_segment_sum",
]


def segment_sum(data: TensorLike, segment_ids: TensorLike, name: str | None = None) -> Tensor:
    """The sum of the rows of each segment; 0 for a segment without rows.

    Args:
        data: of shape `[n, ...]`.
        segment_ids: integers of shape `[n]` that do not decrease.
        name: the name of the op.

    Returns:
        A tensor of shape `[1 + last number, ...]`.

    Raises:
        InvalidArgumentError: at run time, where the numbers decrease or are negative.
    """
    return emit_tensor("SegmentSum", name, data=data, segment_ids=segment_ids)


def segment_mean(data: TensorLike, segment_ids: TensorLike, name: str | None = None) -> Tensor:
    """The mean of the rows of each segment; 0 for none. See `segment_sum`."""
    return emit_tensor("SegmentMean", name, data=data, segment_ids=segment_ids)


def segment_prod(data: TensorLike, segment_ids: TensorLike, name: str | None = None) -> Tensor:
    """The product of the rows of each segment; 1 for none. See `segment_sum`."""
    return emit_tensor("SegmentProd", name, data=data, segment_ids=segment_ids)


def segment_max(data: TensorLike, segment_ids: TensorLike, name: str | None = None) -> Tensor:
    """The largest of the rows of each segment; 0 for none. See `segment_sum`."""
    return emit_tensor("SegmentMax", name, data=data, segment_ids=segment_ids)


def segment_min(data: TensorLike, segment_ids: TensorLike, name: str | None = None) -> Tensor:
    """The smallest of the rows of each segment; 0 for none. See `segment_sum`."""
    return emit_tensor("SegmentMin", name, data=data, segment_ids=segment_ids)


def unsorted_segment_sum(
    data: TensorLike, segment_ids: TensorLike, num_segments: TensorLike, name: str | None = None
) -> Tensor:
    """The sum of the rows of each segment, whose numbers are in any order.

    Args:
        data: a tensor whose shape begins with that of `segment_ids`.
        segment_ids: integers below `num_segments`; what has a negative one is left out.
        num_segments: the number of segments, a scalar.
        name: the name of the op.

    Returns:
        A tensor of shape `[num_segments] + data.shape[segment_ids.rank:]`, 0 for no rows.

    Raises:
        InvalidArgumentError: at run time, where a number is too large.
    """
    return emit_tensor(
        "UnsortedSegmentSum", name, data=data, segment_ids=segment_ids, num_segments=num_segments
    )


def unsorted_segment_prod(
    data: TensorLike, segment_ids: TensorLike, num_segments: TensorLike, name: str | None = None
) -> Tensor:
    """The product of the rows of each segment; 1 for none. See `unsorted_segment_sum`."""
    return emit_tensor(
        "UnsortedSegmentProd", name, data=data, segment_ids=segment_ids, num_segments=num_segments
    )


def unsorted_segment_max(
    data: TensorLike, segment_ids: TensorLike, num_segments: TensorLike, name: str | None = None
) -> Tensor:
    """The largest row of each segment; the type's smallest value for none."""
    return emit_tensor(
        "UnsortedSegmentMax", name, data=data, segment_ids=segment_ids, num_segments=num_segments
    )


def unsorted_segment_min(
    data: TensorLike, segment_ids: TensorLike, num_segments: TensorLike, name: str | None = None
) -> Tensor:
    """The smallest row of each segment; the type's largest value for none."""
    return emit_tensor(
        "UnsortedSegmentMin", name, data=data, segment_ids=segment_ids, num_segments=num_segments
    )


def sparse_segment_sum(
    data: TensorLike,
    indices: TensorLike,
    segment_ids: TensorLike,
    name: str | None = None,
    num_segments: TensorLike | None = None,
) -> Tensor:
    """`segment_sum` of the rows of a table that `indices` picks.

    Args:
        data: the table, of shape `[rows, ...]`.
        indices: numbers of rows, of shape `[n]`.
        segment_ids: the segment of each, of shape `[n]`, in an order that does not decrease.
        name: the name of the op.
        num_segments: the number of segments, a scalar; 1 + the last number by default.

    Raises:
        InvalidArgumentError: at run time, where a number is out of range or out of order.
    """
    return _sparse("SparseSegmentSum", data, indices, segment_ids, name, num_segments)


def sparse_segment_mean(
    data: TensorLike,
    indices: TensorLike,
    segment_ids: TensorLike,
    name: str | None = None,
    num_segments: TensorLike | None = None,
) -> Tensor:
    """`segment_mean` of the rows of a table. See `sparse_segment_sum`."""
    return _sparse("SparseSegmentMean", data, indices, segment_ids, name, num_segments)


def sparse_segment_sqrt_n(
    data: TensorLike,
    indices: TensorLike,
    segment_ids: TensorLike,
    name: str | None = None,
    num_segments: TensorLike | None = None,
) -> Tensor:
    """The sum of each segment's rows over the square root of their number.

    See `sparse_segment_sum`.
    """
    return _sparse("SparseSegmentSqrtN", data, indices, segment_ids, name, num_segments)


def _sparse(
    op_type: str,
    data: TensorLike,
    indices: TensorLike,
    segment_ids: TensorLike,
    name: str | None,
    num_segments: TensorLike | None,
) -> Tensor:
    if num_segments is None:
        return emit_tensor(op_type, name, data=data, indices=indices, segment_ids=segment_ids)
    return emit_tensor(
        f"{op_type}WithNumSegments",
        name or op_type,
        data=data,
        indices=indices,
        segment_ids=segment_ids,
        num_segments=num_segments,
    )
