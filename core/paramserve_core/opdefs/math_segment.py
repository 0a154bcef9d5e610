"""Rows combined by segment: a number per row says which row of the result it goes to.

Three forms. `Segment*` takes numbers that do not decrease, and gives as many rows as the last
number says. `UnsortedSegment*` takes them in any order, in any shape that data begins with, and
is told the number of segments. `SparseSegment*` combines rows of a table that `indices` picks.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramserve_core.dtypes import DType, int16, int32
from paramserve_core.opdefs.registry import ShapeContext, bool_attr, register_op, type_attr
from paramserve_core.opdefs.shape_functions import (
    UNKNOWN,
    dims_of,
    merge_dims,
    require_rank,
    require_rank_at_least,
    shape_error,
)
from paramserve_core.opdefs.type_sets import FLOATS, INDICES, NUMBERS, REALS
from paramserve_core.shapes import TensorShape


def _count(ctx: ShapeContext, index: int, what: str) -> int | None:
    """The value of input `index`, a scalar, where it is known."""
    require_rank(ctx, index, 0)
    value = ctx.constant(index)
    if value is not None and int(value) < 0:
        raise shape_error(ctx, f"{what} must be non-negative, got: {int(value)}")
    return None if value is None else int(value)


def _segment(ctx: ShapeContext) -> Sequence[TensorShape]:
    (numbers,) = require_rank(ctx, 1, 1)
    data = require_rank_at_least(ctx, 0, 1)
    if data is None:
        return [UNKNOWN]
    merge_dims(ctx, data[0], numbers)
    return [TensorShape([None, *data[1:]])]


def _unsorted_segment(ctx: ShapeContext) -> Sequence[TensorShape]:
    segments = _count(ctx, 2, "num_segments")
    data, numbers = dims_of(ctx.input_shapes[0]), dims_of(ctx.input_shapes[1])
    if data is None or numbers is None:
        return [UNKNOWN]
    if len(numbers) > len(data):
        raise shape_error(ctx, "data.shape must start with segment_ids.shape")
    for a, b in zip(data, numbers, strict=False):
        merge_dims(ctx, a, b)
    return [TensorShape([segments, *data[len(numbers) :]])]


def _sparse_segment(ctx: ShapeContext) -> Sequence[TensorShape]:
    data = require_rank_at_least(ctx, 0, 1)
    merge_dims(ctx, require_rank(ctx, 1, 1)[0], require_rank(ctx, 2, 1)[0])
    counted = len(ctx.input_shapes) == 4
    segments = _count(ctx, 3, "num_segments") if counted else None
    return [UNKNOWN if data is None else TensorShape([segments, *data[1:]])]


def _sparse_segment_grad(ctx: ShapeContext) -> Sequence[TensorShape]:
    grad = require_rank_at_least(ctx, 0, 1)
    merge_dims(ctx, require_rank(ctx, 1, 1)[0], require_rank(ctx, 2, 1)[0])
    rows = _count(ctx, 3, "output_dim0")
    return [UNKNOWN if grad is None else TensorShape([rows, *grad[1:]])]


def _register_segment(name: str, allowed: Iterable[DType]) -> None:
    register_op(
        f"Segment{name}",
        inputs="data: T, segment_ids: Tindices",
        outputs="output: T",
        attrs={"T": type_attr(allowed), "Tindices": type_attr(INDICES)},
        shape=_segment,
    )


def _register_unsorted(name: str, allowed: Iterable[DType], numbers: Iterable[DType]) -> None:
    register_op(
        f"UnsortedSegment{name}",
        inputs="data: T, segment_ids: Tindices, num_segments: Tnumsegments",
        outputs="output: T",
        attrs={
            "T": type_attr(allowed),
            "Tindices": type_attr(numbers),
            "Tnumsegments": type_attr(INDICES, default=int32),
        },
        shape=_unsorted_segment,
    )


def _register_sparse(name: str, allowed: Iterable[DType]) -> None:
    types = {
        "Tidx": type_attr(INDICES, default=int32),
        "Tsegmentids": type_attr(INDICES, default=int32),
    }
    forward = {"T": type_attr(allowed), **types, "sparse_gradient": bool_attr(False)}
    register_op(
        f"SparseSegment{name}",
        inputs="data: T, indices: Tidx, segment_ids: Tsegmentids",
        outputs="output: T",
        attrs=forward,
        shape=_sparse_segment,
    )
    register_op(
        f"SparseSegment{name}WithNumSegments",
        inputs="data: T, indices: Tidx, segment_ids: Tsegmentids, num_segments: Tnumsegments",
        outputs="output: T",
        attrs={**forward, "Tnumsegments": type_attr(INDICES, default=int32)},
        shape=_sparse_segment,
    )
    register_op(
        f"SparseSegment{name}Grad",
        inputs="grad: T, indices: Tidx, segment_ids: Tsegmentids, output_dim0: int32",
        outputs="output: T",
        attrs={"T": type_attr(FLOATS), **types},
        shape=_sparse_segment_grad,
    )


for _name in ("Sum", "Mean", "Prod"):
    _register_segment(_name, NUMBERS)
for _name in ("Max", "Min"):
    _register_segment(_name, REALS)
_register_unsorted("Sum", NUMBERS, (int16, *INDICES))
_register_unsorted("Prod", NUMBERS, INDICES)
for _name in ("Max", "Min"):
    _register_unsorted(_name, REALS, INDICES)
_register_sparse("Sum", REALS)
for _name in ("Mean", "SqrtN"):
    _register_sparse(_name, FLOATS)
