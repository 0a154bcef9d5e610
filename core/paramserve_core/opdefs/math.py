"""Elementwise arithmetic, functions and comparisons.

Two-argument ops broadcast; one-argument ops keep their input's shape. The ops whose names end in
`Grad` are the fused derivatives that TensorFlow has for functions whose derivative is cheapest
from their result.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramserve_core.dtypes import (
    DType,
    complex64,
    complex128,
    float32,
    float64,
    int32,
    int64,
    string,
)
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import ShapeContext, bool_attr, register_op, type_attr
from paramserve_core.opdefs.type_sets import (
    COMPLEX,
    FLOATS,
    INEXACT,
    NUMBERS,
    REALS,
    SIGNED,
    UNSIGNED,
)
from paramserve_core.shapes import TensorShape

_SIGNED_NUMBERS = INEXACT + SIGNED


def _unary(names: str, allowed: Iterable[DType]) -> None:
    for name in names.split():
        register_op(
            name,
            inputs="x: T",
            outputs="y: T",
            attrs={"T": type_attr(allowed)},
            shape=shape_functions.unchanged,
        )


def _binary(
    names: str,
    allowed: Iterable[DType],
    outputs: str = "z: T",
    inputs: str = "x: T, y: T",
) -> None:
    for name in names.split():
        register_op(
            name,
            inputs=inputs,
            outputs=outputs,
            attrs={"T": type_attr(allowed)},
            shape=shape_functions.broadcast,
        )


def _equality(ctx: ShapeContext) -> Sequence[TensorShape]:
    """The broadcast shape; without `incompatible_shape_error`, maybe a scalar False instead."""
    if ctx.attrs["incompatible_shape_error"]:
        return shape_functions.broadcast(ctx)
    x, y = ctx.input_shapes
    known = x.is_fully_defined() and y.is_fully_defined() and x.as_list() == y.as_list()
    return [x if known else shape_functions.UNKNOWN]


_binary("Add", (*FLOATS, *SIGNED, *UNSIGNED[:1], *COMPLEX, string))
_binary("AddV2 Sub Mul Div RealDiv FloorDiv TruncateDiv", NUMBERS)
_binary("Pow", _SIGNED_NUMBERS)
_binary("DivNoNan", INEXACT)
_binary("Mod TruncateMod", (int32, int64, *FLOATS))
_binary("FloorMod Maximum Minimum", REALS)
_binary("SquaredDifference", (*INEXACT, int32, int64))
_binary(
    "SigmoidGrad TanhGrad SqrtGrad RsqrtGrad ReciprocalGrad InvGrad",
    INEXACT,
    inputs="y: T, dy: T",
)
_binary("Less LessEqual Greater GreaterEqual", REALS, outputs="z: bool")

for _name in ("Equal", "NotEqual"):
    register_op(
        _name,
        inputs="x: T, y: T",
        outputs="z: bool",
        attrs={"T": type_attr(), "incompatible_shape_error": bool_attr(True)},
        shape=_equality,
    )

register_op(
    "Atan2",
    inputs="y: T, x: T",
    outputs="z: T",
    attrs={"T": type_attr(FLOATS)},
    shape=shape_functions.broadcast,
)

for _name, _inputs in (("Polygamma", "a: T, x: T"), ("Zeta", "x: T, q: T")):
    register_op(
        _name,
        inputs=_inputs,
        outputs="z: T",
        attrs={"T": type_attr((float32, float64))},
        shape=shape_functions.broadcast,
    )

_unary("Neg Sign Round Reciprocal Inv", _SIGNED_NUMBERS)
_unary("Abs", FLOATS + SIGNED)
_unary("Square", NUMBERS)
_unary("Sqrt Rsqrt Exp Expm1 Log Log1p Sigmoid", INEXACT)
_unary("Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh", INEXACT)
_unary("Erf Erfc Lgamma Digamma Floor Ceil Rint", FLOATS)

for _name in ("IsNan", "IsInf", "IsFinite"):
    register_op(
        _name,
        inputs="x: T",
        outputs="y: bool",
        attrs={"T": type_attr(FLOATS)},
        shape=shape_functions.unchanged,
    )

for _name in ("LogicalAnd", "LogicalOr"):
    register_op(
        _name, inputs="x: bool, y: bool", outputs="z: bool", shape=shape_functions.broadcast
    )
register_op("LogicalNot", inputs="x: bool", outputs="y: bool", shape=shape_functions.unchanged)

_COMPLEX_TO_REAL = {
    "T": type_attr(COMPLEX, default=complex64),
    "Tout": type_attr((float32, float64), default=float32),
}
for _name in ("Real", "Imag", "Angle"):
    register_op(
        _name,
        inputs="input: T",
        outputs="output: Tout",
        attrs=_COMPLEX_TO_REAL,
        shape=shape_functions.unchanged,
    )
register_op(
    "ComplexAbs",
    inputs="x: T",
    outputs="y: Tout",
    attrs=_COMPLEX_TO_REAL,
    shape=shape_functions.unchanged,
)
register_op(
    "Conj",
    inputs="input: T",
    outputs="output: T",
    attrs={"T": type_attr(COMPLEX, default=complex64)},
    shape=shape_functions.unchanged,
)
register_op(
    "Complex",
    inputs="real: T, imag: T",
    outputs="out: Tout",
    attrs={
        "T": type_attr((float32, float64), default=float32),
        "Tout": type_attr((complex64, complex128), default=complex64),
    },
    shape=shape_functions.broadcast,
)
