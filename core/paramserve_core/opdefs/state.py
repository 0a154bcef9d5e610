"""Ops that make, read and change variables.

A variable op gives a *reference*: an edge that stands for the variable and not for a value. An op
that takes a reference may change the variable and gives the reference on, so that a chain of
assignments is a chain of edges; an op that takes a plain tensor gets the value instead.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.dtypes import int32, int64
from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    int_attr,
    register_op,
    shape_attr,
    string_attr,
    type_attr,
)
from paramserve_core.opdefs.type_sets import FLOATS, INDICES, NUMBERS
from paramserve_core.shapes import TensorShape


def declared_shape(op: str, shape: TensorShape) -> TensorShape:
    """The shape that a variable op declares.

    `Variable`, the oldest form, writes a shape that is not known as that of a scalar, so there a
    scalar's shape says nothing.
    """
    return shapes.UNKNOWN if op == "Variable" and shape.ndims == 0 else shape


def _declared(ctx: ShapeContext) -> Sequence[TensorShape]:
    return [declared_shape(ctx.op, ctx.attrs["shape"])]


def _assigned(ctx: ShapeContext) -> Sequence[TensorShape]:
    if ctx.attrs["validate_shape"]:
        return shapes.merged(ctx)
    return [ctx.input_shapes[1]]


def _scattered(ctx: ShapeContext) -> Sequence[TensorShape]:
    """The updates have the shape of the indices, then that of a row; or they are one scalar."""
    ref, indices, updates = ctx.input_shapes
    shapes.require_rank_at_least(ctx, 0, 1)
    if ref.ndims is not None and indices.ndims is not None and updates.ndims != 0:
        wanted = TensorShape(indices.as_list() + ref.as_list()[1:])
        shapes.merge_shapes(ctx, [wanted, updates])
    return [ref]


def _counter(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.require_rank(ctx, 0, 0)
    return [shapes.SCALAR]


for _op in ("VariableV2", "Variable"):
    register_op(
        _op,
        outputs="ref: Ref(dtype)",
        attrs={
            "shape": shape_attr(),
            "dtype": type_attr(),
            "container": string_attr(""),
            "shared_name": string_attr(""),
        },
        shape=_declared,
        is_stateful=True,
    )
register_op(
    "IsVariableInitialized",
    inputs="ref: Ref(dtype)",
    outputs="is_initialized: bool",
    attrs={"dtype": type_attr()},
    shape=shapes.scalar,
    allows_uninitialized_input=True,
)
register_op(
    "Assign",
    inputs="ref: Ref(T), value: T",
    outputs="output_ref: Ref(T)",
    attrs={
        "T": type_attr(),
        "validate_shape": bool_attr(True),
        "use_locking": bool_attr(True),
    },
    shape=_assigned,
    has_effect=True,
    allows_uninitialized_input=True,
)
for _op in ("AssignAdd", "AssignSub"):
    register_op(
        _op,
        inputs="ref: Ref(T), value: T",
        outputs="output_ref: Ref(T)",
        attrs={"T": type_attr(NUMBERS), "use_locking": bool_attr(False)},
        shape=shapes.merged,
        has_effect=True,
    )
register_op(
    "ScatterUpdate",
    inputs="ref: Ref(T), indices: Tindices, updates: T",
    outputs="output_ref: Ref(T)",
    attrs={"T": type_attr(), "Tindices": type_attr(INDICES), "use_locking": bool_attr(True)},
    shape=_scattered,
    has_effect=True,
)
for _op in ("ScatterAdd", "ScatterSub", "ScatterMul", "ScatterDiv"):
    register_op(
        _op,
        inputs="ref: Ref(T), indices: Tindices, updates: T",
        outputs="output_ref: Ref(T)",
        attrs={
            "T": type_attr(NUMBERS),
            "Tindices": type_attr(INDICES),
            "use_locking": bool_attr(False),
        },
        shape=_scattered,
        has_effect=True,
    )
for _op in ("ScatterMax", "ScatterMin"):
    register_op(
        _op,
        inputs="ref: Ref(T), indices: Tindices, updates: T",
        outputs="output_ref: Ref(T)",
        attrs={
            "T": type_attr((*FLOATS, int32, int64)),
            "Tindices": type_attr(INDICES),
            "use_locking": bool_attr(False),
        },
        shape=_scattered,
        has_effect=True,
    )
register_op(
    "CountUpTo",
    inputs="ref: Ref(T)",
    outputs="output: T",
    attrs={"limit": int_attr(), "T": type_attr(INDICES)},
    shape=_counter,
    has_effect=True,
)
