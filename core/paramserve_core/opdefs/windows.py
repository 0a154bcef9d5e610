"""Where the windows of a convolution or a pooling lie, along one dimension.

A window of `size` taps, `dilation` apart, moves over the input in steps of `stride`. Padding adds
elements before and after the input: none with VALID, as many as make the output `input / stride`
long (rounded up) with SAME, the odd one behind, or what is said with EXPLICIT.

Everything is computed in Python integers: sizes may come from anyone, and may be huge.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

LARGEST_SETTING: Final = 1 << 31
"""A bound for strides, dilations and paddings, as in TensorFlow, where they are 32 bits wide."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How windows move along one dimension.

    Attributes:
        size: taps of a window.
        stride: distance between windows.
        dilation: distance between taps.
        padding: SAME, VALID or EXPLICIT.
        explicit: elements added before and after with EXPLICIT.
    """

    size: int
    stride: int
    dilation: int
    padding: str
    explicit: tuple[int, int] = (0, 0)

    @property
    def reach(self) -> int:
        """The input elements that a window spans, taps and what is between them."""
        return (self.size - 1) * self.dilation + 1

    def count(self, length: int) -> int:
        """How many windows there are over an input of that length.

        Raises:
            ValueError: the input is too short for a window.
        """
        if self.padding == "SAME":
            return -(-length // self.stride)
        before, after = self.explicit if self.padding == "EXPLICIT" else (0, 0)
        spare = length + before + after - self.reach
        if spare <= -2 * self.stride:  # less than that is no window, and no mistake
            raise ValueError(
                f"a window that spans {self.reach} does not fit into {length + before + after}"
            )
        return max(spare // self.stride + 1, 0)

    def pads(self, length: int) -> tuple[int, int]:
        """How many elements are added before and after an input of that length.

        Raises:
            ValueError: the input is too short for a window.
        """
        if self.padding == "EXPLICIT":
            return self.explicit
        if self.padding == "VALID":
            return 0, 0
        total = max((self.count(length) - 1) * self.stride + self.reach - length, 0)
        return total // 2, total - total // 2


@dataclass(frozen=True, slots=True)
class Layout:
    """Where batch, height, width and channels of a tensor of 4 dimensions are."""

    height: int
    width: int
    channels: int

    def spatial(self, values: Sequence[Any]) -> tuple[Any, Any]:
        """What a list of 4 says of height and width."""
        return values[self.height], values[self.width]

    def arranged(self, batch: Any, height: Any, width: Any, channels: Any) -> list[Any]:
        """A list of 4 in the order of this layout."""
        if self.channels == 1:
            return [batch, channels, height, width]
        return [batch, height, width, channels]


_LAYOUTS: Final = {"NHWC": Layout(1, 2, 3), "NCHW": Layout(2, 3, 1)}


def layout_of(attrs: Mapping[str, Any]) -> Layout:
    """The layout that the attribute `data_format` names."""
    return _LAYOUTS[attrs["data_format"]]


def windows_of(attrs: Mapping[str, Any], sizes: Sequence[int]) -> tuple[Windows, Windows]:
    """The windows along height and width.

    Args:
        attrs: attributes of the op: `strides`, `padding`, `data_format` and perhaps `dilations`
            and `explicit_paddings`.
        sizes: height and width of a window.

    Raises:
        ValueError: the attributes make no sense.
    """
    layout = layout_of(attrs)
    strides = _four(attrs, "strides")
    dilations = _four(attrs, "dilations") if "dilations" in attrs else (1, 1, 1, 1)
    for name, values in (("strides", strides), ("dilations", dilations)):
        if values[0] != 1 or values[layout.channels] != 1:
            raise ValueError(f"{name} {list(values)}: those of batch and depth must be 1")
    explicit = _explicit(attrs, layout)
    padding = attrs["padding"]
    height, width = (
        Windows(size, stride, dilation, padding, pads)
        for size, stride, dilation, pads in zip(
            sizes, layout.spatial(strides), layout.spatial(dilations), explicit, strict=True
        )
    )
    return height, width


def pooling_sizes(attrs: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width of a pooling window.

    Raises:
        ValueError: the attribute `ksize` makes no sense, or pools batch or channels.
    """
    layout = layout_of(attrs)
    sizes = _four(attrs, "ksize")
    if sizes[0] != 1 or sizes[layout.channels] != 1:
        raise ValueError(f"ksize {list(sizes)}: only height and width can be pooled")
    return layout.spatial(sizes)


def _four(attrs: Mapping[str, Any], name: str) -> tuple[int, ...]:
    values = tuple(attrs[name])
    if len(values) != 4:
        raise ValueError(f"{name} {list(values)}: 4 numbers are wanted, one per dimension")
    if not all(0 < value < LARGEST_SETTING for value in values):
        raise ValueError(f"{name} {list(values)}: all must be positive and less than 2**31")
    return values


def _explicit(attrs: Mapping[str, Any], layout: Layout) -> tuple[tuple[int, int], tuple[int, int]]:
    values = tuple(attrs.get("explicit_paddings", ()))
    if attrs["padding"] != "EXPLICIT":
        if values:
            raise ValueError("explicit_paddings are given, but padding is not EXPLICIT")
        return (0, 0), (0, 0)
    if len(values) != 8:
        raise ValueError(f"explicit_paddings {list(values)}: 8 numbers are wanted, 2 per dimension")
    if not all(0 <= value < LARGEST_SETTING for value in values):
        raise ValueError(f"explicit_paddings {list(values)}: none may be negative, or 2**31")
    pairs = list(zip(values[::2], values[1::2], strict=True))
    if any(pairs[0]) or any(pairs[layout.channels]):
        raise ValueError(f"explicit_paddings {list(values)}: those of batch and depth must be 0")
    height, width = layout.spatial(pairs)
    return height, width
