"""Products of matrices and of batches of matrices, and the cross product.

Thread rule: as the registry's.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from paramserve_core.dtypes import int16, int32, int64
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import ShapeContext, bool_attr, register_op, type_attr
from paramserve_core.opdefs.shape_functions import UNKNOWN
from paramserve_core.opdefs.type_sets import COMPLEX, FLOATS, REALS, UNSIGNED
from paramserve_core.shapes import TensorShape


def _matmul(ctx: ShapeContext) -> Sequence[TensorShape]:
    a = shape_functions.require_rank(ctx, 0, 2)
    b = shape_functions.require_rank(ctx, 1, 2)
    if ctx.attrs["transpose_a"]:
        a.reverse()
    if ctx.attrs["transpose_b"]:
        b.reverse()
    shape_functions.merge_dims(ctx, a[1], b[0])
    return [TensorShape([a[0], b[1]])]


def _batch_matmul(ctx: ShapeContext, *, broadcasts: bool) -> Sequence[TensorShape]:
    x = shape_functions.require_rank_at_least(ctx, 0, 2)
    y = shape_functions.require_rank_at_least(ctx, 1, 2)
    if x is None or y is None:
        return [UNKNOWN]
    x_rows, x_inner = x[-2:][::-1] if ctx.attrs["adj_x"] else x[-2:]
    y_inner, y_columns = y[-2:][::-1] if ctx.attrs["adj_y"] else y[-2:]
    shape_functions.merge_dims(ctx, x_inner, y_inner)
    x_batch, y_batch = TensorShape(x[:-2]), TensorShape(y[:-2])
    if broadcasts:
        batch = shape_functions.broadcast_shapes(ctx, x_batch, y_batch)
    else:
        batch = shape_functions.merge_shapes(ctx, [x_batch, y_batch])
    return [TensorShape([*batch.as_list(), x_rows, y_columns])]


def _cross(ctx: ShapeContext) -> Sequence[TensorShape]:
    shape = shape_functions.merge_shapes(ctx, ctx.input_shapes)
    dims = shape_functions.dims_of(shape)
    if dims is None:
        return [UNKNOWN]
    if not dims:
        raise shape_functions.shape_error(ctx, "Shape must be at least rank 1 but is rank 0")
    return [TensorShape([*dims[:-1], shape_functions.merge_dims(ctx, dims[-1], 3)])]


register_op(
    "MatMul",
    inputs="a: T, b: T",
    outputs="product: T",
    attrs={
        "transpose_a": bool_attr(False),
        "transpose_b": bool_attr(False),
        "T": type_attr((*FLOATS, int32, int64, *UNSIGNED, *COMPLEX)),
        "grad_a": bool_attr(False),
        "grad_b": bool_attr(False),
    },
    shape=_matmul,
)
for _name, _types, _broadcasts in (
    ("BatchMatMul", (*FLOATS, int32, int64, *COMPLEX), False),
    ("BatchMatMulV2", (*FLOATS, int16, int32, int64, *UNSIGNED, *COMPLEX), True),
):
    register_op(
        _name,
        inputs="x: T, y: T",
        outputs="output: T",
        attrs={
            "T": type_attr(_types),
            "adj_x": bool_attr(False),
            "adj_y": bool_attr(False),
            "grad_x": bool_attr(False),
            "grad_y": bool_attr(False),
        },
        shape=functools.partial(_batch_matmul, broadcasts=_broadcasts),
    )
register_op(
    "Cross",
    inputs="a: T, b: T",
    outputs="product: T",
    attrs={"T": type_attr(REALS)},
    shape=_cross,
)
