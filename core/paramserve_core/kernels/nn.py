"""Kernels of activations, biases, the L2 loss, and the largest of each row.

Activations that NumPy has no function for are made of sweeps that write into one new array.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from paramserve_core.kernels.arguments import size_value
from paramserve_core.kernels.numerics import (
    Array,
    check_rank,
    check_same_shape,
    compute_dtype,
    invalid,
    quiet,
    shape_text,
    widened,
)
from paramserve_core.kernels.registry import KernelFunction, KernelNode, kernel

_SELU_SCALE: Final = 1.0507009873554804934193349852946
_SELU_SCALED_ALPHA: Final = 1.7580993408473768599402175208123

_L2_BLOCK: Final = 1 << 20
"""Elements summed in the array's own type; the blocks' sums are added in float64."""


# Activations.


def _activation(function: Callable[[Array], Any]) -> KernelFunction:
    @widened
    @quiet
    def run(node: KernelNode, features: Array) -> Array:
        return np.asarray(function(features), features.dtype)

    return run


def _activation_grad(function: Callable[[Array, Array], Any]) -> KernelFunction:
    @widened
    @quiet
    def run(node: KernelNode, gradients: Array, other: Array) -> Array:
        check_same_shape(node.op, gradients=gradients, features=other)
        return np.asarray(function(gradients, other), gradients.dtype)

    return run


def _relu6(x: Array) -> Any:
    return np.minimum(np.maximum(x, 0), 6)


def _elu(x: Array) -> Any:
    """The number itself where it is positive, else exp(x) − 1."""
    result = np.minimum(x, 0, out=np.empty_like(x))
    np.expm1(result, out=result)
    return np.add(result, np.maximum(x, 0), out=result)


def _selu(x: Array) -> Any:
    result = np.minimum(x, 0, out=np.empty_like(x))
    np.expm1(result, out=result)
    result *= _SELU_SCALED_ALPHA
    return np.add(result, np.maximum(x, 0) * _SELU_SCALE, out=result)


def _softplus(x: Array) -> Any:
    """Log(exp(x) + 1), as the larger of x and 0 and what is missing then."""
    result = np.absolute(x, out=np.empty_like(x))
    np.negative(result, out=result)
    np.exp(result, out=result)
    np.log1p(result, out=result)
    return np.add(result, np.maximum(x, 0), out=result)


def _softsign(x: Array) -> Any:
    return np.divide(x, np.absolute(x) + 1)


def _relu_grad(gradients: Array, features: Array) -> Any:
    return np.multiply(gradients, features > 0, dtype=gradients.dtype)


def _relu6_grad(gradients: Array, features: Array) -> Any:
    return np.multiply(gradients, (features > 0) & (features < 6), dtype=gradients.dtype)


def _elu_grad(gradients: Array, outputs: Array) -> Any:
    slope = np.fmin(outputs, 0, out=np.empty_like(outputs))
    slope += 1
    return np.multiply(slope, gradients, out=slope)


def _selu_grad(gradients: Array, outputs: Array) -> Any:
    slope = np.add(outputs, _SELU_SCALED_ALPHA, out=np.empty_like(outputs))
    np.copyto(slope, _SELU_SCALE, where=np.logical_not(outputs < 0))
    return np.multiply(slope, gradients, out=slope)


def _softplus_grad(gradients: Array, features: Array) -> Any:
    divisor = np.negative(features, out=np.empty_like(features))
    np.exp(divisor, out=divisor)
    divisor += 1
    return np.divide(gradients, divisor, out=divisor)


def _softsign_grad(gradients: Array, features: Array) -> Any:
    divisor = np.absolute(features, out=np.empty_like(features))
    divisor += 1
    np.square(divisor, out=divisor)
    return np.divide(gradients, divisor, out=divisor)


kernel("Relu")(_activation(lambda x: np.maximum(x, 0)))
kernel("Relu6")(_activation(_relu6))
kernel("Elu")(_activation(_elu))
kernel("Selu")(_activation(_selu))
kernel("Softplus")(_activation(_softplus))
kernel("Softsign")(_activation(_softsign))
kernel("ReluGrad")(_activation_grad(_relu_grad))
kernel("Relu6Grad")(_activation_grad(_relu6_grad))
kernel("EluGrad")(_activation_grad(_elu_grad))
kernel("SeluGrad")(_activation_grad(_selu_grad))
kernel("SoftplusGrad")(_activation_grad(_softplus_grad))
kernel("SoftsignGrad")(_activation_grad(_softsign_grad))


def _alpha(node: KernelNode) -> float:
    return float(np.float32(node.attrs["alpha"]))  # as precise as it is in a message


@kernel("LeakyRelu")
@widened
@quiet
def _leaky_relu(node: KernelNode, features: Array) -> Array:
    leak = np.multiply(features, _alpha(node), out=np.empty_like(features))
    np.copyto(leak, features, where=features > 0)
    return leak


@kernel("LeakyReluGrad")
@widened
@quiet
def _leaky_relu_grad(node: KernelNode, gradients: Array, features: Array) -> Array:
    check_same_shape("LeakyReluGrad", gradients=gradients, features=features)
    leak = np.multiply(gradients, _alpha(node), out=np.empty_like(gradients))
    np.copyto(leak, gradients, where=features > 0)
    return leak


# Biases.


def _channel_axis(node: KernelNode, value: Array) -> int:
    if value.ndim < 2:
        invalid(f"Input tensor must be at least 2D: {shape_text(value.shape)}")
    return 1 if node.attrs.get("data_format", "NHWC") == "NCHW" else value.ndim - 1


@kernel("BiasAdd", "BiasAddV1")
@quiet
def _bias_add(node: KernelNode, value: Array, bias: Array) -> Array:
    axis = _channel_axis(node, value)
    if bias.ndim != 1:
        invalid(f"Biases must be 1D: {shape_text(bias.shape)}")
    if len(bias) != value.shape[axis]:
        invalid(
            f"Must provide as many biases as the channel dimension of the input tensor: "
            f"{shape_text(bias.shape)} vs. {value.shape[axis]} in {shape_text(value.shape)}"
        )
    return np.add(value, bias.reshape(-1, *[1] * (value.ndim - axis - 1)))


@kernel("BiasAddGrad")
@widened
@quiet
def _bias_add_grad(node: KernelNode, out_backprop: Array) -> Array:
    axis = _channel_axis(node, out_backprop)
    others = tuple(i for i in range(out_backprop.ndim) if i != axis)
    return np.asarray(np.add.reduce(out_backprop, others, dtype=out_backprop.dtype))


@kernel("L2Loss")
@widened
@quiet
def _l2_loss(node: KernelNode, t: Array) -> Array:
    flat = t.reshape(-1)
    total = 0.0
    for start in range(0, flat.size, _L2_BLOCK):
        block = flat[start : start + _L2_BLOCK]
        total += float(np.dot(block, block))
    return np.asarray(total / 2, t.dtype)


# The largest of each row.


@kernel("InTopK", "InTopKV2")
def _in_top_k(node: KernelNode, predictions: Array, targets: Array, *rest: Array) -> Array:
    check_rank(node.op, "predictions", predictions, 2)
    check_rank(node.op, "targets", targets, 1)
    if len(predictions) != len(targets):
        invalid(
            f"First dimension of predictions {len(predictions)} must match length of targets "
            f"{len(targets)}"
        )
    if rest:
        check_rank(node.op, "k", rest[0], 0)
    k = int(rest[0]) if rest else node.attrs["k"]
    classes = predictions.shape[1]
    # A target that is no class, or a row with a number that is not finite, is in no top.
    known: Array = (targets >= 0) & (targets < classes) & np.isfinite(predictions).all(axis=1)
    if not classes:
        return known
    chosen = np.where(known, targets, 0)[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        better = predictions > np.take_along_axis(predictions, chosen, axis=1)
    known &= np.count_nonzero(better, axis=1) < k
    return known


@kernel("TopK", "TopKV2")
def _top_k(node: KernelNode, value: Array, *rest: Array) -> tuple[Array, Array]:
    k = size_value(node.op, "k", rest[0]) if rest else node.attrs["k"]
    if value.ndim == 0:
        invalid(f"{node.op}: input must have one dimension at least, but is a scalar")
    if value.shape[-1] < k:
        invalid(f"input must have at least k columns. Had {value.shape[-1]}, needed {k}")
    index_type = node.output_dtypes[1].as_numpy_dtype
    keys = value.astype(compute_dtype(value.dtype), copy=False)
    if k == 1:
        order = np.argmax(keys, axis=-1, keepdims=True)
    else:
        # The last of the reversed row in a stable order: of equal numbers the first comes first.
        order = np.argsort(keys[..., ::-1], axis=-1, kind="stable")[..., ::-1][..., :k]
        order = value.shape[-1] - 1 - order
    return np.take_along_axis(value, order, axis=-1), order.astype(index_type)
