"""Gradients of the family `array`: what was moved, repeated or cut goes back where it came from.

Of ops that join, cut, reorder and pad they are in `arrangement`.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.gradient_registry import NoGradient, RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import summed_to
from paramserve._gradients.handling import takes_sparse
from paramserve._ops.array import cast, check_numerics, reshape, shape
from paramserve._ops.math_reduce import reduce_sum

for _op in (
    *("Bitcast", "BroadcastArgs", "BroadcastGradientArgs", "ConcatOffset", "Const"),
    *("InvertPermutation", "OnesLike", "Placeholder", "PlaceholderV2", "Rank", "Shape", "ShapeN"),
    *("Size", "StopGradient", "ZerosLike"),
):
    NoGradient(_op)


@RegisterGradient("EnsureShape")
@RegisterGradient("Identity")
@RegisterGradient("PlaceholderWithDefault")
@takes_sparse
def _unchanged(op: Operation, grad: Any) -> Any:
    return grad


@RegisterGradient("IdentityN")
@takes_sparse
def _each_unchanged(op: Operation, *grads: Any) -> list[Any]:
    return list(grads)


@RegisterGradient("PreventGradient")
def _prevented(op: Operation, grad: Tensor) -> Tensor:
    raise LookupError(f"Gradient explicitly disabled. Reason: {op.attrs['message']}")


@RegisterGradient("CheckNumerics")
def _check_numerics(op: Operation, grad: Tensor) -> Tensor:
    text = f"Not a number (NaN) or infinity (Inf) values detected in gradient of {op.name}."
    return check_numerics(grad, text)


@RegisterGradient("Cast")
def _cast(op: Operation, grad: Tensor) -> Tensor | None:
    source, target = op.inputs[0].dtype.base_dtype, op.outputs[0].dtype.base_dtype
    if not all(dtype.is_floating or dtype.is_complex for dtype in (source, target)):
        return None
    back: Tensor = cast(grad, source)
    return back


@RegisterGradient("Fill")
def _fill(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return [None, reduce_sum(grad)]


@RegisterGradient("ExpandDims")
@RegisterGradient("Reshape")
def _reshape(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return [reshape(grad, shape(op.inputs[0])), None]


@RegisterGradient("Squeeze")
def _squeeze(op: Operation, grad: Tensor) -> Tensor:
    return reshape(grad, shape(op.inputs[0]))


@RegisterGradient("BroadcastTo")
def _broadcast_to(op: Operation, grad: Tensor) -> list[Tensor | None]:
    return [summed_to(grad, op.inputs[0]), None]
