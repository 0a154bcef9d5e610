"""Kernels that reduce along axes, run totals along one, or sum many tensors.

Integers are summed in their own type and wrap around; a mean of integers is taken of the exact
sum, and drops the fraction. nan wins over every number in a maximum or minimum.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from paramserve_core.dtypes import as_dtype
from paramserve_core.kernels.arguments import axes_value, check_axis
from paramserve_core.kernels.numerics import (
    Array,
    axis_value,
    invalid,
    quiet,
    scalar_value,
    shape_text,
    truncated_quotient,
    widened,
)
from paramserve_core.kernels.registry import KernelFunction, KernelNode, kernel

# Without NumPy's own types, under which `keepdims` must be a literal.
_add: Callable[..., Any] = np.add.reduce
_multiply: Callable[..., Any] = np.multiply.reduce
_greatest: Callable[..., Any] = np.maximum.reduce
_least: Callable[..., Any] = np.minimum.reduce

Reduction = Callable[[Array, tuple[int, ...], bool], Any]
"""A function of an array, the axes to reduce, and whether they stay as dimensions of 1."""


def _reduction(function: Reduction) -> KernelFunction:
    @quiet
    def run(node: KernelNode, value: Array, axes_input: Array) -> Array:
        axes = axes_value(node.op, axes_input, value.ndim)
        return np.asarray(function(value, axes, node.attrs["keep_dims"]))

    return run


def _sum(value: Array, axes: tuple[int, ...], keep_dims: bool) -> Any:
    return _add(value, axes, dtype=value.dtype, keepdims=keep_dims)


def _product(value: Array, axes: tuple[int, ...], keep_dims: bool) -> Any:
    return _multiply(value, axes, dtype=value.dtype, keepdims=keep_dims)


def _mean(value: Array, axes: tuple[int, ...], keep_dims: bool) -> Any:
    count = 1
    for axis in axes:
        count *= value.shape[axis]
    if value.dtype.kind not in "iu":
        total = np.asarray(_sum(value, axes, keep_dims))
        return np.divide(total, value.dtype.type(count), out=total)
    wide = np.dtype(np.int64 if value.dtype.kind == "i" else np.uint64)
    total = np.asarray(_add(value, axes, dtype=wide, keepdims=keep_dims))
    return truncated_quotient(total, np.asarray(max(count, 1), wide)).astype(value.dtype)


def _maximum(value: Array, axes: tuple[int, ...], keep_dims: bool) -> Any:
    return _greatest(value, axes, keepdims=keep_dims, initial=_bounds(value)[0])


def _minimum(value: Array, axes: tuple[int, ...], keep_dims: bool) -> Any:
    return _least(value, axes, keepdims=keep_dims, initial=_bounds(value)[1])


def _bounds(value: Array) -> tuple[Any, Any]:
    """The least and the greatest number of the type: what a maximum and a minimum begin with."""
    if value.dtype.kind == "f":
        return -np.inf, np.inf
    element = as_dtype(value.dtype)
    return element.min, element.max


_REDUCTIONS: Final[dict[str, Reduction]] = {
    "Sum": _sum,
    "Prod": _product,
    "Mean": _mean,
    "Max": _maximum,
    "Min": _minimum,
    "All": lambda value, axes, keep_dims: np.all(value, axes, keepdims=keep_dims),
    "Any": lambda value, axes, keep_dims: np.any(value, axes, keepdims=keep_dims),
}
for _op, _function in _REDUCTIONS.items():
    kernel(_op)(widened(_reduction(_function)))


@kernel("ArgMax", "ArgMin")
def _position(node: KernelNode, value: Array, dimension: Array) -> Array:
    axis = check_axis(
        node.op, int(scalar_value(node.op, "dimension", dimension)), value.ndim, "dimension"
    )
    if value.shape[axis] == 0:
        invalid(f"Reduction axis {axis} is empty in shape {shape_text(value.shape)}")
    find = np.argmax if node.op == "ArgMax" else np.argmin
    return np.asarray(find(value, axis), node.output_dtypes[0].as_numpy_dtype)


@quiet
def _running(node: KernelNode, value: Array, axis_input: Array) -> Array:
    axis = axis_value(node.op, axis_input, value.ndim)
    ufunc, first = (np.add, 0) if node.op == "Cumsum" else (np.multiply, 1)
    result = np.empty(value.shape, value.dtype)
    # The axis to the front, and running backwards where that is wanted: views, all of them.
    source, target = np.moveaxis(value, axis, 0), np.moveaxis(result, axis, 0)
    if node.attrs["reverse"]:
        source, target = source[::-1], target[::-1]
    if node.attrs["exclusive"]:
        target[:1] = first
        source, target = source[:-1], target[1:]
    ufunc.accumulate(source, 0, dtype=value.dtype, out=target)
    return result


kernel("Cumsum", "Cumprod")(widened(_running))


@quiet
def _add_n(node: KernelNode, *values: Array) -> Array:
    first = values[0]
    for i, value in enumerate(values):
        if value.shape != first.shape:
            invalid(
                f"Inputs to operation {node.name} of type {node.op} must have the same size and "
                f"shape. Input 0: {shape_text(first.shape)} != input {i}: "
                f"{shape_text(value.shape)}"
            )
    return _total(values)


def _total(values: Iterable[Array]) -> Array:
    first, *others = values
    if not others:
        return first
    result = np.asarray(np.add(first, others[0]))
    for value in others[1:]:
        np.add(result, value, out=result)
    return result


kernel("AddN")(widened(_add_n))


@quiet
def _accumulate(node: KernelNode, *values: Array) -> Array:
    declared = node.attrs["shape"]
    for i, value in enumerate(values):
        if not declared.is_compatible_with(value.shape):
            invalid(
                f"{node.op}: input {i} has shape {shape_text(value.shape)}, the attribute 'shape' "
                f"is {declared}"
            )
    return _add_n(node, *values)


kernel("AccumulateNV2")(widened(_accumulate))
