"""Functions of one number, applied to every element of a tensor.

They are ops of the family `math`, like the functions of two numbers in `math`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

import math

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor

__all__ = [
    "abs",
    "acos",
    "acosh",
    "angle",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "ceil",
    "complex_abs",
    "conj",
    "cos",
    "cosh",
    "digamma",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "floor",
    "imag",
    "inv",
    "is_finite",
    "is_inf",
    "is_nan",
    "lgamma",
    "log",
    "log1p",
    "log_sigmoid",
    "logical_not",
    "neg",
    "negative",
    "polygamma",
    "real",
    "reciprocal",
    "rint",
    "round",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "zeta",
]


def abs(x: TensorLike, name: str | None = None) -> Tensor:
    """The absolute value; of complex numbers the modulus, a real tensor."""
    x = convert_to_tensor(x, name="x")
    if x.dtype.is_complex:
        return emit_tensor("ComplexAbs", name, x=x, Tout=x.dtype.real_dtype)
    return emit_tensor("Abs", name, x=x)


complex_abs = abs


def negative(x: TensorLike, name: str | None = None) -> Tensor:
    """`-x`."""
    return emit_tensor("Neg", name, x=x)


neg = negative


def sign(x: TensorLike, name: str | None = None) -> Tensor:
    """-1, 0 or 1; of complex numbers `x / abs(x)`, and 0 of 0."""
    return emit_tensor("Sign", name, x=x)


def reciprocal(x: TensorLike, name: str | None = None) -> Tensor:
    """`1 / x`."""
    return emit_tensor("Reciprocal", name, x=x)


def inv(x: TensorLike, name: str | None = None) -> Tensor:
    """`1 / x`, by the older op of that meaning."""
    return emit_tensor("Inv", name, x=x)


def square(x: TensorLike, name: str | None = None) -> Tensor:
    """`x * x`."""
    return emit_tensor("Square", name, x=x)


def sqrt(x: TensorLike, name: str | None = None) -> Tensor:
    """The square root; nan of a negative real number."""
    return emit_tensor("Sqrt", name, x=x)


def rsqrt(x: TensorLike, name: str | None = None) -> Tensor:
    """`1 / sqrt(x)`."""
    return emit_tensor("Rsqrt", name, x=x)


def exp(x: TensorLike, name: str | None = None) -> Tensor:
    """E to the power of `x`."""
    return emit_tensor("Exp", name, x=x)


def expm1(x: TensorLike, name: str | None = None) -> Tensor:
    """`exp(x) - 1`, precise near 0."""
    return emit_tensor("Expm1", name, x=x)


def log(x: TensorLike, name: str | None = None) -> Tensor:
    """The natural logarithm; -inf of 0, nan of a negative real number."""
    return emit_tensor("Log", name, x=x)


def log1p(x: TensorLike, name: str | None = None) -> Tensor:
    """`log(1 + x)`, precise near 0."""
    return emit_tensor("Log1p", name, x=x)


def sin(x: TensorLike, name: str | None = None) -> Tensor:
    """The sine of an angle in radians."""
    return emit_tensor("Sin", name, x=x)


def cos(x: TensorLike, name: str | None = None) -> Tensor:
    """The cosine of an angle in radians."""
    return emit_tensor("Cos", name, x=x)


def tan(x: TensorLike, name: str | None = None) -> Tensor:
    """The tangent of an angle in radians."""
    return emit_tensor("Tan", name, x=x)


def asin(x: TensorLike, name: str | None = None) -> Tensor:
    """The angle in radians, between -pi/2 and pi/2, whose sine is `x`."""
    return emit_tensor("Asin", name, x=x)


def acos(x: TensorLike, name: str | None = None) -> Tensor:
    """The angle in radians, between 0 and pi, whose cosine is `x`."""
    return emit_tensor("Acos", name, x=x)


def atan(x: TensorLike, name: str | None = None) -> Tensor:
    """The angle in radians, between -pi/2 and pi/2, whose tangent is `x`."""
    return emit_tensor("Atan", name, x=x)


def sinh(x: TensorLike, name: str | None = None) -> Tensor:
    """The hyperbolic sine."""
    return emit_tensor("Sinh", name, x=x)


def cosh(x: TensorLike, name: str | None = None) -> Tensor:
    """The hyperbolic cosine."""
    return emit_tensor("Cosh", name, x=x)


def tanh(x: TensorLike, name: str | None = None) -> Tensor:
    """The hyperbolic tangent, between -1 and 1."""
    return emit_tensor("Tanh", name, x=x)


def asinh(x: TensorLike, name: str | None = None) -> Tensor:
    """The number whose hyperbolic sine is `x`."""
    return emit_tensor("Asinh", name, x=x)


def acosh(x: TensorLike, name: str | None = None) -> Tensor:
    """The non-negative number whose hyperbolic cosine is `x`."""
    return emit_tensor("Acosh", name, x=x)


def atanh(x: TensorLike, name: str | None = None) -> Tensor:
    """The number whose hyperbolic tangent is `x`."""
    return emit_tensor("Atanh", name, x=x)


def sigmoid(x: TensorLike, name: str | None = None) -> Tensor:
    """The logistic function `1 / (1 + exp(-x))`, between 0 and 1."""
    return emit_tensor("Sigmoid", name, x=x)


def log_sigmoid(x: TensorLike, name: str | None = None) -> Tensor:
    """`log(sigmoid(x))`, without overflow: `-softplus(-x)`."""
    return negative(emit_tensor("Softplus", None, features=negative(x)), name or "LogSigmoid")


def erf(x: TensorLike, name: str | None = None) -> Tensor:
    """The error function: 2 / sqrt(pi) times the integral of `exp(-t * t)` from 0 to `x`."""
    return emit_tensor("Erf", name, x=x)


def erfc(x: TensorLike, name: str | None = None) -> Tensor:
    """`1 - erf(x)`, precise for large `x`."""
    return emit_tensor("Erfc", name, x=x)


def lgamma(x: TensorLike, name: str | None = None) -> Tensor:
    """The logarithm of the absolute value of the gamma function."""
    return emit_tensor("Lgamma", name, x=x)


def digamma(x: TensorLike, name: str | None = None) -> Tensor:
    """The derivative of `lgamma`."""
    return emit_tensor("Digamma", name, x=x)


def polygamma(a: TensorLike, x: TensorLike, name: str | None = None) -> Tensor:
    """The `a`-th derivative of `digamma`, with broadcasting.

    Args:
        a: float32 or float64, whole numbers that are not negative; for others the result is NaN.
        x: of the same type. Below -128 the result is NaN.
        name: the name of the op.
    """
    return emit_tensor("Polygamma", name, a=a, x=x)


def zeta(x: TensorLike, q: TensorLike, name: str | None = None) -> Tensor:
    """The zeta function of Hurwitz, the sum over k from 0 of `1 / (q + k)^x`, with broadcasting.

    It has a gradient by `q` only.

    Args:
        x: float32 or float64, larger than 1.
        q: of the same type. Below -128, and below 0 for a fractional `x`, the result is NaN.
        name: the name of the op.
    """
    return emit_tensor("Zeta", name, x=x, q=q)


def floor(x: TensorLike, name: str | None = None) -> Tensor:
    """The largest integer that is not larger than `x`, as a float."""
    return emit_tensor("Floor", name, x=x)


def ceil(x: TensorLike, name: str | None = None) -> Tensor:
    """The smallest integer that is not smaller than `x`, as a float."""
    return emit_tensor("Ceil", name, x=x)


def round(x: TensorLike, name: str | None = None) -> Tensor:
    """The nearest integer, a half to the even one, in the type of `x`."""
    x = convert_to_tensor(x, name="x")
    if x.dtype.is_integer:
        return emit_tensor("Identity", name or "Round", input=x)
    return emit_tensor("Round", name, x=x)


def rint(x: TensorLike, name: str | None = None) -> Tensor:
    """The nearest integer as a float, a half to the even one."""
    return emit_tensor("Rint", name, x=x)


def is_nan(x: TensorLike, name: str | None = None) -> Tensor:
    """Whether a float is not a number."""
    return emit_tensor("IsNan", name, x=x)


def is_inf(x: TensorLike, name: str | None = None) -> Tensor:
    """Whether a float is infinite."""
    return emit_tensor("IsInf", name, x=x)


def is_finite(x: TensorLike, name: str | None = None) -> Tensor:
    """Whether a float is a number and not infinite."""
    return emit_tensor("IsFinite", name, x=x)


def logical_not(x: TensorLike, name: str | None = None) -> Tensor:
    """Whether a truth value is false."""
    return emit_tensor("LogicalNot", name, x=x)


def real(input: TensorLike, name: str | None = None) -> Tensor:
    """The real part of complex numbers; real numbers as they are."""
    source = convert_to_tensor(input, name="input")
    if not source.dtype.is_complex:
        return source
    return emit_tensor("Real", name, input=source, Tout=source.dtype.real_dtype)


def imag(input: TensorLike, name: str | None = None) -> Tensor:
    """The imaginary part of complex numbers; 0 for real ones."""
    input = convert_to_tensor(input, name="input")
    if not input.dtype.is_complex:
        return emit_tensor("ZerosLike", name, x=input)
    return emit_tensor("Imag", name, input=input, Tout=input.dtype.real_dtype)


def angle(input: TensorLike, name: str | None = None) -> Tensor:
    """The argument of complex numbers in radians, between -pi and pi; 0 or pi of real ones."""
    with name_scope(name, "Angle", [input]) as scope:
        input = convert_to_tensor(input, name="input")
        if input.dtype.is_complex:
            return emit_tensor("Angle", scope, input=input, Tout=input.dtype.real_dtype)
        zeros = emit_tensor("ZerosLike", None, x=input)
        negative_input = emit_tensor("Less", None, x=input, y=zeros)
        half_turns = emit_tensor("Cast", None, x=negative_input, DstT=input.dtype.base_dtype)
        return emit_tensor("Mul", scope, x=half_turns, y=math.pi)


def conj(x: TensorLike, name: str | None = None) -> Tensor:
    """The conjugate of complex numbers; real numbers as they are.

    Raises:
        TypeError: `x` is not of numbers.
    """
    source = convert_to_tensor(x, name="x")
    if source.dtype.is_complex:
        return emit_tensor("Conj", name, input=source)
    if source.dtype.is_floating or source.dtype.is_integer:
        return source
    raise TypeError(f"Expected numeric tensor, got dtype {source.dtype.name}")
