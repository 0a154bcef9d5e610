"""Diagonals of tensors and of stacks of matrices.

Thread rule: pure functions.
"""

from __future__ import annotations

import math

import numpy as np

from paramserve_core.kernels.arguments import check_result_rank, zero_of, zeros
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import Array, invalid, shape_text


def outer(diagonal: Array) -> Array:
    """A tensor of twice the rank, with ``result[i, ..., i, ...] = diagonal[i, ...]``.

    Raises:
        InvalidArgumentError: `diagonal` is a scalar, or of too high a rank.
        ResourceExhaustedError: the result would be too large.
    """
    if diagonal.ndim == 0:
        invalid("Diag: input must be at least rank 1, got 0")
    check_result_rank("Diag", 2 * diagonal.ndim)
    shape = diagonal.shape * 2
    checked_size(shape, diagonal.itemsize)
    result = zeros((diagonal.size, diagonal.size), diagonal.dtype)
    np.fill_diagonal(result, diagonal.reshape(-1))
    return result.reshape(shape)


def outer_part(value: Array) -> Array:
    """What `outer` made `value` of.

    Raises:
        InvalidArgumentError: the second half of its shape does not repeat the first.
    """
    half = value.ndim // 2
    shape = value.shape[:half]
    if value.ndim == 0 or value.shape != shape * 2:
        invalid(
            "DiagPart: the rank should be even and positive, and the second half of the shape "
            f"should equal the first, got {shape_text(value.shape)}"
        )
    size = math.prod(shape)
    return value.reshape(size, size).diagonal().reshape(shape)


def matrices(diagonal: Array) -> Array:
    """Square matrices with the last axis of `diagonal` on their diagonals.

    Raises:
        InvalidArgumentError: `diagonal` is a scalar, or of too high a rank.
        ResourceExhaustedError: the result would be too large.
    """
    if diagonal.ndim == 0:
        invalid("MatrixDiag: input must be at least 1-dim, received shape: []")
    check_result_rank("MatrixDiag", diagonal.ndim + 1)
    shape = (*diagonal.shape, diagonal.shape[-1])
    checked_size(shape, diagonal.itemsize)
    result = zeros(shape, diagonal.dtype)
    _diagonals(result)[...] = diagonal
    return result


def replaced(value: Array, diagonal: Array) -> Array:
    """A copy of the matrices `value` with other diagonals.

    Raises:
        InvalidArgumentError: `value` is no matrix, or `diagonal` does not fit.
    """
    check_matrices("MatrixSetDiag", value)
    wanted = (*value.shape[:-2], min(value.shape[-2:]))
    if diagonal.shape != wanted:
        invalid(
            "must have diagonal.shape == input.shape[:-2] + min(input.shape[-2:]), but "
            f"{shape_text(diagonal.shape)} != {shape_text(wanted)}"
        )
    result = value.copy()
    _diagonals(result)[...] = diagonal
    return result


def band(value: Array, lower: int, upper: int) -> Array:
    """The matrices `value`, zero but for a band of diagonals.

    Args:
        value: of shape ``[..., rows, columns]``.
        lower: how many diagonals below the main one stay; all if negative.
        upper: how many above it stay; all if negative.

    Raises:
        InvalidArgumentError: `value` is no matrix, or there are fewer diagonals than asked for.
    """
    check_matrices("MatrixBandPart", value)
    rows, columns = value.shape[-2:]
    for what, count, most in (("num_lower", lower, rows), ("num_upper", upper, columns)):
        if count > most:
            invalid(f"{what} must be negative or less or equal to {most}, got: {count}")
    if value.size == 0:
        return value
    row, column = np.arange(rows)[:, None], np.arange(columns)
    inside = np.ones((rows, columns), np.bool_)
    if lower >= 0:
        inside &= row <= column + lower
    if upper >= 0:
        inside &= column <= row + upper
    return np.where(inside, value, zero_of(value.dtype))


def check_matrices(op: str, value: Array) -> None:
    """Raises InvalidArgumentError unless `value` has at least two dimensions."""
    if value.ndim < 2:
        invalid(f"{op}: input must be at least 2-dim, received shape: {shape_text(value.shape)}")


def _diagonals(stack: Array) -> Array:
    """A writable view of the diagonal of each of the matrices in `stack`, which is contiguous."""
    rows, columns = stack.shape[-2:]
    flat = stack.reshape(*stack.shape[:-2], rows * columns)
    return flat[..., : min(rows, columns) * columns : columns + 1]
