"""Gradients of the family `nn_softmax`: softmax and the losses that are fused with it.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import summed_to
from paramserve._gradients.handling import takes_missing
from paramserve._ops import elementary as fn
from paramserve._ops.array import expand_dims
from paramserve._ops.math_reduce import add_n, reduce_sum
from paramserve._ops.nn_softmax import log_softmax, softmax


@RegisterGradient("Softmax")
def _softmax(op: Operation, grad: Tensor) -> Tensor:
    return _through_softmax(op.outputs[0], grad)


def _through_softmax(probabilities: Tensor, grad: Tensor) -> Tensor:
    """What a gradient of the probabilities is to the logits."""
    return (grad - reduce_sum(grad * probabilities, -1, keep_dims=True)) * probabilities


@RegisterGradient("LogSoftmax")
def _log_softmax(op: Operation, grad: Tensor) -> Tensor:
    return grad - reduce_sum(grad, -1, keep_dims=True) * fn.exp(op.outputs[0])


def _of_logits(op: Operation, loss_grad: Tensor | None, derivative_grad: Tensor | None) -> Tensor:
    """The gradient of the logits.

    The op's second output is the derivative of its loss: the softmax minus the labels. So the
    second output's own derivative by the logits is that of a softmax.
    """
    logits = op.inputs[0]
    parts = []
    if loss_grad is not None:
        parts.append(expand_dims(loss_grad, -1) * op.outputs[1])
    if derivative_grad is not None:
        parts.append(_through_softmax(softmax(logits), derivative_grad))
    return add_n(parts)


@RegisterGradient("SoftmaxCrossEntropyWithLogits")
@takes_missing
def _cross_entropy(
    op: Operation, loss_grad: Tensor | None, derivative_grad: Tensor | None
) -> list[Tensor | None]:
    logits, labels = op.inputs
    by_logits = _of_logits(op, loss_grad, derivative_grad)
    by_labels = []
    if loss_grad is not None:
        by_labels.append(expand_dims(loss_grad, -1) * -log_softmax(logits))
    if derivative_grad is not None:
        by_labels.append(-derivative_grad)
    return [
        summed_to(by_logits, logits, labels),
        summed_to(add_n(by_labels), labels, logits),
    ]


@RegisterGradient("SparseSoftmaxCrossEntropyWithLogits")
@takes_missing
def _sparse_cross_entropy(
    op: Operation, loss_grad: Tensor | None, derivative_grad: Tensor | None
) -> list[Tensor | None]:
    return [_of_logits(op, loss_grad, derivative_grad), None]
