"""Reductions over axes, positions of extremes, running totals and sums of many tensors.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramserve_core.dtypes import DType, int16, int32, int64, uint16
from paramserve_core.dtypes import bool as bool_
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    int_attr,
    register_op,
    shape_attr,
    type_attr,
)
from paramserve_core.opdefs.shape_functions import SCALAR, UNKNOWN
from paramserve_core.opdefs.type_sets import INDICES, NUMBERS, REALS
from paramserve_core.shapes import TensorShape


def _position(ctx: ShapeContext) -> Sequence[TensorShape]:
    """Input 0 without the axis that input 1, a scalar, names."""
    axis_dims = shape_functions.require_rank(ctx, 1, 0)
    assert not axis_dims
    dims = shape_functions.dims_of(ctx.input_shapes[0])
    if dims is None:
        return [UNKNOWN]
    if len(dims) <= 1:
        return [SCALAR]
    axis = ctx.constant(1)
    if axis is None:
        return [TensorShape([None] * (len(dims) - 1))]
    del dims[shape_functions.axis_within(ctx, int(axis), len(dims), "Dimension")]
    return [TensorShape(dims)]


def _running(ctx: ShapeContext) -> Sequence[TensorShape]:
    """The shape of input 0; input 1 is the axis."""
    dims = shape_functions.dims_of(ctx.input_shapes[0])
    axis = ctx.constant(1)
    if dims is not None and axis is not None and axis.size == 1:
        shape_functions.axis_within(ctx, int(axis.reshape(())), len(dims))
    return [ctx.input_shapes[0]]


def _accumulated(ctx: ShapeContext) -> Sequence[TensorShape]:
    """The attribute `shape`, merged with every input's."""
    return [shape_functions.merge_shapes(ctx, [ctx.attrs["shape"], *ctx.input_shapes])]


def _reduction(names: str, allowed: Iterable[DType]) -> None:
    for name in names.split():
        register_op(
            name,
            inputs="input: T, reduction_indices: Tidx",
            outputs="output: T",
            attrs={
                "keep_dims": bool_attr(False),
                "T": type_attr(allowed),
                "Tidx": type_attr(INDICES, default=int32),
            },
            shape=shape_functions.reduction,
        )


_reduction("Sum Mean Prod", NUMBERS)
_reduction("Max Min", REALS)

for _name in ("All", "Any"):
    register_op(
        _name,
        inputs="input: bool, reduction_indices: Tidx",
        outputs="output: bool",
        attrs={"keep_dims": bool_attr(False), "Tidx": type_attr(INDICES, default=int32)},
        shape=shape_functions.reduction,
    )

for _name, _axis_types, _position_types in (
    ("ArgMax", (int16, int32, int64), (int16, uint16, int32, int64)),
    ("ArgMin", INDICES, INDICES),
):
    register_op(
        _name,
        inputs="input: T, dimension: Tidx",
        outputs="output: output_type",
        attrs={
            "T": type_attr((*REALS, bool_)),
            "Tidx": type_attr(_axis_types, default=int32),
            "output_type": type_attr(_position_types, default=int64),
        },
        shape=_position,
    )

for _name in ("Cumsum", "Cumprod"):
    register_op(
        _name,
        inputs="x: T, axis: Tidx",
        outputs="out: T",
        attrs={
            "exclusive": bool_attr(False),
            "reverse": bool_attr(False),
            "T": type_attr(NUMBERS),
            "Tidx": type_attr(INDICES, default=int32),
        },
        shape=_running,
    )

register_op(
    "AddN",
    inputs="inputs: N * T",
    outputs="sum: T",
    attrs={"N": int_attr(minimum=1), "T": type_attr(NUMBERS)},
    shape=shape_functions.merged,
)
register_op(
    "AccumulateNV2",
    inputs="inputs: N * T",
    outputs="sum: T",
    attrs={"N": int_attr(minimum=1), "T": type_attr(NUMBERS), "shape": shape_attr()},
    shape=_accumulated,
)
