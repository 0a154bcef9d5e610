"""Ops that change slices of variables, by brackets or by index vectors.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.indexing import SLICE_MASKS, sliced
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    register_op,
    string_attr,
    type_attr,
)
from paramserve_core.opdefs.type_sets import INDICES, NUMBERS
from paramserve_core.shapes import TensorShape


def _slice_assigned(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.merge_shapes(ctx, [*sliced(ctx), ctx.input_shapes[4]])
    return [ctx.input_shapes[0]]


def _scattered(ctx: ShapeContext) -> Sequence[TensorShape]:
    """The updates have the shape of the index vectors' array, then that of a slice."""
    ref, updates = shapes.dims_of(ctx.input_shapes[0]), ctx.input_shapes[2]
    indices = shapes.require_rank_at_least(ctx, 1, 1)
    if ref is not None and indices is not None and indices[-1] is not None:
        depth = indices[-1]
        if depth > len(ref):
            raise shapes.shape_error(
                ctx, f"index vectors of length {depth} for a variable of rank {len(ref)}"
            )
        shapes.merge_shapes(ctx, [TensorShape(indices[:-1] + ref[depth:]), updates])
    return [ctx.input_shapes[0]]


register_op(
    "StridedSliceAssign",
    inputs="ref: Ref(T), begin: Index, end: Index, strides: Index, value: T",
    outputs="output_ref: Ref(T)",
    attrs={"T": type_attr(), "Index": type_attr(INDICES), **SLICE_MASKS},
    shape=_slice_assigned,
    has_effect=True,
)
for _op, _types, _is_locked in (
    ("ScatterNdUpdate", (), True),
    ("ScatterNdAdd", NUMBERS, False),
    ("ScatterNdSub", NUMBERS, False),
):
    register_op(
        _op,
        inputs="ref: Ref(T), indices: Tindices, updates: T",
        outputs="output_ref: Ref(T)",
        attrs={
            "T": type_attr(_types),
            "Tindices": type_attr(INDICES),
            "use_locking": bool_attr(_is_locked),
            "bad_indices_policy": string_attr(""),
        },
        shape=_scattered,
        has_effect=True,
    )
