"""Padding: a constant or a mirror image around a tensor, and what flows back through a mirror.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import Array, invalid, shape_text

Paddings = list[tuple[int, int]]
"""How many elements go before and after, per axis."""

_MIRROR_SKIPS: Final = {"REFLECT": 1, "SYMMETRIC": 0}
"""Whether a mirror image leaves out the element at the edge itself."""


def read_paddings(op: str, array: Array, rank: int) -> Paddings:
    """The paddings in `array`, of shape ``[rank, 2]``.

    Raises:
        InvalidArgumentError: it has another shape, or a negative element.
    """
    if array.shape != (rank, 2):
        invalid(
            f"{op}: paddings must be a matrix with a row of 2 per dimension, of shape "
            f"{shape_text((rank, 2))}, but has shape {shape_text(array.shape)}"
        )
    paddings = [(before, after) for before, after in array.tolist()]
    if any(before < 0 or after < 0 for before, after in paddings):
        invalid(f"{op}: paddings must be non-negative: {array.tolist()}")
    return paddings


def pad(values: Array, paddings: Paddings, fill: Any) -> Array:
    """`values` amid elements `fill`.

    Raises:
        ResourceExhaustedError: the result would be too large.
    """
    shape = [b + size + a for size, (b, a) in zip(values.shape, paddings, strict=True)]
    checked_size(shape, values.itemsize)
    result: Array = np.full(shape, fill, values.dtype)
    result[_inside(values.shape, paddings)] = values
    return result


def mirror_pad(values: Array, paddings: Paddings, mode: str) -> Array:
    """`values` amid their mirror images.

    Raises:
        InvalidArgumentError: more padding than there is to mirror.
        ResourceExhaustedError: the result would be too large.
    """
    _check_mirror(values.shape, paddings, mode)
    shape = [b + size + a for size, (b, a) in zip(values.shape, paddings, strict=True)]
    checked_size(shape, values.itemsize)
    skip = _MIRROR_SKIPS[mode]
    result = np.empty(shape, values.dtype)
    result[_inside(values.shape, paddings)] = values
    # Each axis mirrors whole slabs, the axes before it included, so that corners fill up too.
    for axis, (size, (before, after)) in enumerate(zip(values.shape, paddings, strict=True)):
        along = np.moveaxis(result, axis, 0)
        end = before + size
        along[:before] = along[before + skip : before + skip + before][::-1]
        along[end:] = along[end - skip - after : end - skip][::-1]
    return result


def fold_mirror(gradient: Array, paddings: Paddings, mode: str) -> Array:
    """The gradient of `mirror_pad`: each image's elements are added to what they were made of.

    Raises:
        InvalidArgumentError: a dimension is smaller than its padding, or than its mirror image.
    """
    inner = [size - b - a for size, (b, a) in zip(gradient.shape, paddings, strict=True)]
    if any(size < 0 for size in inner):
        invalid(
            f"MirrorPadGrad: a gradient of shape {shape_text(gradient.shape)} is smaller than "
            f"its paddings {paddings}"
        )
    _check_mirror(inner, paddings, mode)
    skip = _MIRROR_SKIPS[mode]
    for axis, (size, (before, after)) in enumerate(zip(inner, paddings, strict=True)):
        along = np.moveaxis(gradient, axis, 0)
        end = before + size
        core = along[before:end].copy()
        core[skip : skip + before] += along[:before][::-1]
        core[size - skip - after : size - skip] += along[end:][::-1]
        gradient = np.moveaxis(core, 0, axis)
    return gradient


def _inside(shape: tuple[int, ...], paddings: Paddings) -> tuple[Any, ...]:
    # The ellipsis makes NumPy copy the element of a scalar, where it could store the array.
    return (*(slice(b, b + size) for size, (b, _) in zip(shape, paddings, strict=True)), ...)


def _check_mirror(shape: list[int] | tuple[int, ...], paddings: Paddings, mode: str) -> None:
    skip = _MIRROR_SKIPS[mode]
    for size, (before, after) in zip(shape, paddings, strict=True):
        most = size - skip
        if (before or after) and max(before, after) > most:
            invalid(
                f"paddings ({before}, {after}) must be no greater than {max(most, 0)} to mirror a "
                f"dimension of {size} in mode {mode}"
            )
