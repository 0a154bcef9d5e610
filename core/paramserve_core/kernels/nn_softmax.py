"""Kernels of the softmax and of the losses that are fused with it.

All subtract the largest logit of each row first, so that no exponential overflows. A loss comes
with its derivative with respect to the logits, for which everything is at hand.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import numpy as np

from paramserve_core.kernels.arguments import check_indices
from paramserve_core.kernels.numerics import (
    Array,
    broadcast_shape,
    check_rank,
    invalid,
    quiet,
    shape_text,
    widened,
)
from paramserve_core.kernels.registry import KernelNode, kernel


def _shifted(logits: Array) -> Array:
    """A new array: the logits of each row less the largest of them."""
    shifted: Array = np.subtract(logits, np.max(logits, axis=-1, keepdims=True))
    return shifted


def _log_total(shifted: Array, out: Array) -> Array:
    """The logarithm of each row's sum of exponentials; leaves the exponentials in `out`."""
    np.exp(shifted, out=out)
    total: Array = np.log(np.sum(out, axis=-1, keepdims=True))
    return total


@kernel("Softmax")
@widened
@quiet
def _softmax(node: KernelNode, logits: Array) -> Array:
    _check_rows("Softmax", logits)
    if not logits.size:
        return logits
    result = _shifted(logits)
    np.exp(result, out=result)
    result /= np.sum(result, axis=-1, keepdims=True)
    return result


@kernel("LogSoftmax")
@widened
@quiet
def _log_softmax(node: KernelNode, logits: Array) -> Array:
    _check_rows("LogSoftmax", logits)
    if not logits.size:
        return logits
    result = _shifted(logits)
    result -= _log_total(result, np.empty_like(result))
    return result


def _check_rows(op: str, logits: Array) -> None:
    if logits.ndim == 0:
        invalid(f"{op}: logits must have one dimension at least, but are a scalar")


@kernel("SoftmaxCrossEntropyWithLogits")
@widened
@quiet
def _cross_entropy(node: KernelNode, features: Array, labels: Array) -> tuple[Array, Array]:
    shape = broadcast_shape(features, labels)
    if len(shape) != 2:
        invalid(
            "logits and labels must be either 2-dimensional, or broadcasted to be 2-dimensional; "
            f"they are {shape_text(features.shape)} and {shape_text(labels.shape)}"
        )
    if not shape[0] * shape[1]:
        if shape[0]:
            invalid(f"Must have at least one class, but logits are {shape_text(shape)}")
        return np.zeros(shape[0], features.dtype), np.zeros(shape, features.dtype)
    shifted = _shifted(np.broadcast_to(features, shape))
    backprop = np.empty(shape, features.dtype)
    terms = np.subtract(_log_total(shifted, backprop), shifted, out=shifted)
    terms *= labels
    # A class that cannot be, of logit -inf, costs nothing where its label is 0; as in the sparse
    # form, but not as in TensorFlow, where 0 times infinity makes the loss nan.
    np.copyto(terms, 0, where=np.equal(labels, 0))
    backprop /= np.sum(backprop, axis=-1, keepdims=True)
    backprop -= labels
    return np.sum(terms, axis=-1), backprop


@kernel("SparseSoftmaxCrossEntropyWithLogits")
@widened
@quiet
def _sparse_cross_entropy(node: KernelNode, features: Array, labels: Array) -> tuple[Array, Array]:
    check_rank("SparseSoftmaxCrossEntropyWithLogits", "features", features, 2)
    check_rank("SparseSoftmaxCrossEntropyWithLogits", "labels", labels, 1)
    count, classes = features.shape
    if len(labels) != count:
        invalid(
            f"logits and labels must have the same first dimension, got logits shape "
            f"{shape_text(features.shape)} and labels shape {shape_text(labels.shape)}"
        )
    if not classes:
        invalid(f"Must have at least one class, but logits are {shape_text(features.shape)}")
    check_indices("labels", labels, classes)
    if not count:
        return np.zeros(0, features.dtype), np.zeros((0, classes), features.dtype)
    rows = np.arange(count)
    shifted = _shifted(features)
    backprop = np.empty_like(shifted)
    loss = _log_total(shifted, backprop)[:, 0] - shifted[rows, labels]
    backprop /= np.sum(backprop, axis=-1, keepdims=True)
    backprop[rows, labels] -= 1
    return loss, backprop
