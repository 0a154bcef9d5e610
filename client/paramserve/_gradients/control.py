"""Gradients of the family `control`: a conditional backwards is a conditional.

The gradient of a `Merge` is a `Switch` by the input that was alive, and that of a `Switch` is a
`Merge`. What the gradient functions add for the ops of a branch uses the branch's tensors or the
gradient that the `Switch` sends down, so it is missing where the branch was not taken; only what
comes to a `Merge` is made to depend on the branch explicitly, because a gradient may be a constant.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.gradient_registry import NoGradient, RegisterGradient
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.scopes import control_dependencies
from paramserve._framework.tensor import Tensor
from paramserve._gradients.handling import takes_missing, takes_sparse
from paramserve._ops.array import cast, constant, identity, shape
from paramserve._ops.conditional import merge, switch
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import gather
from paramserve._ops.math import equal

for _op in ("Assert", "ControlTrigger", "LoopCond", "NoOp"):
    NoGradient(_op)
for _op in ("StackCloseV2", "StackPopV2", "StackPushV2", "StackV2"):
    NoGradient(_op)
# A loop is differentiated as one, see `loops`; these are never asked by themselves.
for _op in ("Exit", "NextIteration", "RefExit", "RefNextIteration"):
    NoGradient(_op)


@RegisterGradient("Switch")
@RegisterGradient("RefSwitch")
@takes_sparse
@takes_missing
def _switch(op: Operation, *grads: Any) -> list[Any]:
    if op.inputs[1].op.type == "LoopCond":  # in the body of a loop
        return [grads[1], None]
    given = [grad for grad in grads if grad is not None]
    sides = list(zip(op.outputs, grads, strict=True))
    if not all(isinstance(grad, IndexedSlices) for grad in given):
        return [merge([_dense_side(tensor, grad) for tensor, grad in sides])[0], None]
    parts = [_sparse_side(tensor, grad) for tensor, grad in sides]
    values, _ = merge([part.values for part in parts])
    indices, _ = merge([part.indices for part in parts])
    return [IndexedSlices(values, indices, shape(op.inputs[0], out_type="int64")), None]


def _dense_side(tensor: Tensor, grad: Any) -> Tensor:
    """The gradient of one side, missing where that is not taken; zeros if there is none."""
    if grad is None:
        return emit_tensor("ZerosLike", None, x=tensor)
    with control_dependencies([identity(tensor)]):
        return identity(convert_to_tensor(grad))


def _sparse_side(tensor: Tensor, grad: Any) -> IndexedSlices:
    """Likewise; no rows if there is none."""
    with control_dependencies([identity(tensor)]):
        if grad is None:
            no_rows = constant([], "int64")
            return IndexedSlices(gather(tensor, no_rows), identity(no_rows))
        return IndexedSlices(identity(grad.values), identity(cast(grad.indices, "int64")))


@RegisterGradient("Enter")
@RegisterGradient("RefEnter")
@takes_sparse
def _enter(op: Operation, grad: Any) -> Any:
    """Inside of a loop that is still being built, where a tensor from outside is a tensor."""
    return grad


@RegisterGradient("Merge")
@RegisterGradient("RefMerge")
@takes_sparse
@takes_missing
def _merge(op: Operation, grad: Any, _: None) -> list[Any]:
    if grad is None:
        return [None] * len(op.inputs)
    taken = op.outputs[1]
    if not isinstance(grad, IndexedSlices):
        return _by_input(grad, taken, len(op.inputs))
    parts = (_by_input(part, taken, len(op.inputs)) for part in (grad.values, grad.indices))
    return [
        IndexedSlices(values, indices, grad.dense_shape)
        for values, indices in zip(*parts, strict=True)
    ]


def _by_input(tensor: Tensor, taken: Tensor, count: int) -> list[Tensor]:
    """The tensor once for each input of a merge, missing for all but the one that was taken."""
    if count == 2:
        return switch(tensor, equal(taken, 1))
    return [switch(tensor, equal(taken, i))[1] for i in range(count)]
