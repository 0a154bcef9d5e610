"""Ops that decide what runs: groups, assertions, and the two ends of a conditional.

A conditional is data flow: `Switch` sends a tensor down one of two branches and nothing down the
other, and `Merge` takes whichever arrived. Everything between runs only on the branch taken.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    int_attr,
    register_op,
    type_attr,
    type_list_attr,
)
from paramserve_core.shapes import TensorShape


def _both_branches(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.require_rank(ctx, 1, 0)
    return [ctx.input_shapes[0]] * 2


def _any_of(ctx: ShapeContext) -> Sequence[TensorShape]:
    """What all inputs agree on, and the index of the one that was alive."""
    first = ctx.input_shapes[0]
    ranks = {shape.ndims for shape in ctx.input_shapes}
    if len(ranks) != 1 or first.ndims is None:
        return [shapes.UNKNOWN, shapes.SCALAR]
    columns = zip(*(shape.as_list() for shape in ctx.input_shapes), strict=True)
    dims = [column[0] if len(set(column)) == 1 else None for column in columns]
    return [TensorShape(dims), shapes.SCALAR]


register_op("NoOp", shape=shapes.no_outputs)
register_op("ControlTrigger", shape=shapes.no_outputs)
register_op(
    "Assert",
    inputs="condition: bool, data: T",
    attrs={"T": type_list_attr(minimum=1), "summarize": int_attr(3)},
    shape=shapes.no_outputs,
    is_stateful=True,
)
register_op(
    "Switch",
    inputs="data: T, pred: bool",
    outputs="output_false: T, output_true: T",
    attrs={"T": type_attr()},
    shape=_both_branches,
)
register_op(
    "RefSwitch",
    inputs="data: Ref(T), pred: bool",
    outputs="output_false: Ref(T), output_true: Ref(T)",
    attrs={"T": type_attr()},
    shape=_both_branches,
    allows_uninitialized_input=True,
)
register_op(
    "Merge",
    inputs="inputs: N * T",
    outputs="output: T, value_index: int32",
    attrs={"T": type_attr(), "N": int_attr(minimum=1)},
    shape=_any_of,
)
register_op(
    "RefMerge",
    inputs="inputs: N * Ref(T)",
    outputs="output: Ref(T), value_index: int32",
    attrs={"T": type_attr(), "N": int_attr(minimum=1)},
    shape=_any_of,
)
