"""Kernels of elementwise arithmetic and comparisons.

Most are one NumPy ufunc. Where a result takes several passes, the passes after the first write
into its buffer (`out=`), so that a large operand costs one allocation. The functions of analysis
(erf, lgamma...) are in `special_functions`.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paramserve_core.kernels import special_functions
from paramserve_core.kernels.numerics import (
    Array,
    broadcast_shape,
    invalid,
    quiet,
    truncated_quotient,
    widened,
)
from paramserve_core.kernels.registry import KernelFunction, KernelNode, kernel


def _ufunc_binary(ufunc: Callable[[Array, Array], Any]) -> KernelFunction:
    @quiet
    def run(node: KernelNode, x: Array, y: Array) -> Array:
        if x.shape != y.shape:
            broadcast_shape(x, y)
        result = ufunc(x, y)
        if type(result) is np.ndarray:
            return result
        return np.asarray(result, node.output_dtypes[0].as_numpy_dtype)

    return run


def _ufunc_unary(ufunc: Callable[[Array], Any]) -> KernelFunction:
    @quiet
    def run(node: KernelNode, x: Array) -> Array:
        result = ufunc(x)
        if type(result) is np.ndarray:
            return result
        return np.asarray(result, node.output_dtypes[0].as_numpy_dtype)

    return run


_BINARY: dict[str, Callable[[Array, Array], Any]] = {
    "Add": np.add,
    "AddV2": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Atan2": np.arctan2,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
}
_UNARY: dict[str, Callable[[Array], Any]] = {
    "Neg": np.negative,
    "Abs": np.absolute,
    "ComplexAbs": np.absolute,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Expm1": np.expm1,
    "Log": np.log,
    "Log1p": np.log1p,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Tanh": np.tanh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Rint": np.rint,
    "IsNan": np.isnan,
    "IsInf": np.isinf,
    "IsFinite": np.isfinite,
    "LogicalNot": np.logical_not,
    "Conj": np.conjugate,
    "Angle": np.angle,
}
for _op, _binary in _BINARY.items():
    kernel(_op)(_ufunc_binary(_binary))
for _op, _unary in _UNARY.items():
    kernel(_op)(_ufunc_unary(_unary))
for _op, _function in {
    "Erf": special_functions.erf,
    "Erfc": special_functions.erfc,
    "Lgamma": special_functions.lgamma,
    "Digamma": special_functions.digamma,
}.items():
    kernel(_op)(widened(_ufunc_unary(_function)))


@kernel("Polygamma", "Zeta")
@quiet
def _of_two(node: KernelNode, x: Array, y: Array) -> Array:
    broadcast_shape(x, y)
    function = special_functions.polygamma if node.op == "Polygamma" else special_functions.zeta
    return np.asarray(function(*np.broadcast_arrays(x, y)))


@kernel("Equal", "NotEqual")
def _equality(node: KernelNode, x: Array, y: Array) -> Array:
    differ = node.op == "NotEqual"
    if x.shape != y.shape:
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            if not node.attrs["incompatible_shape_error"]:
                return np.asarray(differ)
        broadcast_shape(x, y)
    result = np.not_equal(x, y) if differ else np.equal(x, y)
    return np.asarray(result, np.bool_)


def _check_divisor(x: Array, y: Array) -> None:
    # Nothing is divided where there is no x, as by the gradient of a sum over no dimension.
    if y.dtype.kind in "iu" and x.size and not y.all():
        invalid("Integer division by zero")


def _divide(x: Array, y: Array) -> Any:
    _check_divisor(x, y)
    return truncated_quotient(x, y) if x.dtype.kind in "iu" else np.divide(x, y)


def _truncate_divide(x: Array, y: Array) -> Any:
    _check_divisor(x, y)
    return truncated_quotient(x, y) if x.dtype.kind in "iu" else np.trunc(np.divide(x, y))


def _floor_divide(x: Array, y: Array) -> Any:
    _check_divisor(x, y)
    # Not np.floor_divide for floats: that is the floor of the exact quotient, not of the rounded.
    return np.floor_divide(x, y) if x.dtype.kind in "iu" else np.floor(np.divide(x, y))


def _floor_mod(x: Array, y: Array) -> Any:
    _check_divisor(x, y)
    return np.remainder(x, y)


def _truncate_mod(x: Array, y: Array) -> Any:
    _check_divisor(x, y)
    return np.fmod(x, y)


def _power(x: Array, y: Array) -> Any:
    if y.dtype.kind == "i" and (y < 0).any():
        invalid("Integers to negative integer powers are not allowed")
    return np.power(x, y)


def _squared_difference(x: Array, y: Array) -> Any:
    difference = np.asarray(np.subtract(x, y))
    if difference.dtype.kind == "c":
        return np.multiply(difference, difference.conj(), out=difference)
    return np.multiply(difference, difference, out=difference)


def _divide_no_nan(x: Array, y: Array) -> Array:
    result = np.zeros(broadcast_shape(x, y), x.dtype)
    np.divide(x, y, out=result, where=y != 0)
    return result


for _op, _binary in {
    "Div": _divide,
    "RealDiv": _divide,
    "TruncateDiv": _truncate_divide,
    "FloorDiv": _floor_divide,
    "FloorMod": _floor_mod,
    "Mod": _truncate_mod,
    "TruncateMod": _truncate_mod,
    "Pow": _power,
    "DivNoNan": _divide_no_nan,
}.items():
    kernel(_op)(_ufunc_binary(_binary))
kernel("SquaredDifference")(widened(_ufunc_binary(_squared_difference)))


def _sign(x: Array) -> Any:
    if x.dtype.kind != "c":
        return np.sign(x)
    size = np.absolute(x)
    return np.divide(x, size, out=np.zeros_like(x), where=size != 0)


def _round(x: Array) -> Any:
    """To the nearest, and to the even one of two nearest."""
    return x if x.dtype.kind in "iu" else np.rint(x)


def _reciprocal(x: Array) -> Any:
    if x.dtype.kind in "iu":
        _check_divisor(x, x)
        return truncated_quotient(np.ones_like(x), x)
    return np.reciprocal(x)


def _rsqrt(x: Array) -> Any:
    root = np.sqrt(x, out=np.empty_like(x))
    return np.reciprocal(root, out=root)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) as a new array; exact at both infinities."""
    result = np.negative(x, out=np.empty_like(x))
    np.exp(result, out=result)
    np.add(result, 1, out=result)
    return np.reciprocal(result, out=result)


