"""Undoing a broadcast: what an op repeated forwards, its gradient adds up.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.tensor import Tensor
from paramserve._ops.array import reshape, shape
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve._ops.math_reduce import reduce_sum


def summed_to(gradient: Tensor, source: Tensor, *others: Tensor) -> Tensor:
    """A gradient in the shape of an op's result, summed to the shape of one of its inputs.

    Args:
        gradient: of the shape that `source` and `others` broadcast to.
        source: the input.
        *others: the inputs that it was broadcast with; what is known of their shapes may settle
            which dimensions were repeated.
    """
    axes = _repeated_axes(gradient, source, others)
    if axes is None:
        sizes = shape(source)
        found, _ = emit_tensors("BroadcastGradientArgs", None, s0=sizes, s1=shape(gradient))
        return reshape(reduce_sum(gradient, found), sizes)
    if not axes:
        return gradient
    total = reduce_sum(gradient, axes)
    if len(axes) == (gradient.shape.ndims or 0) - (source.shape.ndims or 0):
        return total
    return reshape(total, shape(source))


def _repeated_axes(
    gradient: Tensor, source: Tensor, others: tuple[Tensor, ...]
) -> list[int] | None:
    """The dimensions along which `source` was repeated; None where that is not known yet."""
    ndims = source.shape.ndims
    if gradient.shape.ndims is None or ndims is None:
        return None
    sizes = gradient.shape.as_list()
    offset = len(sizes) - ndims
    axes = list(range(offset))
    for axis, own in enumerate(source.shape.as_list(), offset):
        if own == 1 and sizes[axis] != 1:
            axes.append(axis)
        elif (
            own is None
            and sizes[axis] != 1
            and not (others and all(_is_one(other, axis - len(sizes)) for other in others))
        ):
            return None
    return axes


def _is_one(tensor: Tensor, axis: int) -> bool:
    """Whether a dimension, counted from the end, is known not to be larger than 1."""
    ndims = tensor.shape.ndims
    if ndims is None:
        return False
    return ndims < -axis or tensor.shape[axis].value == 1


def zero_unless(condition: Tensor, gradient: Tensor) -> Tensor:
    """The gradient where a condition holds, 0 elsewhere, whatever the gradient is there.

    Both broadcast with each other.
    """
    return emit_tensor("SelectV2", None, condition=condition, t=gradient, e=0)
