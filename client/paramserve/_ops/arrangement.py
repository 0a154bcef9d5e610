"""Functions that reorder, repeat and pad tensors, and those of diagonals; of the family `array`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import constant, rank
from paramserve._ops.elementary import conj
from paramserve._ops.emit import emit_tensor
from paramserve._ops.math import subtract
from paramserve._ops.renamed import needed, one_of
from paramserve_core import dtypes

__all__ = [
    "diag",
    "diag_part",
    "eye",
    "invert_permutation",
    "matrix_band_part",
    "matrix_diag",
    "matrix_diag_part",
    "matrix_set_diag",
    "matrix_transpose",
    "pad",
    "reverse",
    "reverse_sequence",
    "reverse_v2",
    "tile",
    "trace",
    "transpose",
]


def transpose(
    a: TensorLike,
    perm: TensorLike | None = None,
    name: str = "transpose",
    conjugate: bool = False,
) -> Tensor:
    """The tensor with its dimensions in another order.

    Args:
        a: a tensor.
        perm: which dimension of `a` each dimension of the result is; the reverse order by default.
        name: the name of the op.
        conjugate: conjugate complex elements too.

    Raises:
        ValueError: `perm` is no permutation, or at run time InvalidArgumentError.
    """
    with name_scope(name, "transpose", [a]) as scope:
        a = convert_to_tensor(a, name="a")
        if perm is None:
            perm = _reversed_axes(a)
        if conjugate and a.dtype.is_complex:
            return conj(emit_tensor("Transpose", None, x=a, perm=perm), name=scope)
        return emit_tensor("Transpose", scope, x=a, perm=perm)


def _reversed_axes(a: Tensor) -> Tensor:
    if a.shape.ndims is not None:
        return constant(np.arange(a.shape.ndims, dtype=np.int32)[::-1])
    return emit_tensor("Range", None, start=subtract(rank(a), 1), limit=-1, delta=-1)


def matrix_transpose(
    a: TensorLike, name: str = "matrix_transpose", conjugate: bool = False
) -> Tensor:
    """The tensor with its last two dimensions exchanged.

    Args:
        a: matrices, of shape `[..., rows, columns]`.
        name: the name of the op.
        conjugate: conjugate complex elements too.

    Raises:
        ValueError: `a` has less than two dimensions.
    """
    with name_scope(name, "matrix_transpose", [a]):
        a = convert_to_tensor(a, name="a")
        ndims = a.shape.ndims
        if ndims is not None:
            if ndims < 2:
                raise ValueError(f"matrices have 2 dimensions or more, {a!r} has {ndims}")
            perm = constant(np.array([*range(ndims - 2), ndims - 1, ndims - 2], np.int32))
        else:
            last, before = subtract(rank(a), 1), subtract(rank(a), 2)
            batch = emit_tensor("Range", None, start=0, limit=before, delta=1)
            last = emit_tensor("Pack", None, values=[last, before])
            perm = emit_tensor("ConcatV2", None, values=[batch, last], axis=0)
        return transpose(a, perm, conjugate=conjugate)


def invert_permutation(x: TensorLike, name: str | None = None) -> Tensor:
    """The permutation that undoes `x`: `y[x[i]] = i`.

    Raises:
        InvalidArgumentError: at run time, where `x` is no permutation of `0..n-1`.
    """
    return emit_tensor("InvertPermutation", name, x=x)


def tile(input: TensorLike, multiples: TensorLike, name: str | None = None) -> Tensor:
    """The tensor repeated along its dimensions.

    Args:
        input: a tensor.
        multiples: how often along each dimension, an integer vector.
        name: the name of the op.
    """
    return emit_tensor("Tile", name, input=input, multiples=multiples)


def pad(
    tensor: TensorLike,
    paddings: TensorLike,
    mode: str = "CONSTANT",
    name: str | None = None,
    constant_values: TensorLike = 0,
) -> Tensor:
    """The tensor with elements added before and after, along each dimension.

    Args:
        tensor: a tensor of rank n.
        paddings: an integer matrix `[n, 2]`: how many before and how many after.
        mode: "CONSTANT", "REFLECT" (as a mirror on the last element) or "SYMMETRIC" (as a mirror
            behind it), in capitals or not.
        name: the name of the op.
        constant_values: what is added in mode "CONSTANT".

    Raises:
        ValueError: another mode, or paddings that do not fit.
    """
    kind = mode.upper()
    if kind == "CONSTANT":
        if isinstance(constant_values, (int, float)) and constant_values == 0:
            return emit_tensor("Pad", name, input=tensor, paddings=paddings)
        return emit_tensor(
            "PadV2", name, input=tensor, paddings=paddings, constant_values=constant_values
        )
    if kind not in ("REFLECT", "SYMMETRIC"):
        raise ValueError(f"Unknown padding mode: {mode}; use CONSTANT, REFLECT or SYMMETRIC")
    return emit_tensor("MirrorPad", name, input=tensor, paddings=paddings, mode=kind)


def reverse(
    tensor: TensorLike,
    axis: TensorLike | None = None,
    name: str | None = None,
    dims: TensorLike | None = None,
) -> Tensor:
    """The tensor with its elements in reverse order along some dimensions.

    Args:
        tensor: a tensor.
        axis: which dimensions, an integer vector; or, as it was once, a boolean per dimension.
        name: the name of the op.
        dims: the older name of `axis`.

    Raises:
        TypeError: `axis` is missing.
        ValueError: a dimension out of range or given twice, or at run time InvalidArgumentError.
    """
    chosen = needed("reverse", "axis", one_of("axis", axis, "dims", dims))
    if not hasattr(chosen, "graph") and np.size(chosen) == 0:
        chosen = np.zeros([0], np.int32)  # an empty list is one of floats otherwise
    where = convert_to_tensor(chosen)
    if where.dtype.base_dtype is dtypes.bool:
        return emit_tensor("Reverse", name, tensor=tensor, dims=where)
    return emit_tensor("ReverseV2", name, tensor=tensor, axis=where)


reverse_v2 = reverse


def reverse_sequence(
    input: TensorLike,
    seq_lengths: TensorLike,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Tensor:
    """Each sequence of a batch with its first elements in reverse order.

    Args:
        input: sequences.
        seq_lengths: how many elements of each sequence to reverse, an integer vector.
        seq_axis: the dimension along which a sequence runs.
        batch_axis: the dimension that counts sequences; 0 by default.
        name: the name of the op.
        seq_dim: the older name of `seq_axis`.
        batch_dim: the older name of `batch_axis`.

    Raises:
        TypeError: `seq_axis` is missing.
        InvalidArgumentError: at run time, where a length is out of range.
    """
    along = needed("reverse_sequence", "seq_axis", one_of("seq_axis", seq_axis, "seq_dim", seq_dim))
    batch = one_of("batch_axis", batch_axis, "batch_dim", batch_dim)
    return emit_tensor(
        "ReverseSequence",
        name,
        input=input,
        seq_lengths=seq_lengths,
        seq_dim=along,
        batch_dim=0 if batch is None else batch,
    )


def diag(diagonal: TensorLike, name: str | None = None) -> Tensor:
    """A tensor of twice the rank that has `diagonal` on its diagonal and zeros elsewhere."""
    return emit_tensor("Diag", name, diagonal=diagonal)


def diag_part(input: TensorLike, name: str | None = None) -> Tensor:
    """The diagonal of a tensor of even rank, whose second half of sizes equals its first."""
    return emit_tensor("DiagPart", name, input=input)


def matrix_diag(diagonal: TensorLike, name: str | None = None) -> Tensor:
    """Square matrices with the given diagonals.

    Args:
        diagonal: of shape `[..., n]`.
        name: the name of the op.

    Returns:
        A tensor of shape `[..., n, n]`.
    """
    return emit_tensor("MatrixDiag", name, diagonal=diagonal)


def matrix_diag_part(input: TensorLike, name: str | None = None) -> Tensor:
    """The diagonals of matrices of shape `[..., m, n]`, of shape `[..., min(m, n)]`."""
    return emit_tensor("MatrixDiagPart", name, input=input)


def matrix_set_diag(input: TensorLike, diagonal: TensorLike, name: str | None = None) -> Tensor:
    """Matrices of shape `[..., m, n]` with their diagonals replaced."""
    return emit_tensor("MatrixSetDiag", name, input=input, diagonal=diagonal)


def matrix_band_part(
    input: TensorLike, num_lower: TensorLike, num_upper: TensorLike, name: str | None = None
) -> Tensor:
    """Matrices of which only a band around the diagonal is kept, and the rest is zero.

    Args:
        input: of shape `[..., m, n]`.
        num_lower: how many diagonals below the main one to keep, a scalar; all if negative.
        num_upper: how many above it.
        name: the name of the op.
    """
    return emit_tensor(
        "MatrixBandPart",
        name,
        input=input,
        num_lower=convert_to_tensor(num_lower, preferred_dtype=dtypes.int64),
        num_upper=convert_to_tensor(num_upper, preferred_dtype=dtypes.int64),
    )


def eye(
    num_rows: int,
    num_columns: int | None = None,
    batch_shape: Sequence[int] | None = None,
    dtype: Any = dtypes.float32,
    name: str | None = None,
) -> Tensor:
    """Identity matrices.

    Args:
        num_rows: the rows of a matrix.
        num_columns: its columns; as many as rows by default.
        batch_shape: the shape of the dimensions before; none by default.
        dtype: the type of the elements.
        name: the name of the op.
    """
    element = dtypes.as_dtype(dtype)
    matrix = np.eye(num_rows, num_columns, dtype=element.as_numpy_dtype)
    if batch_shape:
        matrix = np.broadcast_to(matrix, (*batch_shape, *matrix.shape))
    return constant(matrix, element, name=name or "eye")


def trace(x: TensorLike, name: str | None = None) -> Tensor:
    """The sum of the diagonal of matrices of shape `[..., m, n]`."""
    with name_scope(name, "Trace", [x]) as scope:
        parts = matrix_diag_part(convert_to_tensor(x, name="x"))
        return emit_tensor("Sum", scope, input=parts, reduction_indices=[-1])
