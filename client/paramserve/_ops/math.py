"""Arithmetic, comparisons and logic of two tensors, element by element, with broadcasting.

Functions of one number are in `elementary`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor
from paramserve_core.dtypes import complex64, complex128, float32, float64

__all__ = [
    "add",
    "atan2",
    "complex",
    "div",
    "div_no_nan",
    "divide",
    "equal",
    "floor_div",
    "floor_mod",
    "floordiv",
    "floormod",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "multiply",
    "not_equal",
    "pow",
    "realdiv",
    "scalar_mul",
    "squared_difference",
    "sub",
    "subtract",
    "truediv",
    "truncatediv",
    "truncatemod",
]


def add(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x + y`; strings are joined.

    Args:
        x: numbers or strings.
        y: of the same type, of a shape that broadcasts with that of `x`.
        name: the name of the op.
    """
    return emit_tensor("Add", name, x=x, y=y)


def subtract(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x - y`, of one type, with broadcasting."""
    return emit_tensor("Sub", name, x=x, y=y)


def multiply(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x * y`, element by element, of one type, with broadcasting."""
    return emit_tensor("Mul", name, x=x, y=y)


sub = subtract
mul = multiply


def scalar_mul(scalar: TensorLike, x: Any, name: str | None = None) -> Any:
    """`scalar * x`.

    Args:
        scalar: a number, or a tensor of shape `[]`.
        x: a tensor or an IndexedSlices.
        name: the name of the op.

    Returns:
        What `x` is: a Tensor, or an IndexedSlices.

    Raises:
        ValueError: `scalar` has dimensions.
    """
    if isinstance(x, IndexedSlices):
        return IndexedSlices(scalar_mul(scalar, x.values, name), x.indices, x.dense_shape)
    x = convert_to_tensor(x)
    factor = convert_to_tensor(scalar, dtype=x.dtype.base_dtype, name="scalar")
    if factor.shape.ndims not in (None, 0):
        raise ValueError(f"scalar_mul takes a scalar, got {factor!r}; use multiply")
    return multiply(factor, x, name)


def realdiv(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x / y` of floats, of one type, with broadcasting."""
    return emit_tensor("RealDiv", name, x=x, y=y)


def truediv(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x / y` as Python divides: integers become floats first.

    int8, int16 and their unsigned kin become float32, wider integers float64.

    Args:
        x: numbers.
        y: of the same type, of a shape that broadcasts with that of `x`.
        name: the name of the op.

    Raises:
        TypeError: the types differ, or cannot be divided.
    """
    with name_scope(name, "truediv", [x, y]) as scope:
        x, y = _of_one_type(x, y)
        dtype = x.dtype.base_dtype
        if dtype.is_integer:
            wide = float32 if dtype.size <= 2 else float64
            x = emit_tensor("Cast", None, x=x, DstT=wide)
            y = emit_tensor("Cast", None, x=y, DstT=wide)
        return realdiv(x, y, name=scope)


def floordiv(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x // y` as Python divides: the quotient rounded down, in the type of the arguments."""
    return emit_tensor("FloorDiv", name or "floordiv", x=x, y=y)


floor_div = floordiv


def div(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x / y` as Python 2 divides: floats exactly, integers rounded down.

    Use `truediv` or `floordiv`, which say which one is meant.
    """
    with name_scope(name, "div", [x, y]) as scope:
        x, y = _of_one_type(x, y)
        if x.dtype.is_floating or x.dtype.is_complex:
            return realdiv(x, y, name=scope)
        return floordiv(x, y, name=scope)


def divide(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x / y` as Python 3 divides; see `truediv`."""
    return truediv(x, y, name)


def div_no_nan(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x / y`, and 0 where `y` is 0."""
    return emit_tensor("DivNoNan", name or "div_no_nan", x=x, y=y)


def truncatediv(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x / y` of integers as C divides: rounded towards zero."""
    return emit_tensor("TruncateDiv", name, x=x, y=y)


def floormod(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """The remainder of `x // y`; it has the sign of `y`, as in Python."""
    return emit_tensor("FloorMod", name, x=x, y=y)


mod = floormod
floor_mod = floormod


def truncatemod(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """The remainder of a division that rounds towards zero; it has the sign of `x`, as in C."""
    return emit_tensor("TruncateMod", name, x=x, y=y)


def pow(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`x ** y`.

    Args:
        x: numbers.
        y: of the same type, of a shape that broadcasts with that of `x`.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where an integer has a negative exponent.
    """
    return emit_tensor("Pow", name, x=x, y=y)


def squared_difference(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """`(x - y) * (x - y)`, of complex numbers the square of the distance."""
    return emit_tensor("SquaredDifference", name, x=x, y=y)


def maximum(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """The larger of each pair."""
    return emit_tensor("Maximum", name, x=x, y=y)


def minimum(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """The smaller of each pair."""
    return emit_tensor("Minimum", name, x=x, y=y)


def atan2(y: TensorLike, x: TensorLike, name: str | None = None) -> Tensor:
    """The angle of the point `(x, y)`, between -pi and pi. The ordinate comes first."""
    return emit_tensor("Atan2", name, y=y, x=x)


def complex(real: TensorLike, imag: TensorLike, name: str | None = None) -> Tensor:
    """The complex number `real + imag * i`.

    Args:
        real: float32 or float64; the result is complex64 or complex128.
        imag: of the same type.
        name: the name of the op.

    Raises:
        TypeError: other types.
    """
    with name_scope(name, "Complex", [real, imag]) as scope:
        real = convert_to_tensor(real, name="real")
        imag = convert_to_tensor(imag, name="imag")
        wanted = {(float32, float32): complex64, (float64, float64): complex128}
        result = wanted.get((real.dtype.base_dtype, imag.dtype.base_dtype))
        if result is None:
            raise TypeError(
                f"real and imag have types {real.dtype.name} and {imag.dtype.name}, both must be "
                "float32 or both float64; cast them first"
            )
        return emit_tensor("Complex", scope, real=real, imag=imag, Tout=result)


def equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether `x == y`, element by element; the operator `==` compares identities instead."""
    return emit_tensor("Equal", name, x=x, y=y)


def not_equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether `x != y`, element by element."""
    return emit_tensor("NotEqual", name, x=x, y=y)


def less(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether `x < y`, element by element."""
    return emit_tensor("Less", name, x=x, y=y)


def less_equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether `x <= y`, element by element."""
    return emit_tensor("LessEqual", name, x=x, y=y)


def greater(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether `x > y`, element by element."""
    return emit_tensor("Greater", name, x=x, y=y)


def greater_equal(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether `x >= y`, element by element."""
    return emit_tensor("GreaterEqual", name, x=x, y=y)


def logical_and(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether both are true."""
    return emit_tensor("LogicalAnd", name, x=x, y=y)


def logical_or(x: TensorLike, y: TensorLike, name: str | None = None) -> Tensor:
    """Whether one or both are true."""
    return emit_tensor("LogicalOr", name, x=x, y=y)


def logical_xor(x: TensorLike, y: TensorLike, name: str = "LogicalXor") -> Tensor:
    """Whether exactly one is true."""
    return not_equal(_as_bool(x), _as_bool(y), name)


def _as_bool(x: TensorLike) -> Tensor:
    return convert_to_tensor(x, dtype=np.bool_)


def _of_one_type(x: TensorLike, y: TensorLike) -> tuple[Tensor, Tensor]:
    """Both as tensors; a plain value takes the type of the other, if that is a tensor.

    Raises:
        TypeError: the types differ.
    """
    if isinstance(y, Tensor) and not hasattr(x, "dtype"):
        x = convert_to_tensor(x, dtype=y.dtype.base_dtype, name="x")
    x = convert_to_tensor(x, name="x")
    dtype = None if hasattr(y, "graph") else x.dtype.base_dtype
    y = convert_to_tensor(y, dtype=dtype, name="y")
    if x.dtype.base_dtype is not y.dtype.base_dtype:
        raise TypeError(
            f"x and y must have the same dtype, got {x.dtype.name} and {y.dtype.name}; "
            "cast one of them first"
        )
    return x, y
