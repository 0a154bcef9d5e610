"""Ops that decide what runs: groups, assertions, the ends of a conditional, and those of a loop.

A conditional is data flow: `Switch` sends a tensor down one of two branches and nothing down the
other, and `Merge` takes whichever arrived. Everything between runs only on the branch taken.

A loop is made of the same two and of a frame around them, see `paramserve_core.frames`. A stack
holds what the iterations of a loop leave for the loop that computes its gradient.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    int_attr,
    passing_type_attr,
    register_op,
    string_attr,
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


def _one_scalar(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.require_rank(ctx, 0, 0)
    return [shapes.SCALAR]


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
    attrs={"T": passing_type_attr()},
    shape=_both_branches,
)
register_op(
    "RefSwitch",
    inputs="data: Ref(T), pred: bool",
    outputs="output_false: Ref(T), output_true: Ref(T)",
    attrs={"T": passing_type_attr()},
    shape=_both_branches,
    allows_uninitialized_input=True,
)
register_op(
    "Merge",
    inputs="inputs: N * T",
    outputs="output: T, value_index: int32",
    attrs={"T": passing_type_attr(), "N": int_attr(minimum=1)},
    shape=_any_of,
)
register_op(
    "RefMerge",
    inputs="inputs: N * Ref(T)",
    outputs="output: Ref(T), value_index: int32",
    attrs={"T": passing_type_attr(), "N": int_attr(minimum=1)},
    shape=_any_of,
)


for _prefix, _type in (("", "T"), ("Ref", "Ref(T)")):
    register_op(
        f"{_prefix}Enter",
        inputs=f"data: {_type}",
        outputs=f"output: {_type}",
        attrs={
            "T": passing_type_attr(),
            "frame_name": string_attr(),
            "is_constant": bool_attr(False),
            "parallel_iterations": int_attr(10),
        },
        shape=shapes.unchanged,
        allows_uninitialized_input=bool(_prefix),
    )
    for _op in ("Exit", "NextIteration"):
        register_op(
            f"{_prefix}{_op}",
            inputs=f"data: {_type}",
            outputs=f"output: {_type}",
            attrs={"T": passing_type_attr()},
            shape=shapes.unchanged,
            allows_uninitialized_input=bool(_prefix),
        )
register_op("LoopCond", inputs="input: bool", outputs="output: bool", shape=_one_scalar)

register_op(
    "StackV2",
    inputs="max_size: int32",
    outputs="handle: resource",
    attrs={"elem_type": passing_type_attr(), "stack_name": string_attr("")},
    shape=shapes.scalar,
    is_stateful=True,
)
register_op(
    "StackPushV2",
    inputs="handle: resource, elem: T",
    outputs="output: T",
    attrs={"T": passing_type_attr(), "swap_memory": bool_attr(False)},
    shape=shapes.output_like(1),
    is_stateful=True,
)
register_op(
    "StackPopV2",
    inputs="handle: resource",
    outputs="elem: elem_type",
    attrs={"elem_type": passing_type_attr()},
    shape=shapes.unknown,
    is_stateful=True,
)
register_op("StackCloseV2", inputs="handle: resource", shape=shapes.no_outputs, is_stateful=True)
