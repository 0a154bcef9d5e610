"""Gradients of the family `nn_conv`: convolutions and poolings.

A convolution is linear in images and in filters, so the three ops (the convolution and its two
gradients) are each other's gradients.

Thread rule: fills a registry while it is imported; the functions add to the graph of the calling
thread.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.gradient_registry import RegisterGradient
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops.array import shape
from paramserve._ops.emit import emit_tensor

Gradients = list[Tensor | None]


def _same(op: Operation) -> dict[str, Any]:
    """The attributes that say where windows lie."""
    return {name: value for name, value in op.attrs.items() if name != "T"}


def _convolution(op: Operation, image: Tensor, filters: Tensor) -> Tensor:
    op_type = op.type.partition("Backprop")[0]
    return emit_tensor(op_type, None, input=image, filter=filters, **_same(op))


def _by_image(op: Operation, sizes: Tensor, filters: Tensor, grad: Tensor) -> Tensor:
    op_type = op.type.partition("Backprop")[0] + "BackpropInput"
    return emit_tensor(
        op_type, None, input_sizes=sizes, filter=filters, out_backprop=grad, **_same(op)
    )


def _by_filter(op: Operation, image: Tensor, sizes: Tensor, grad: Tensor) -> Tensor:
    op_type = op.type.partition("Backprop")[0] + "BackpropFilter"
    return emit_tensor(
        op_type, None, input=image, filter_sizes=sizes, out_backprop=grad, **_same(op)
    )


@RegisterGradient("Conv2D")
@RegisterGradient("DepthwiseConv2dNative")
def _conv(op: Operation, grad: Tensor) -> Gradients:
    image, filters = op.inputs
    return [
        _by_image(op, shape(image), filters, grad),
        _by_filter(op, image, shape(filters), grad),
    ]


@RegisterGradient("Conv2DBackpropInput")
@RegisterGradient("DepthwiseConv2dNativeBackpropInput")
def _conv_backprop_input(op: Operation, grad: Tensor) -> Gradients:
    _, filters, out_backprop = op.inputs
    return [
        None,
        _by_filter(op, grad, shape(filters), out_backprop),
        _convolution(op, grad, filters),
    ]


@RegisterGradient("Conv2DBackpropFilter")
@RegisterGradient("DepthwiseConv2dNativeBackpropFilter")
def _conv_backprop_filter(op: Operation, grad: Tensor) -> Gradients:
    image, _, out_backprop = op.inputs
    return [
        _by_image(op, shape(image), grad, out_backprop),
        None,
        _convolution(op, image, grad),
    ]


@RegisterGradient("MaxPool")
def _max_pool(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor(
        "MaxPoolGrad",
        None,
        orig_input=op.inputs[0],
        orig_output=op.outputs[0],
        grad=grad,
        **_same(op),
    )


@RegisterGradient("MaxPoolGrad")
def _max_pool_grad(op: Operation, grad: Tensor) -> Gradients:
    return [None, None, _through_largest("MaxPoolGradGrad", op, grad)]


@RegisterGradient("MaxPoolGradGrad")
def _max_pool_grad_grad(op: Operation, grad: Tensor) -> Gradients:
    return [None, None, _through_largest("MaxPoolGrad", op, grad)]


def _through_largest(op_type: str, op: Operation, grad: Tensor) -> Tensor:
    """The gradient of a map that is linear, and knows the images by where they are largest."""
    if op.attrs["padding"] == "EXPLICIT":
        raise LookupError(
            f"the gradient of {op.name!r} ({op.type}) is not known for explicit padding; pad the "
            "images before pooling them"
        )
    attrs = _same(op)
    attrs.pop("explicit_paddings", None)
    images, pooled, _ = op.inputs
    return emit_tensor(op_type, None, orig_input=images, orig_output=pooled, grad=grad, **attrs)


@RegisterGradient("AvgPool")
def _avg_pool(op: Operation, grad: Tensor) -> Tensor:
    return emit_tensor(
        "AvgPoolGrad", None, orig_input_shape=shape(op.inputs[0]), grad=grad, **_same(op)
    )


@RegisterGradient("AvgPoolGrad")
def _avg_pool_grad(op: Operation, grad: Tensor) -> Gradients:
    return [None, emit_tensor("AvgPool", None, value=grad, **_same(op))]
