"""Kernels that combine rows by segment; `segments` does the work.

A segment without rows gets the value that combining nothing gives, but for the sorted `SegmentMax`
and `SegmentMin`, where TensorFlow has 0.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from paramserve_core.dtypes import as_dtype
from paramserve_core.kernels.arguments import check_indices, check_prefix, size_value
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import (
    Array,
    check_rank,
    compute_dtype,
    invalid,
    quiet,
    truncated_quotient,
)
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_core.kernels.segments import combine

_UFUNCS: Final = {
    "Sum": np.add,
    "Mean": np.add,
    "SqrtN": np.add,
    "Prod": np.multiply,
    "Max": np.maximum,
    "Min": np.minimum,
}


def _placed(numbers: Array, rows: Array, count: int, dtype: np.dtype[Any], empty: Any) -> Array:
    """An array of `count` rows: these at their numbers, `empty` elsewhere."""
    shape = (count, *rows.shape[1:])
    checked_size(shape, dtype.itemsize)
    result = np.full(shape, empty, dtype) if empty else np.zeros(shape, dtype)
    result[numbers] = rows
    return result


def _check_sorted(op: str, numbers: Array, rows: int) -> None:
    """Refuses segment numbers that are not one per row, ascending from 0 or more."""
    check_rank(op, "segment_ids", numbers, 1)
    if numbers.size != rows:
        invalid(f"{op}: segment_ids should have one number per row, {rows}, but has {numbers.size}")
    if (numbers[1:] < numbers[:-1]).any():
        invalid(f"{op}: segment ids are not increasing")
    if numbers.size and numbers[0] < 0:
        invalid(f"{op}: segment ids must be >= 0, the first is {int(numbers[0])}")


def _check_table(op: str, what: str, table: Array) -> None:
    if table.ndim == 0:
        invalid(f"{op}: {what} must be at least rank 1, but is a scalar")


@kernel("SegmentSum", "SegmentMean", "SegmentProd", "SegmentMax", "SegmentMin")
@quiet
def _segment(node: KernelNode, data: Array, segment_ids: Array) -> Array:
    _check_table(node.op, "data", data)
    _check_sorted(node.op, segment_ids, data.shape[0])
    kind = node.op.removeprefix("Segment")
    numbers, lengths, rows = combine(_UFUNCS[kind], segment_ids, data)
    if kind == "Mean":
        counts = lengths.reshape(-1, *(1,) * (rows.ndim - 1)).astype(rows.dtype)
        rows = truncated_quotient(rows, counts) if rows.dtype.kind in "iu" else rows / counts
    count = int(segment_ids[-1]) + 1 if segment_ids.size else 0
    return _placed(numbers, rows, count, data.dtype, 1 if kind == "Prod" else 0)


@kernel("UnsortedSegmentSum", "UnsortedSegmentProd", "UnsortedSegmentMax", "UnsortedSegmentMin")
@quiet
def _unsorted_segment(
    node: KernelNode, data: Array, segment_ids: Array, num_segments: Array
) -> Array:
    count = size_value(node.op, "num_segments", num_segments)
    check_prefix(node.op, "data", "segment_ids", data, segment_ids)
    numbers = segment_ids.reshape(-1)
    rows = data.reshape(numbers.size, *data.shape[segment_ids.ndim :])
    # A row with a negative number belongs to no segment.
    kept = numbers >= 0
    if not kept.all():
        numbers, rows = numbers[kept], rows[kept]
    check_indices("segment_ids", numbers, count)
    kind = node.op.removeprefix("UnsortedSegment")
    distinct, _, combined = combine(_UFUNCS[kind], numbers, rows)
    return _placed(distinct, combined, count, data.dtype, _of_nothing(kind, data.dtype))


def _of_nothing(kind: str, dtype: np.dtype[Any]) -> Any:
    """What combining no rows gives."""
    if kind in ("Sum", "Prod"):
        return 0 if kind == "Sum" else 1
    element = as_dtype(dtype)
    return element.min if kind == "Max" else element.max


@kernel(
    "SparseSegmentSum",
    "SparseSegmentMean",
    "SparseSegmentSqrtN",
    "SparseSegmentSumWithNumSegments",
    "SparseSegmentMeanWithNumSegments",
    "SparseSegmentSqrtNWithNumSegments",
)
@quiet
def _sparse_segment(
    node: KernelNode,
    data: Array,
    indices: Array,
    segment_ids: Array,
    num_segments: Array | None = None,
) -> Array:
    _check_table(node.op, "data", data)
    check_rank(node.op, "indices", indices, 1)
    _check_sorted(node.op, segment_ids, indices.size)
    check_indices("indices", indices, data.shape[0])
    count = int(segment_ids[-1]) + 1 if segment_ids.size else 0
    if num_segments is not None:
        wanted = size_value(node.op, "num_segments", num_segments)
        if count > wanted:
            invalid(f"segment ids must be < num_segments, {wanted}, the last is {count - 1}")
        count = wanted
    checked_size((indices.size, *data.shape[1:]), data.itemsize)
    numbers, lengths, rows = combine(np.add, segment_ids, np.take(data, indices, 0, mode="clip"))
    divisors = _divisors(node.op, lengths, rows)
    return _placed(numbers, rows if divisors is None else rows / divisors, count, data.dtype, 0)


@kernel("SparseSegmentSumGrad", "SparseSegmentMeanGrad", "SparseSegmentSqrtNGrad")
@quiet
def _sparse_segment_grad(
    node: KernelNode, grad: Array, indices: Array, segment_ids: Array, output_dim0: Array
) -> Array:
    _check_table(node.op, "grad", grad)
    check_rank(node.op, "indices", indices, 1)
    count = size_value(node.op, "output_dim0", output_dim0)
    check_rank(node.op, "segment_ids", segment_ids, 1)
    if segment_ids.size != indices.size:
        invalid(f"{node.op}: {segment_ids.size} segment_ids for {indices.size} indices")
    check_indices("segment_ids", segment_ids, grad.shape[0])
    check_indices("indices", indices, count)
    scaled = grad.astype(compute_dtype(grad.dtype), copy=False)
    divisors = _divisors(node.op, np.bincount(segment_ids, minlength=grad.shape[0]), scaled)
    if divisors is not None:
        scaled = scaled / divisors
    checked_size((indices.size, *grad.shape[1:]), scaled.itemsize)
    numbers, _, rows = combine(np.add, indices, np.take(scaled, segment_ids, 0, mode="clip"))
    return _placed(numbers, rows, count, grad.dtype, 0)


def _divisors(op: str, lengths: Array, rows: Array) -> Array | None:
    """What the sum of each segment is divided by, shaped to broadcast over its row."""
    if op.startswith("SparseSegmentSum"):
        return None
    counts = lengths.reshape(-1, *(1,) * (rows.ndim - 1)).astype(rows.dtype)
    return np.sqrt(counts) if "SqrtN" in op else counts
