"""Convolutions as products of matrices.

A convolution multiplies every window of an image, laid out as a row, with the filter, laid out as a
matrix. The rows are copied out for a few windows at a time, so that the copy (a window's size times
as large as the image) stays in the cache. What flows back to the image is one product per tap of
the window, added to what the tap saw.

A depthwise convolution has no sum over channels, so there is no product to be made of it; it is a
sum over the taps.

Images are ``[batch, height, width, channels]``, filters ``[height, width, in, out]``.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from paramserve_core.kernels.numerics import Array
from paramserve_core.kernels.window_taps import Grid

_COPIED_BYTES: Final = 4 << 20


def convolve(grid: Grid, images: Array, filters: Array) -> Array:
    """The convolution, ``[batch, *counts, out]``."""
    result = np.zeros((len(images), *grid.counts, filters.shape[3]), images.dtype)
    if grid.is_plain:
        return np.matmul(images, filters[0, 0], out=result)
    matrix = filters.reshape(-1, filters.shape[3])
    padded = grid.pad(images, 0)
    for where, patches in _copied_patches(grid, padded):
        part = result[where]
        np.matmul(patches, matrix, out=part.reshape(len(patches), -1))
    return result


def filter_gradient(grid: Grid, images: Array, filter_shape: Any, gradient: Array) -> Array:
    """The derivative with respect to the filter, from that with respect to the result."""
    out = filter_shape[3]
    result = np.zeros((int(np.prod(filter_shape[:3])), out), images.dtype)
    padded = grid.pad(images, 0)
    for where, patches in _copied_patches(grid, padded):
        result += np.matmul(patches.T, gradient[where].reshape(len(patches), out))
    return result.reshape(filter_shape)


def input_gradient(grid: Grid, images_shape: Any, filters: Array, gradient: Array) -> Array:
    """The derivative with respect to the images, from that with respect to the result."""
    padded = np.zeros(grid.padded_shape(images_shape[0], images_shape[3]), gradient.dtype)
    for tap in grid.taps():
        seen = grid.seen(padded, tap)
        seen += np.matmul(gradient, filters[tap].T)
    return np.ascontiguousarray(grid.inside(padded))


def _copied_patches(grid: Grid, padded: Array) -> Iterator[tuple[Any, Array]]:
    """Windows as rows of a matrix, a part at a time; and which part of the result they are of."""
    patches = grid.patches(padded)
    if not patches.size:
        return
    row_items = int(np.prod(patches.shape[3:]))
    line_bytes = patches.shape[2] * row_items * patches.itemsize
    lines = max(1, _COPIED_BYTES // line_bytes)
    images = max(1, lines // patches.shape[1])
    for i in range(0, patches.shape[0], images):
        for j in range(0, patches.shape[1], lines):
            where = slice(i, i + images), slice(j, j + lines)
            yield where, patches[where].reshape(-1, row_items)


def convolve_depthwise(grid: Grid, images: Array, filters: Array) -> Array:
    """Each channel convolved with its own filters, ``[batch, *counts, in * multiplier]``."""
    channels, multiplier = filters.shape[2:]
    result = np.zeros((len(images), *grid.counts, channels, multiplier), images.dtype)
    padded = grid.pad(images, 0)
    for tap in grid.taps():
        result += grid.seen(padded, tap)[..., np.newaxis] * filters[tap]
    return result.reshape(*result.shape[:3], -1)


def depthwise_filter_gradient(
    grid: Grid, images: Array, filter_shape: Any, gradient: Array
) -> Array:
    """As `filter_gradient`."""
    result = np.zeros(filter_shape, images.dtype)
    padded = grid.pad(images, 0)
    flowing = gradient.reshape(*gradient.shape[:3], *filter_shape[2:])
    for tap in grid.taps():
        np.einsum("bhwc,bhwcm->cm", grid.seen(padded, tap), flowing, out=result[tap])
    return result


def depthwise_input_gradient(
    grid: Grid, images_shape: Any, filters: Array, gradient: Array
) -> Array:
    """As `input_gradient`."""
    padded = np.zeros(grid.padded_shape(images_shape[0], images_shape[3]), gradient.dtype)
    flowing = gradient.reshape(*gradient.shape[:3], *filters.shape[2:])
    for tap in grid.taps():
        seen = grid.seen(padded, tap)
        seen += np.einsum("bhwcm,cm->bhwc", flowing, filters[tap])
    return np.ascontiguousarray(grid.inside(padded))
