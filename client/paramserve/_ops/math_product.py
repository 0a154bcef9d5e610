"""Products of matrices.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.elementary import conj
from paramserve._ops.emit import emit_tensor

__all__ = ["batch_matmul", "cross", "matmul"]


def matmul(
    a: TensorLike,
    b: TensorLike,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of matrices, or of batches of matrices.

    Args:
        a: of shape `[..., m, k]`.
        b: of the same type, of shape `[..., k, n]`; the leading sizes of both broadcast.
        transpose_a: exchange the last two dimensions of `a` first.
        transpose_b: exchange the last two dimensions of `b` first.
        adjoint_a: exchange and conjugate those of `a`.
        adjoint_b: exchange and conjugate those of `b`.
        a_is_sparse: kept for old programs; it changes nothing.
        b_is_sparse: kept for old programs; it changes nothing.
        name: the name of the op.

    Returns:
        A tensor of shape `[..., m, n]`.

    Raises:
        ValueError: sizes that do not fit, or `transpose_a` together with `adjoint_a`.
    """
    with name_scope(name, "MatMul", [a, b]) as scope:
        if transpose_a and adjoint_a:
            raise ValueError("Only one of transpose_a and adjoint_a can be True.")
        if transpose_b and adjoint_b:
            raise ValueError("Only one of transpose_b and adjoint_b can be True.")
        a = convert_to_tensor(a, name="a")
        b = convert_to_tensor(b, dtype=None if _typed(b) else a.dtype.base_dtype, name="b")
        if max(a.shape.ndims or 0, b.shape.ndims or 0) > 2:
            # A batch has one flag, which conjugates: what is only to be transposed is conjugated
            # here, and back there.
            if transpose_a:
                a, adjoint_a = conj(a), True
            if transpose_b:
                b, adjoint_b = conj(b), True
            return emit_tensor("BatchMatMulV2", scope, x=a, y=b, adj_x=adjoint_a, adj_y=adjoint_b)
        if adjoint_a:
            a, transpose_a = conj(a), True
        if adjoint_b:
            b, transpose_b = conj(b), True
        return emit_tensor(
            "MatMul", scope, a=a, b=b, transpose_a=transpose_a, transpose_b=transpose_b
        )


def _typed(value: TensorLike) -> bool:
    return hasattr(value, "graph")


def batch_matmul(
    x: TensorLike, y: TensorLike, adj_x: bool = False, adj_y: bool = False, name: str | None = None
) -> Tensor:
    """The products of two batches of matrices; see also `matmul`.

    Args:
        x: of shape `[..., m, k]`.
        y: of the same type, of shape `[..., k, n]`, with the same leading sizes.
        adj_x: exchange the last two dimensions of `x` and conjugate it first.
        adj_y: exchange the last two dimensions of `y` and conjugate it first.
        name: the name of the op.

    Returns:
        A tensor of shape `[..., m, n]`.
    """
    return emit_tensor("BatchMatMul", name, x=x, y=y, adj_x=adj_x, adj_y=adj_y)


def cross(a: TensorLike, b: TensorLike, name: str | None = None) -> Tensor:
    """The cross products of vectors of three elements, along the last dimension."""
    return emit_tensor("Cross", name, a=a, b=b)
