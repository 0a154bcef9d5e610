"""What each tap of a moving window sees: the strided views that convolution and pooling work on.

A tap is one position in a window. Over all windows, a tap sees every `stride`-th element of the
padded image, which is a view: pooling takes the maximum of such views, and what flows back is added
to them. Images are ``[batch, height, width, channels]``.

Thread rule: pure functions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import Array, invalid
from paramserve_core.opdefs.windows import Windows


@dataclass(frozen=True, slots=True)
class Grid:
    """Windows over the images of one size.

    Attributes:
        windows: those along height and along width.
        lengths: height and width of an image.
        counts: how many windows there are along each.
        pads: the elements added before and after, along each.
    """

    windows: tuple[Windows, Windows]
    lengths: tuple[int, int]
    counts: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]

    @property
    def is_plain(self) -> bool:
        """Whether each window is one element, and each element is a window."""
        return all(w.size == w.stride == 1 for w in self.windows) and not any(map(any, self.pads))

    def padded_shape(self, batch: int, channels: int) -> tuple[int, int, int, int]:
        """The shape of padded images; at least as large as the windows reach."""
        height, width = (
            length + before + after
            for length, (before, after) in zip(self.lengths, self.pads, strict=True)
        )
        return batch, height, width, channels

    def pad(self, images: Array, fill: Any) -> Array:
        """The images amid elements `fill`; themselves where there is nothing to add.

        Raises:
            ResourceExhaustedError: the result would be too large.
        """
        if not any(map(any, self.pads)):
            return images
        shape = self.padded_shape(images.shape[0], images.shape[3])
        checked_size(shape, images.itemsize)
        padded = np.full(shape, fill, images.dtype)
        self.inside(padded)[...] = images
        return padded

    def inside(self, padded: Array) -> Array:
        """The images amid the padding, as a view."""
        (top, _), (left, _) = self.pads
        return padded[:, top : top + self.lengths[0], left : left + self.lengths[1]]

    def taps(self) -> Iterator[tuple[int, int]]:
        """The positions in a window, row by row, but for those that see nothing but padding.

        However large a window is, these are no more than an image and its windows' steps have.
        """
        rows, columns = (
            range(max(0, -(-(before - (count - 1) * w.stride) // w.dilation)), last)
            for w, count, (before, _), last in zip(
                self.windows, self.counts, self.pads, self._ends(), strict=True
            )
        )
        yield from itertools.product(rows, columns)

    def _ends(self) -> tuple[int, int]:
        """Along each dimension, one more than the last tap that sees an image."""
        height, width = (
            min(w.size, -(-(before + length) // w.dilation)) if count else 0
            for w, length, count, (before, _) in zip(
                self.windows, self.lengths, self.counts, self.pads, strict=True
            )
        )
        return height, width

    def seen(self, padded: Array, tap: tuple[int, int]) -> Array:
        """What the tap sees of padded images, ``[batch, *counts, channels]``, as a view."""
        rows, columns = (
            slice(i * w.dilation, i * w.dilation + (count - 1) * w.stride + 1, w.stride)
            for i, w, count in zip(tap, self.windows, self.counts, strict=True)
        )
        return padded[:, rows, columns]

    def patches(self, padded: Array) -> Array:
        """All windows of padded images, ``[batch, *counts, *sizes, channels]``, as a view."""
        batch, row, column, channel = padded.strides
        height, width = self.windows
        view: Array = np.lib.stride_tricks.as_strided(
            padded,
            (len(padded), *self.counts, height.size, width.size, padded.shape[3]),
            (
                batch,
                row * height.stride,
                column * width.stride,
                row * height.dilation,
                column * width.dilation,
                channel,
            ),
            writeable=False,
        )
        return view


def grid_of(op: str, windows: tuple[Windows, Windows], lengths: tuple[int, int]) -> Grid:
    """The windows over images of that height and width.

    Raises:
        InvalidArgumentError: an image is too small for a window.
    """
    try:
        counts = windows[0].count(lengths[0]), windows[1].count(lengths[1])
        pads = windows[0].pads(lengths[0]), windows[1].pads(lengths[1])
    except ValueError as error:
        invalid(f"{op}: Computed output size would be negative: {error}")
    return Grid(windows, lengths, counts, pads)
