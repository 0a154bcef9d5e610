"""Kernels of products of matrices, of batches of matrices, and of the cross product.

A transposed operand is a view, which the BLAS library reads as it lies. Half precision is
multiplied in float32 and rounded once. Integers have no BLAS: NumPy multiplies them in loops.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import numpy as np

from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import (
    Array,
    check_rank,
    check_same_shape,
    invalid,
    quiet,
    shape_text,
    widened,
)
from paramserve_core.kernels.registry import KernelNode, kernel


@kernel("MatMul")
@widened
@quiet
def _matmul(node: KernelNode, a: Array, b: Array) -> Array:
    check_rank("MatMul", "a", a, 2)
    check_rank("MatMul", "b", b, 2)
    left = a.T if node.attrs["transpose_a"] else a
    right = b.T if node.attrs["transpose_b"] else b
    if left.shape[1] != right.shape[0]:
        invalid(
            f"Matrix size-incompatible: a {shape_text(a.shape)}"
            f"{' transposed' if node.attrs['transpose_a'] else ''}, b {shape_text(b.shape)}"
            f"{' transposed' if node.attrs['transpose_b'] else ''}"
        )
    checked_size((left.shape[0], right.shape[1]), a.itemsize)
    product: Array = np.matmul(left, right)
    return product


@kernel("BatchMatMul", "BatchMatMulV2")
@widened
@quiet
def _batch_matmul(node: KernelNode, x: Array, y: Array) -> Array:
    op = node.op
    for what, value in (("x", x), ("y", y)):
        if value.ndim < 2:
            invalid(f"{op}: {what} must be at least a matrix, but is {shape_text(value.shape)}")
    left = _adjoint(x) if node.attrs["adj_x"] else x
    right = _adjoint(y) if node.attrs["adj_y"] else y
    if left.shape[-1] != right.shape[-2]:
        invalid(
            f"{op}: x {shape_text(left.shape)} and y {shape_text(right.shape)}, as they are "
            "multiplied, must agree in the last dimension and the last but one"
        )
    try:
        batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        invalid(f"{op}: batches of {shape_text(x.shape)} and {shape_text(y.shape)} do not fit")
    if op == "BatchMatMul" and left.shape[:-2] != right.shape[:-2]:
        invalid(
            f"{op}: batches of {shape_text(x.shape)} and {shape_text(y.shape)} differ; "
            "BatchMatMulV2 broadcasts them"
        )
    checked_size((*batch, left.shape[-2], right.shape[-1]), x.itemsize)
    product: Array = np.matmul(left, right)
    return product


def _adjoint(x: Array) -> Array:
    transposed = np.swapaxes(x, -1, -2)
    return np.conjugate(transposed) if x.dtype.kind == "c" else transposed


@kernel("Cross")
@widened
@quiet
def _cross(node: KernelNode, a: Array, b: Array) -> Array:
    check_same_shape("Cross", a=a, b=b)
    if a.ndim == 0 or a.shape[-1] != 3:
        invalid(f"Cross: the last dimension must be 3, but the shape is {shape_text(a.shape)}")
    result = np.empty_like(a, order="C")
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        np.multiply(a[..., j], b[..., k], out=result[..., i])
        result[..., i] -= a[..., k] * b[..., j]
    return result
