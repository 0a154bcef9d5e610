"""Convolutions and poolings of images.

An image is a tensor `[batch, height, width, channels]` (`data_format` "NHWC") or
`[batch, channels, height, width]` ("NCHW"). Strides and window sizes are lists of four, one per
dimension of the image. `padding` is "SAME", zeros around so that a stride of 1 keeps the size, or
"VALID", none; convolutions and `max_pool` also take a list of four pairs, how many zeros before and
after in each dimension.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve._framework.constant_value import constant_value_as_shape
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import ShapeLike, TensorLike
from paramserve._ops.emit import emit_tensor
from paramserve_core import dtypes

__all__ = [
    "atrous_conv2d",
    "avg_pool",
    "conv2d",
    "conv2d_backprop_filter",
    "conv2d_backprop_input",
    "conv2d_transpose",
    "depthwise_conv2d",
    "depthwise_conv2d_native",
    "max_pool",
    "separable_conv2d",
]

Padding = str | Sequence[Sequence[int]]


def _padding(padding: Padding) -> dict[str, Any]:
    """The attributes that say how an image is padded."""
    if isinstance(padding, str):
        return {"padding": padding}
    pairs = np.asarray(padding)
    if pairs.shape != (4, 2):
        raise ValueError(
            f"padding must be 'SAME', 'VALID' or a pair for each of 4 dimensions, got {padding!r}"
        )
    return {"padding": "EXPLICIT", "explicit_paddings": pairs.reshape(-1).tolist()}


def conv2d(
    input: TensorLike,
    filter: TensorLike,
    strides: Sequence[int],
    padding: Padding,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    dilations: Sequence[int] | None = None,
) -> Tensor:
    """The convolution of images with filters (which are not turned around).

    Args:
        input: images.
        filter: of the same type, of shape `[height, width, channels in, channels out]`.
        strides: how far a filter moves; 1 in the dimensions of batch and channels.
        padding: see this module.
        use_cudnn_on_gpu: kept for old programs; it changes nothing.
        data_format: "NHWC", the default, or "NCHW".
        name: the name of the op.
        dilations: how far apart the elements that a filter meets are; 1 by default.

    Raises:
        ValueError: sizes that do not fit, or at run time InvalidArgumentError.
    """
    return emit_tensor(
        "Conv2D",
        name,
        input=input,
        filter=filter,
        strides=strides,
        **_padding(padding),
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        data_format=data_format,
        dilations=dilations,
    )


def conv2d_backprop_input(
    input_sizes: ShapeLike,
    filter: TensorLike,
    out_backprop: TensorLike,
    strides: Sequence[int],
    padding: Padding,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    dilations: Sequence[int] | None = None,
) -> Tensor:
    """The gradient of `conv2d` by its images.

    Args:
        input_sizes: the shape of the images, an integer vector.
        filter: the filters.
        out_backprop: the gradient of the convolution.
        strides: as for `conv2d`, and so are the others.
        padding: see this module.
        use_cudnn_on_gpu: kept for old programs; it changes nothing.
        data_format: "NHWC", the default, or "NCHW".
        name: the name of the op.
        dilations: how far apart the elements that a filter meets are; 1 by default.
    """
    return emit_tensor(
        "Conv2DBackpropInput",
        name,
        input_sizes=input_sizes,
        filter=filter,
        out_backprop=out_backprop,
        strides=strides,
        **_padding(padding),
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        data_format=data_format,
        dilations=dilations,
    )


def conv2d_backprop_filter(
    input: TensorLike,
    filter_sizes: ShapeLike,
    out_backprop: TensorLike,
    strides: Sequence[int],
    padding: Padding,
    use_cudnn_on_gpu: bool | None = None,
    data_format: str | None = None,
    name: str | None = None,
    dilations: Sequence[int] | None = None,
) -> Tensor:
    """The gradient of `conv2d` by its filters.

    Args:
        input: the images.
        filter_sizes: the shape of the filters, an integer vector.
        out_backprop: the gradient of the convolution.
        strides: as for `conv2d`, and so are the others.
        padding: see this module.
        use_cudnn_on_gpu: kept for old programs; it changes nothing.
        data_format: "NHWC", the default, or "NCHW".
        name: the name of the op.
        dilations: how far apart the elements that a filter meets are; 1 by default.
    """
    return emit_tensor(
        "Conv2DBackpropFilter",
        name,
        input=input,
        filter_sizes=filter_sizes,
        out_backprop=out_backprop,
        strides=strides,
        **_padding(padding),
        use_cudnn_on_gpu=use_cudnn_on_gpu,
        data_format=data_format,
        dilations=dilations,
    )


def conv2d_transpose(
    value: TensorLike,
    filter: TensorLike,
    output_shape: ShapeLike,
    strides: Sequence[int],
    padding: Padding = "SAME",
    name: str | None = None,
    data_format: str = "NHWC",
) -> Tensor:
    """What `conv2d` does, backwards: the gradient of a convolution whose result is `value`.

    See Zeiler et al., "Deconvolutional networks", 2010.

    Args:
        value: images.
        filter: of the same type, of shape `[height, width, channels out, channels in]`.
        output_shape: the shape of the result, an integer vector.
        strides: how far a filter moves in the result for each step in `value`.
        padding: see this module.
        name: the name of the op.
        data_format: "NHWC" or "NCHW".

    Raises:
        ValueError: sizes that do not fit, or at run time InvalidArgumentError.
    """
    with name_scope(name, "conv2d_transpose", [value, filter, output_shape]) as scope:
        value = convert_to_tensor(value, name="value")
        filter = convert_to_tensor(filter, name="filter")
        sizes = convert_to_tensor(output_shape, preferred_dtype=dtypes.int32, name="output_shape")
        axis = 3 if data_format == "NHWC" else 1
        wanted = constant_value_as_shape(sizes)
        if wanted.ndims == 4 and filter.shape.ndims == 4:
            channels = wanted[axis]
            if not channels.is_compatible_with(filter.shape[2]):
                raise ValueError(
                    f"output_shape has {channels.value} channels, the filter gives "
                    f"{filter.shape[2].value}"
                )
        return conv2d_backprop_input(
            sizes, filter, value, strides, padding, data_format=data_format, name=scope
        )


def atrous_conv2d(
    value: TensorLike, filters: TensorLike, rate: int, padding: str, name: str | None = None
) -> Tensor:
    """`conv2d` with stride 1 and filters whose elements are `rate` apart.

    Args:
        value: images, "NHWC".
        filters: of shape `[height, width, channels in, channels out]`.
        rate: how far apart; 1 is `conv2d`.
        padding: "SAME" or "VALID".
        name: the name of the op.

    Raises:
        ValueError: `rate` is not positive.
    """
    if rate < 1:
        raise ValueError(f"rate {rate} cannot be less than one")
    return conv2d(value, filters, [1, 1, 1, 1], padding, dilations=[1, rate, rate, 1], name=name)


def depthwise_conv2d_native(
    input: TensorLike,
    filter: TensorLike,
    strides: Sequence[int],
    padding: Padding,
    data_format: str | None = None,
    name: str | None = None,
    dilations: Sequence[int] | None = None,
) -> Tensor:
    """The convolution of each channel with filters of its own.

    Args:
        input: images.
        filter: of shape `[height, width, channels, multiplier]`.
        strides: how far a filter moves; equal for height and width.
        padding: see this module.
        data_format: "NHWC", the default, or "NCHW".
        name: the name of the op.
        dilations: how far apart the elements that a filter meets are; 1 by default.

    Returns:
        Images of `channels * multiplier` channels: those of channel 0 first.
    """
    return emit_tensor(
        "DepthwiseConv2dNative",
        name,
        input=input,
        filter=filter,
        strides=strides,
        **_padding(padding),
        data_format=data_format,
        dilations=dilations,
    )


def depthwise_conv2d(
    input: TensorLike,
    filter: TensorLike,
    strides: Sequence[int],
    padding: Padding,
    rate: Sequence[int] | None = None,
    name: str | None = None,
    data_format: str | None = None,
) -> Tensor:
    """`depthwise_conv2d_native`; `rate` is the dilation of height and width."""
    dilations = None
    if rate is not None:
        height, width = rate
        dilations = [1, 1, height, width] if data_format == "NCHW" else [1, height, width, 1]
    return depthwise_conv2d_native(
        input, filter, strides, padding, data_format, name or "depthwise", dilations
    )


def separable_conv2d(
    input: TensorLike,
    depthwise_filter: TensorLike,
    pointwise_filter: TensorLike,
    strides: Sequence[int],
    padding: Padding,
    rate: Sequence[int] | None = None,
    name: str | None = None,
    data_format: str | None = None,
) -> Tensor:
    """`depthwise_conv2d`, and then a convolution that mixes channels at each place.

    Args:
        input: images.
        depthwise_filter: of shape `[height, width, channels in, multiplier]`.
        pointwise_filter: of shape `[1, 1, channels in * multiplier, channels out]`.
        strides: those of the first convolution.
        padding: see this module.
        rate: the dilation of height and width.
        name: the scope of the ops.
        data_format: "NHWC", the default, or "NCHW".
    """
    with name_scope(name, "separable_conv2d", [input, depthwise_filter, pointwise_filter]) as scope:
        by_channel = depthwise_conv2d(
            input, depthwise_filter, strides, padding, rate, data_format=data_format
        )
        return conv2d(
            by_channel, pointwise_filter, [1, 1, 1, 1], "VALID", data_format=data_format, name=scope
        )


def max_pool(
    value: TensorLike,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    data_format: str = "NHWC",
    name: str | None = None,
) -> Tensor:
    """The largest element of each window.

    Args:
        value: images.
        ksize: the size of a window; 1 in the dimensions of batch and channels.
        strides: how far a window moves.
        padding: see this module; what is padded is never the largest.
        data_format: "NHWC" or "NCHW".
        name: the name of the op.
    """
    return emit_tensor(
        "MaxPool",
        name,
        input=value,
        ksize=ksize,
        strides=strides,
        **_padding(padding),
        data_format=data_format,
    )


def avg_pool(
    value: TensorLike,
    ksize: Sequence[int],
    strides: Sequence[int],
    padding: str,
    data_format: str = "NHWC",
    name: str | None = None,
) -> Tensor:
    """The mean of each window, without what is padded.

    Args:
        value: images.
        ksize: the size of a window; 1 in the dimensions of batch and channels.
        strides: how far a window moves.
        padding: "SAME" or "VALID".
        data_format: "NHWC" or "NCHW".
        name: the name of the op.
    """
    return emit_tensor(
        "AvgPool",
        name,
        value=value,
        ksize=ksize,
        strides=strides,
        padding=padding,
        data_format=data_format,
    )
