"""Ops that make, shape, join, cut and index tensors.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    register_op,
    shape_attr,
    string_attr,
    tensor_attr,
    type_attr,
)
from paramserve_core.shapes import TensorShape


def _value_shape(ctx: ShapeContext) -> Sequence[TensorShape]:
    return [TensorShape(list(ctx.attrs["value"].shape))]


def _shape_attr(ctx: ShapeContext) -> Sequence[TensorShape]:
    return [ctx.attrs["shape"]]


register_op(
    "Const",
    outputs="output: dtype",
    attrs={"value": tensor_attr(), "dtype": type_attr()},
    shape=_value_shape,
)
register_op(
    "Placeholder",
    outputs="output: dtype",
    attrs={"dtype": type_attr(), "shape": shape_attr(TensorShape(None))},
    shape=_shape_attr,
)
register_op(
    "PlaceholderWithDefault",
    inputs="input: dtype",
    outputs="output: dtype",
    attrs={"dtype": type_attr(), "shape": shape_attr()},
    shape=_shape_attr,
)
register_op(
    "Identity",
    inputs="input: T",
    outputs="output: T",
    attrs={"T": type_attr()},
    shape=shapes.unchanged,
)
register_op(
    "StopGradient",
    inputs="input: T",
    outputs="output: T",
    attrs={"T": type_attr()},
    shape=shapes.unchanged,
)
register_op(
    "PreventGradient",
    inputs="input: T",
    outputs="output: T",
    attrs={"T": type_attr(), "message": string_attr("")},
    shape=shapes.unchanged,
)
