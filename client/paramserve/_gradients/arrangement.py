"""Gradients of the ops of the family `array` that join, cut, reorder, repeat and pad.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramserve._framework.constant_value import constant_value
from paramserve._framework.gradient_registry import RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops.arrangement import (
    diag,
    diag_part,
    invert_permutation,
    matrix_band_part,
    matrix_diag,
    matrix_diag_part,
    matrix_set_diag,
    pad,
    reverse,
    reverse_sequence,
    transpose,
)
from paramserve._ops.array import constant, rank, reshape, shape, size, zeros, zeros_like
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import gather, slice
from paramserve._ops.joining import concat, split, stack, unstack
from paramserve._ops.math_reduce import reduce_sum
from paramserve._ops.math_sequence import range

Gradients = list[Tensor | None]


# Joined and cut.


def _cut_like(grad: Tensor, parts: Sequence[Tensor], axis: Tensor) -> list[Tensor]:
    """The gradient of joined tensors, cut into those of the parts."""
    known_axis = constant_value(axis)
    ndims = grad.shape.ndims
    if known_axis is not None and ndims is not None:
        sizes = [part.shape[int(known_axis) % ndims].value for part in parts]
        if None not in sizes:
            return split(grad, constant(np.array(sizes, np.int32)), axis)
    position = axis % rank(grad)
    lengths = stack([gather(shape(part), position) for part in parts])
    return split(grad, lengths, axis, num=len(parts))


@RegisterGradient("Concat")
def _concat(op: Operation, grad: Tensor) -> Gradients:
    return [None, *_cut_like(grad, op.inputs[1:], op.inputs[0])]


@RegisterGradient("ConcatV2")
def _concat_v2(op: Operation, grad: Tensor) -> Gradients:
    return [*_cut_like(grad, op.inputs[:-1], op.inputs[-1]), None]


@RegisterGradient("Split")
def _split(op: Operation, *grads: Tensor) -> Gradients:
    return [None, concat(list(grads), op.inputs[0])]


@RegisterGradient("SplitV")
def _split_v(op: Operation, *grads: Tensor) -> Gradients:
    return [concat(list(grads), op.inputs[2]), None, None]


@RegisterGradient("Pack")
def _pack(op: Operation, grad: Tensor) -> list[Tensor]:
    return unstack(grad, num=op.attrs["N"], axis=op.attrs["axis"])


@RegisterGradient("Unpack")
def _unpack(op: Operation, *grads: Tensor) -> Tensor:
    return stack(list(grads), axis=op.attrs["axis"])


# Reordered, repeated and padded.


@RegisterGradient("Transpose")
def _transpose(op: Operation, grad: Tensor) -> Gradients:
    return [transpose(grad, invert_permutation(op.inputs[1])), None]


@RegisterGradient("Reverse")
@RegisterGradient("ReverseV2")
def _reverse(op: Operation, grad: Tensor) -> Gradients:
    return [reverse(grad, op.inputs[1]), None]


@RegisterGradient("ReverseSequence")
def _reverse_sequence(op: Operation, grad: Tensor) -> Gradients:
    axes = op.attrs["seq_dim"], op.attrs["batch_dim"]
    return [reverse_sequence(grad, op.inputs[1], *axes), None]


@RegisterGradient("Tile")
def _tile(op: Operation, grad: Tensor) -> Gradients:
    source, multiples = op.inputs
    # Each dimension as two, (how often, how long), and the sum over the first of each pair.
    pairs = stack([multiples, shape(source, out_type=multiples.dtype.base_dtype)], axis=1)
    folded = reshape(grad, reshape(pairs, [-1]))
    total = reduce_sum(folded, range(0, 2 * size(multiples), 2))
    total.set_shape(source.shape)
    return [total, None]


@RegisterGradient("Pad")
def _pad(op: Operation, grad: Tensor) -> Gradients:
    return [_inner(op, grad), None]


@RegisterGradient("PadV2")
def _pad_v2(op: Operation, grad: Tensor) -> Gradients:
    inner = _inner(op, grad)
    return [inner, None, reduce_sum(grad) - reduce_sum(inner)]


def _inner(op: Operation, grad: Tensor) -> Tensor:
    """What is not padding."""
    source, paddings = op.inputs[:2]
    before = gather(paddings, 0, axis=1)
    return slice(grad, before, shape(source, out_type=paddings.dtype.base_dtype))


@RegisterGradient("MirrorPad")
def _mirror_pad(op: Operation, grad: Tensor) -> Gradients:
    mode, paddings = op.attrs["mode"], op.inputs[1]
    return [emit_tensor("MirrorPadGrad", None, input=grad, paddings=paddings, mode=mode), None]


@RegisterGradient("MirrorPadGrad")
def _mirror_pad_grad(op: Operation, grad: Tensor) -> Gradients:
    return [pad(grad, op.inputs[1], mode=op.attrs["mode"]), None]


# Diagonals.


@RegisterGradient("Diag")
def _diag(op: Operation, grad: Tensor) -> Tensor:
    return diag_part(grad)


@RegisterGradient("DiagPart")
def _diag_part(op: Operation, grad: Tensor) -> Tensor:
    return diag(grad)


@RegisterGradient("MatrixDiag")
def _matrix_diag(op: Operation, grad: Tensor) -> Tensor:
    return matrix_diag_part(grad)


@RegisterGradient("MatrixDiagPart")
def _matrix_diag_part(op: Operation, grad: Tensor) -> Tensor:
    source = op.inputs[0]
    if source.shape.ndims is not None:
        rows, columns = source.shape[-2].value, source.shape[-1].value
        if rows is not None and rows == columns:
            return matrix_diag(grad)
    return matrix_set_diag(zeros_like(source), grad)


@RegisterGradient("MatrixSetDiag")
def _matrix_set_diag(op: Operation, grad: Tensor) -> list[Tensor]:
    diagonal = op.inputs[1]
    nothing = zeros(shape(diagonal), diagonal.dtype.base_dtype)
    return [matrix_set_diag(grad, nothing), matrix_diag_part(grad)]


@RegisterGradient("MatrixBandPart")
def _matrix_band_part(op: Operation, grad: Tensor) -> Gradients:
    _, num_lower, num_upper = op.inputs
    return [matrix_band_part(grad, num_lower, num_upper), None, None]
