"""Kernels of convolutions and poolings: checks, layouts, and the sizes of what is made.

The work is done in `convolution` and `pooling`, on images with the channels last. A tensor with the
channels first is looked at through a transposed view.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramserve_core.kernels import convolution, pooling
from paramserve_core.kernels.arguments import shape_value
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import (
    Array,
    check_rank,
    invalid,
    quiet,
    shape_text,
    widened,
)
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_core.kernels.window_taps import Grid, grid_of
from paramserve_core.opdefs.windows import Windows, layout_of, pooling_sizes, windows_of


def _channels_last(node: KernelNode, images: Array) -> Array:
    return np.moveaxis(images, 1, 3) if layout_of(node.attrs).channels == 1 else images


def _in_layout(node: KernelNode, images: Array) -> Array:
    return np.moveaxis(images, 3, 1) if layout_of(node.attrs).channels == 1 else images


def _sizes_last(node: KernelNode, sizes: Sequence[int]) -> list[int]:
    layout = layout_of(node.attrs)
    return [sizes[0], *layout.spatial(sizes), sizes[layout.channels]]


def _made_of(node: KernelNode, read: Callable[[], Any]) -> Any:
    """What `read` makes of the attributes of a node that may come from anyone."""
    try:
        return read()
    except ValueError as error:
        invalid(f"{node.op}: {error}")


# Convolutions.


def _convolution_grid(
    node: KernelNode, images_shape: Sequence[int], filter_shape: Sequence[int]
) -> Grid:
    """The windows of a convolution of images ``[batch, height, width, channels]``."""
    if images_shape[3] != filter_shape[2]:
        invalid(
            f"{node.op}: input depth must be that of the filter: {images_shape[3]} vs "
            f"{filter_shape[2]} of a filter {shape_text(filter_shape)}"
        )
    if not (filter_shape[0] and filter_shape[1]):
        invalid(f"{node.op}: filter must not have zero elements: {shape_text(filter_shape)}")
    windows = _made_of(node, lambda: windows_of(node.attrs, filter_shape[:2]))
    grid = grid_of(node.op, windows, (images_shape[1], images_shape[2]))
    _check_reach(node, grid, images_shape)
    return grid


def _check_reach(node: KernelNode, grid: Grid, images_shape: Sequence[int]) -> None:
    """Refuses images whose padded copy would be too large, before anything is computed of it."""
    itemsize = np.dtype(node.output_dtypes[0].as_numpy_dtype).itemsize
    checked_size(grid.padded_shape(images_shape[0], images_shape[3]), itemsize)


def _output_channels(node: KernelNode, filter_shape: Sequence[int]) -> int:
    is_depthwise = node.op.startswith("Depthwise")
    return filter_shape[2] * filter_shape[3] if is_depthwise else filter_shape[3]


def _check_result(
    node: KernelNode, what: str, array: Array, batch: int, grid: Grid, channels: int
) -> None:
    """Refuses an input that does not have the shape of the result of these sizes."""
    wanted = tuple(layout_of(node.attrs).arranged(batch, *grid.counts, channels))
    if array.shape != wanted:
        invalid(
            f"{node.op}: {what} is {shape_text(array.shape)}, and the result of these sizes is "
            f"{shape_text(wanted)}"
        )


@kernel("Conv2D", "DepthwiseConv2dNative")
@widened
@quiet
def _convolve(node: KernelNode, images: Array, filters: Array) -> Array:
    check_rank(node.op, "input", images, 4)
    check_rank(node.op, "filter", filters, 4)
    last = _channels_last(node, images)
    grid = _convolution_grid(node, last.shape, filters.shape)
    checked_size((len(last), *grid.counts, _output_channels(node, filters.shape)), last.itemsize)
    if node.op == "Conv2D":
        return _in_layout(node, convolution.convolve(grid, last, filters))
    return _in_layout(node, convolution.convolve_depthwise(grid, last, filters))


@kernel("Conv2DBackpropInput", "DepthwiseConv2dNativeBackpropInput")
@widened
@quiet
def _convolution_input_gradient(
    node: KernelNode, input_sizes: Array, filters: Array, out_backprop: Array
) -> Array:
    check_rank(node.op, "filter", filters, 4)
    check_rank(node.op, "out_backprop", out_backprop, 4)
    sizes = shape_value(node.op, "input_sizes", input_sizes)
    if len(sizes) == 2:  # height and width alone
        height, width = sizes
        depth = filters.shape[2]
        sizes = layout_of(node.attrs).arranged(len(out_backprop), height, width, depth)
    shape = _sizes_last(node, _four_sizes(node, "input_sizes", sizes))
    grid = _convolution_grid(node, shape, filters.shape)
    channels = _output_channels(node, filters.shape)
    _check_result(node, "out_backprop", out_backprop, shape[0], grid, channels)
    gradient = _channels_last(node, out_backprop)
    if node.op == "Conv2DBackpropInput":
        return _in_layout(node, convolution.input_gradient(grid, shape, filters, gradient))
    return _in_layout(node, convolution.depthwise_input_gradient(grid, shape, filters, gradient))


@kernel("Conv2DBackpropFilter", "DepthwiseConv2dNativeBackpropFilter")
@widened
@quiet
def _convolution_filter_gradient(
    node: KernelNode, images: Array, filter_sizes: Array, out_backprop: Array
) -> Array:
    check_rank(node.op, "input", images, 4)
    check_rank(node.op, "out_backprop", out_backprop, 4)
    last = _channels_last(node, images)
    shape = _four_sizes(node, "filter_sizes", shape_value(node.op, "filter_sizes", filter_sizes))
    checked_size(shape, last.itemsize)
    grid = _convolution_grid(node, last.shape, shape)
    _check_result(
        node, "out_backprop", out_backprop, len(last), grid, _output_channels(node, shape)
    )
    gradient = _channels_last(node, out_backprop)
    if node.op == "Conv2DBackpropFilter":
        return convolution.filter_gradient(grid, last, shape, gradient)
    return convolution.depthwise_filter_gradient(grid, last, shape, gradient)


def _four_sizes(node: KernelNode, what: str, sizes: list[int]) -> list[int]:
    if len(sizes) != 4 or min(sizes) < 0:
        invalid(f"{node.op}: {what} must be 4 sizes that are not negative, not {sizes}")
    return sizes


# Poolings.


def _pooling_grid(node: KernelNode, images_shape: Sequence[int]) -> Grid:
    def read() -> tuple[Windows, Windows]:
        return windows_of(node.attrs, pooling_sizes(node.attrs))

    windows: tuple[Windows, Windows] = _made_of(node, read)
    for w in windows:
        if w.padding == "EXPLICIT" and max(w.explicit) >= w.size:
            invalid(
                f"{node.op}: explicit padding {w.explicit} must be smaller than the window {w.size}"
            )
    grid = grid_of(node.op, windows, (images_shape[1], images_shape[2]))
    _check_reach(node, grid, images_shape)
    return grid


@kernel("MaxPool", "AvgPool")
@widened
@quiet
def _pool(node: KernelNode, value: Array) -> Array:
    check_rank(node.op, "input", value, 4)
    images = _channels_last(node, value)
    grid = _pooling_grid(node, images.shape)
    pool = pooling.largest if node.op == "MaxPool" else pooling.mean
    return _in_layout(node, pool(grid, images))


@kernel("MaxPoolGrad")
@widened
@quiet
def _max_pool_gradient(
    node: KernelNode, orig_input: Array, orig_output: Array, grad: Array
) -> Array:
    check_rank(node.op, "orig_input", orig_input, 4)
    images = _channels_last(node, orig_input)
    grid = _pooling_grid(node, images.shape)
    for what, array in (("orig_output", orig_output), ("grad", grad)):
        _check_result(node, what, array, len(images), grid, images.shape[3])
    gradient = _channels_last(node, grad)
    return _in_layout(node, pooling.largest_gradient(grid, images, gradient))


@kernel("MaxPoolGradGrad")
@widened
@quiet
def _max_pool_second_gradient(
    node: KernelNode, orig_input: Array, orig_output: Array, grad: Array
) -> Array:
    check_rank(node.op, "orig_input", orig_input, 4)
    images = _channels_last(node, orig_input)
    grid = _pooling_grid(node, images.shape)
    _check_result(node, "orig_output", orig_output, len(images), grid, images.shape[3])
    if grad.shape != orig_input.shape:
        invalid(
            f"{node.op}: grad must have the shape of orig_input, {list(orig_input.shape)}, not "
            f"{list(grad.shape)}"
        )
    return _in_layout(node, pooling.at_largest(grid, images, _channels_last(node, grad)))


@kernel("AvgPoolGrad")
@widened
@quiet
def _mean_pool_gradient(node: KernelNode, orig_input_shape: Array, grad: Array) -> Array:
    check_rank(node.op, "grad", grad, 4)
    sizes = shape_value(node.op, "orig_input_shape", orig_input_shape)
    shape = _sizes_last(node, _four_sizes(node, "orig_input_shape", sizes))
    grid = _pooling_grid(node, shape)
    _check_result(node, "grad", grad, shape[0], grid, shape[3])
    gradient = _channels_last(node, grad)
    return _in_layout(node, pooling.mean_gradient(grid, shape, gradient))