kernel("Sign")(_ufunc_unary(_sign))
kernel("Round")(_ufunc_unary(_round))
kernel("Reciprocal", "Inv")(_ufunc_unary(_reciprocal))
kernel("Rsqrt")(widened(_ufunc_unary(_rsqrt)))
kernel("Sigmoid")(widened(_ufunc_unary(sigmoid)))


@kernel("Real")
def _real(node: KernelNode, x: Array) -> Array:
    # A copy: a view would keep the twice as large array alive.
    return np.ascontiguousarray(x.real).reshape(x.shape)


@kernel("Imag")
def _imag(node: KernelNode, x: Array) -> Array:
    return np.ascontiguousarray(x.imag).reshape(x.shape)


@kernel("Complex")
def _complex(node: KernelNode, real: Array, imag: Array) -> Array:
    result = np.empty(broadcast_shape(real, imag), node.output_dtypes[0].as_numpy_dtype)
    result.real = real
    result.imag = imag
    return result


# Derivatives from the result y and the derivative dy of what y goes into. For complex numbers
# the last four are those of the conjugate function, the first two are not, as in TensorFlow.


def _sigmoid_grad(y: Array, dy: Array) -> Any:
    """Dy · y · (1 − y)."""
    result = np.asarray(np.subtract(1, y, dtype=y.dtype))
    np.multiply(result, y, out=result)
    return np.multiply(result, dy)


def _tanh_grad(y: Array, dy: Array) -> Any:
    """Dy · (1 − y²)."""
    result = np.asarray(np.square(y))
    np.subtract(1, result, out=result)
    return np.multiply(result, dy)


def _sqrt_grad(y: Array, dy: Array) -> Any:
    """Dy / (2 y)."""
    return np.divide(np.multiply(dy, 0.5, dtype=dy.dtype), np.conjugate(y))


def _rsqrt_grad(y: Array, dy: Array) -> Any:
    """−dy · y³ / 2."""
    y = np.conjugate(y)
    result = np.asarray(np.square(y))
    np.multiply(result, y, out=result)
    np.multiply(result, -0.5, out=result)
    return np.multiply(result, dy)


def _reciprocal_grad(y: Array, dy: Array) -> Any:
    """−dy · y²."""
    result = np.asarray(np.square(np.conjugate(y)))
    np.negative(result, out=result)
    return np.multiply(result, dy)


for _op, _binary in {
    "SigmoidGrad": _sigmoid_grad,
    "TanhGrad": _tanh_grad,
    "SqrtGrad": _sqrt_grad,
    "RsqrtGrad": _rsqrt_grad,
    "ReciprocalGrad": _reciprocal_grad,
    "InvGrad": _reciprocal_grad,
}.items():
    kernel(_op)(widened(_ufunc_binary(_binary)))
