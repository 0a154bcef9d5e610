"""Evenly spaced sequences, and counts of the members of one.

Thread rule: as the registry's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.dtypes import (
    bfloat16,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint16,
    uint32,
    uint64,
)
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import ShapeContext, register_op, type_attr
from paramserve_core.opdefs.type_sets import FLOATS, INDICES
from paramserve_core.shapes import TensorShape


def range_length(start: NDArray[Any], limit: NDArray[Any], delta: NDArray[Any]) -> int:
    """How many members ``range(start, limit, delta)`` has.

    Exact for integers. For floats it is computed in their own type, as TensorFlow does: in float32
    the sixth multiple of 0.1 is 0.6, and not a member of ``range(0, 0.6, 0.1)``.

    Args:
        start: an array without dimensions.
        limit: another of the same type.
        delta: another of the same type.

    Raises:
        ValueError: `delta` is zero or leads away from `limit`, or a number is not finite.
    """
    if delta == 0:
        raise ValueError(f"Requires delta != 0: {delta}")
    if delta > 0 and not start <= limit:
        raise ValueError(f"Requires start <= limit when delta > 0: {start}/{limit}")
    if not delta > 0 and not start >= limit:
        raise ValueError(f"Requires start >= limit when delta < 0: {start}/{limit}")
    if start.dtype.kind in "iu":
        return -((int(limit) - int(start)) // -int(delta))
    with np.errstate(all="ignore"):
        steps = float(np.abs((limit - start) / delta))
    if not math.isfinite(steps):
        raise ValueError(f"Requires finite numbers of members: range({start}, {limit}, {delta})")
    return math.ceil(steps)


def _range(ctx: ShapeContext) -> Sequence[TensorShape]:
    for i in range(3):
        shape_functions.require_rank(ctx, i, 0)
    values = [ctx.constant(i) for i in range(3)]
    known = [v for v in values if v is not None]
    if len(known) < 3:
        return [TensorShape([None])]
    try:
        return [TensorShape([range_length(*known)])]
    except ValueError as error:
        raise shape_functions.shape_error(ctx, str(error)) from None


def _lin_space(ctx: ShapeContext) -> Sequence[TensorShape]:
    for i in range(3):
        shape_functions.require_rank(ctx, i, 0)
    num = ctx.constant(2)
    if num is None:
        return [TensorShape([None])]
    if int(num) <= 0:
        raise shape_functions.shape_error(ctx, f"Requires num > 0: {int(num)}")
    return [TensorShape([int(num)])]


def _bincount(ctx: ShapeContext) -> Sequence[TensorShape]:
    shape_functions.require_rank(ctx, 1, 0)
    size = ctx.constant(1)
    if size is None:
        return [TensorShape([None])]
    if int(size) < 0:
        raise shape_functions.shape_error(ctx, f"size ({int(size)}) must be non-negative")
    return [TensorShape([int(size)])]


register_op(
    "Range",
    inputs="start: Tidx, limit: Tidx, delta: Tidx",
    outputs="output: Tidx",
    attrs={
        "Tidx": type_attr(
            (
                bfloat16,
                float16,
                float32,
                float64,
                int8,
                int16,
                int32,
                int64,
                uint16,
                uint32,
                uint64,
            ),
            default=int32,
        )
    },
    shape=_range,
)
register_op(
    "LinSpace",
    inputs="start: T, stop: T, num: Tidx",
    outputs="output: T",
    attrs={"T": type_attr(FLOATS), "Tidx": type_attr(INDICES, default=int32)},
    shape=_lin_space,
)
register_op(
    "Bincount",
    inputs="arr: int32, size: int32, weights: T",
    outputs="bins: T",
    attrs={"T": type_attr((int32, int64, float32, float64))},
    shape=_bincount,
)
