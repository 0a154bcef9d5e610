"""Poolings: the largest, or the mean, of what each window sees.

Taken tap by tap over all windows at once, so nothing larger than the result is made.

Images are ``[batch, height, width, channels]``.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from paramserve_core.kernels.numerics import Array
from paramserve_core.kernels.window_taps import Grid


def largest(grid: Grid, images: Array) -> Array:
    """The largest element of each window, ``[batch, *counts, channels]``."""
    padded = grid.pad(images, _least(images.dtype))
    result = np.full(_result_shape(grid, images.shape), _least(images.dtype), images.dtype)
    for tap in grid.taps():
        np.maximum(result, grid.seen(padded, tap), out=result)
    return result


def largest_gradient(grid: Grid, images: Array, gradient: Array) -> Array:
    """What flows back from each window to its largest element, to the first of equal ones."""
    flowing = np.zeros(grid.padded_shape(images.shape[0], images.shape[3]), gradient.dtype)
    for tap, chosen in _firsts(grid, images):
        seen = grid.seen(flowing, tap)
        np.add(seen, gradient, out=seen, where=chosen)
    return np.ascontiguousarray(grid.inside(flowing))


def at_largest(grid: Grid, images: Array, values: Array) -> Array:
    """What `values` has where each window has its largest element, the first of equal ones.

    Args:
        grid: the windows.
        images: what the windows see.
        values: of the shape of `images`.
    """
    padded = grid.pad(values, 0)
    result = np.zeros(_result_shape(grid, images.shape), values.dtype)
    for tap, chosen in _firsts(grid, images):
        np.copyto(result, grid.seen(padded, tap), where=chosen)
    return result


def _firsts(grid: Grid, images: Array) -> Iterator[tuple[Any, Array]]:
    """For each tap, in which windows it sees the largest element, the first of equal ones."""
    padded = grid.pad(images, _least(images.dtype))
    best = largest(grid, images)
    waiting = np.ones(best.shape, np.bool_)
    for tap in grid.taps():
        chosen = np.equal(grid.seen(padded, tap), best)
        chosen &= waiting
        waiting ^= chosen
        yield tap, chosen


def mean(grid: Grid, images: Array) -> Array:
    """The mean of each window, of what is no padding, ``[batch, *counts, channels]``."""
    padded = grid.pad(images, 0)
    result = np.zeros(_result_shape(grid, images.shape), images.dtype)
    for tap in grid.taps():
        result += grid.seen(padded, tap)
    result /= _sizes(grid, images.dtype)
    return result


def mean_gradient(grid: Grid, images_shape: Any, gradient: Array) -> Array:
    """What flows back from each window to all of its elements."""
    padded = np.zeros(grid.padded_shape(images_shape[0], images_shape[3]), gradient.dtype)
    share = gradient / _sizes(grid, gradient.dtype)
    for tap in grid.taps():
        seen = grid.seen(padded, tap)
        seen += share
    return np.ascontiguousarray(grid.inside(padded))


def _result_shape(grid: Grid, images_shape: Any) -> tuple[int, ...]:
    return images_shape[0], *grid.counts, images_shape[3]


def _least(dtype: np.dtype[Any]) -> Any:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def _sizes(grid: Grid, dtype: np.dtype[Any]) -> Array:
    """How many elements of each window are no padding, ``[*counts, 1]``."""
    height, width = (
        np.minimum(starts + w.reach, length) - np.maximum(starts, 0)
        for w, length, starts in (
            (w, length, np.arange(count) * w.stride - before)
            for w, length, count, (before, _) in zip(
                grid.windows, grid.lengths, grid.counts, grid.pads, strict=True
            )
        )
    )
    sizes: Array = np.multiply.outer(height, width)[..., np.newaxis].astype(dtype)
    return sizes
