"""Gradients of the family `nn`: activations, biases, the L2 loss, the largest elements.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import NoGradient, RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._gradients.broadcasting import zero_unless
from paramserve._gradients.handling import takes_missing
from paramserve._ops import elementary as fn
from paramserve._ops.array import broadcast_to, cast, expand_dims, rank, reshape, shape, zeros_like
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import gather, scatter_nd, strided_slice
from paramserve._ops.joining import concat, stack
from paramserve._ops.math import less, realdiv
from paramserve._ops.math_reduce import reduce_prod, reduce_sum
from paramserve._ops.math_sequence import range

for _op in ("InTopK", "InTopKV2"):
    NoGradient(_op)


def _of_features(op_type: str, grad: Tensor, features: Tensor) -> Tensor:
    return emit_tensor(op_type, None, gradients=grad, features=features)


def _of_outputs(op_type: str, grad: Tensor, outputs: Tensor) -> Tensor:
    return emit_tensor(op_type, None, gradients=grad, outputs=outputs)


@RegisterGradient("Relu")
def _relu(op: Operation, grad: Tensor) -> Tensor:
    return _of_features("ReluGrad", grad, op.outputs[0])


@RegisterGradient("Relu6")
def _relu6(op: Operation, grad: Tensor) -> Tensor:
    return _of_features("Relu6Grad", grad, op.outputs[0])


@RegisterGradient("LeakyRelu")
def _leaky_relu(op: Operation, grad: Tensor) -> Tensor:
    alpha = op.attrs["alpha"]
    return emit_tensor("LeakyReluGrad", None, gradients=grad, features=op.inputs[0], alpha=alpha)


@RegisterGradient("Elu")
def _elu(op: Operation, grad: Tensor) -> Tensor:
    return _of_outputs("EluGrad", grad, op.outputs[0])


@RegisterGradient("Selu")
def _selu(op: Operation, grad: Tensor) -> Tensor:
    return _of_outputs("SeluGrad", grad, op.outputs[0])


@RegisterGradient("Softplus")
def _softplus(op: Operation, grad: Tensor) -> Tensor:
    return _of_features("SoftplusGrad", grad, op.inputs[0])


@RegisterGradient("Softsign")
def _softsign(op: Operation, grad: Tensor) -> Tensor:
    return _of_features("SoftsignGrad", grad, op.inputs[0])


# Derivatives that are ops themselves, and theirs: of the gradient, and of features or outputs.


@RegisterGradient("ReluGrad")
@RegisterGradient("Relu6Grad")
def _relu_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    features = op.inputs[1]
    return _of_features(op.type, grad, features), zeros_like(features)


@RegisterGradient("LeakyReluGrad")
def _leaky_relu_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    features, alpha = op.inputs[1], op.attrs["alpha"]
    found = emit_tensor("LeakyReluGrad", None, gradients=grad, features=features, alpha=alpha)
    return found, zeros_like(features)


@RegisterGradient("EluGrad")
@RegisterGradient("SeluGrad")
def _elu_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    dy, outputs = op.inputs
    return _of_outputs(op.type, grad, outputs), zero_unless(less(outputs, 0), grad * dy)


@RegisterGradient("SoftplusGrad")
def _softplus_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    dy, features = op.inputs
    slope = fn.sigmoid(features)
    return _of_features("SoftplusGrad", grad, features), grad * dy * slope * (1 - slope)


@RegisterGradient("SoftsignGrad")
def _softsign_grad(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    dy, features = op.inputs
    found = _of_features("SoftsignGrad", grad, features)
    return found, realdiv(-2 * dy * fn.sign(features) * found, fn.abs(features) + 1)


# Biases and the loss.


@RegisterGradient("BiasAdd")
def _bias_add(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    data_format = op.attrs["data_format"]
    bias = emit_tensor("BiasAddGrad", None, out_backprop=grad, data_format=data_format)
    return grad, bias


@RegisterGradient("BiasAddV1")
def _bias_add_v1(op: Operation, grad: Tensor) -> tuple[Tensor, Tensor]:
    return grad, reduce_sum(grad, range(rank(grad) - 1))


@RegisterGradient("BiasAddGrad")
def _bias_add_grad(op: Operation, grad: Tensor) -> Tensor:
    source = op.inputs[0]
    if op.attrs["data_format"] == "NCHW":
        spatial = rank(source) - 2
        ones = emit_tensor("Fill", None, dims=reshape(spatial, [1]), value=1)
        grad = reshape(grad, concat([shape(grad), ones], 0))
    return broadcast_to(grad, shape(source))


@RegisterGradient("L2Loss")
def _l2_loss(op: Operation, grad: Tensor) -> Tensor:
    return op.inputs[0] * grad


# The largest.


@RegisterGradient("TopK")
@RegisterGradient("TopKV2")
@takes_missing
def _top_k(op: Operation, grad: Tensor | None, _: None) -> list[Tensor | None]:
    if grad is None:
        return [None] * len(op.inputs)
    source, indices = op.inputs[0], cast(op.outputs[1], "int32")
    sizes = shape(source)
    length = gather(sizes, rank(source) - 1)
    rows = reduce_prod(strided_slice(sizes, [0], [-1], [1], begin_mask=1))
    picked = reshape(indices, stack([rows, gather(shape(indices), rank(source) - 1)]))
    positions = picked + reshape(range(rows) * length, [-1, 1])
    flat = scatter_nd(
        expand_dims(reshape(positions, [-1]), 1),
        reshape(grad, [-1]),
        reshape(rows * length, [1]),
    )
    return [reshape(flat, sizes), *[None] * (len(op.inputs) - 1)]
