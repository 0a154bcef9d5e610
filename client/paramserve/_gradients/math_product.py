"""Gradients of the family `math_product`: products of matrices.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import summed_to
from paramserve._ops.elementary import conj
from paramserve._ops.emit import emit_tensor
from paramserve._ops.math_product import cross


@RegisterGradient("MatMul")
def _matmul(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    a, b = conj(op.inputs[0]), conj(op.inputs[1])
    transposed_a, transposed_b = op.attrs["transpose_a"], op.attrs["transpose_b"]

    def product(x: Tensor, y: Tensor, transpose_x: bool, transpose_y: bool) -> Tensor:
        return emit_tensor(
            "MatMul", None, a=x, b=y, transpose_a=transpose_x, transpose_b=transpose_y
        )

    if transposed_a:
        a_gradient = product(b, grad, transposed_b, True)
    else:
        a_gradient = product(grad, b, False, not transposed_b)
    if transposed_b:
        b_gradient = product(grad, a, True, transposed_a)
    else:
        b_gradient = product(a, grad, not transposed_a, False)
    return a_gradient, b_gradient


@RegisterGradient("BatchMatMul")
@RegisterGradient("BatchMatMulV2")
def _batch_matmul(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    x, y = op.inputs
    adjoint_x, adjoint_y = op.attrs["adj_x"], op.attrs["adj_y"]

    def product(a: Tensor, b: Tensor, adjoint_a: bool, adjoint_b: bool) -> Tensor:
        return emit_tensor(op.type, None, x=a, y=b, adj_x=adjoint_a, adj_y=adjoint_b)

    if adjoint_x:
        x_gradient = product(y, grad, adjoint_y, True)
    else:
        x_gradient = product(grad, y, False, not adjoint_y)
    if adjoint_y:
        y_gradient = product(grad, x, True, adjoint_x)
    else:
        y_gradient = product(x, grad, not adjoint_x, False)
    return summed_to(x_gradient, x), summed_to(y_gradient, y)


@RegisterGradient("Cross")
def _cross(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    a, b = op.inputs
    return cross(b, grad), cross(grad, a)
