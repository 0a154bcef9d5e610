"""Rectangular parts of tensors, as partitioned variables and checkpoints cut them.

Thread rule: immutable objects and pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from paramserve_protos.v1 import checkpoint_service_pb2, tensor_slice_pb2


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangular part of a tensor: where it begins, and its shape, per dimension."""

    begin: tuple[int, ...]
    shape: tuple[int, ...]

    @staticmethod
    def whole(shape: Sequence[int]) -> Box:
        """All of a tensor of that shape."""
        return _whole(tuple(shape))

    @property
    def end(self) -> tuple[int, ...]:
        """Where it ends, per dimension."""
        return tuple(b + s for b, s in zip(self.begin, self.shape, strict=True))

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        ranges = zip(self.begin, self.end, strict=True)
        return "[" + ",".join(f"{b}:{e}" for b, e in ranges) + "]"

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether it lies within a tensor of that shape."""
        return len(shape) == len(self.begin) == len(self.shape) and all(
            b >= 0 and s >= 0 and b + s <= full
            for b, s, full in zip(self.begin, self.shape, shape, strict=True)
        )

    def is_whole(self, shape: Sequence[int]) -> bool:
        """Whether it is all of a tensor of that shape."""
        return self.shape == tuple(shape)

    def intersection(self, other: Box) -> Box | None:
        """What both have, or None if that is nothing."""
        begin = tuple(map(max, self.begin, other.begin))
        end = tuple(map(min, self.end, other.end))
        if any(b >= e for b, e in zip(begin, end, strict=True)):
            return None
        return Box(begin, tuple(e - b for b, e in zip(begin, end, strict=True)))

    def within(self, outer: Box) -> tuple[slice, ...]:
        """The index of this box in an array that holds `outer`."""
        return tuple(
            slice(b - o, b - o + s)
            for b, o, s in zip(self.begin, outer.begin, self.shape, strict=True)
        )

    def rows_in(self, outer: Box) -> tuple[int, int] | None:
        """The range of elements that this box takes in an array of `outer`, if it is one range.

        That is so where it is cut along the first dimension only.
        """
        if self.begin[1:] != outer.begin[1:] or self.shape[1:] != outer.shape[1:]:
            return None
        row = math.prod(self.shape[1:])
        first = (self.begin[0] - outer.begin[0]) * row if self.begin else 0
        return first, first + self.size


@lru_cache(maxsize=1024)
def _whole(shape: tuple[int, ...]) -> Box:
    """Kept, because the many variables of a model have few shapes."""
    return Box((0,) * len(shape), shape)


def cover(boxes: Sequence[Box], shape: Sequence[int]) -> bool:
    """Whether the boxes fill a tensor of that shape, none of them overlapping another."""
    if len(boxes) == 1 and boxes[0] == Box.whole(shape):
        return True
    if not all(box.fits(shape) for box in boxes):
        return False
    if sum(box.size for box in boxes) != math.prod(shape):
        return False
    return not overlap(boxes)


def overlap(boxes: Iterable[Box]) -> bool:
    """Whether any two of the boxes have something in common."""
    # In the order of their first coordinate, only boxes that are still open can be met.
    open_boxes: list[Box] = []
    for box in sorted((b for b in boxes if b.size), key=lambda b: b.begin):
        if not box.begin:
            if open_boxes:
                return True
        else:
            open_boxes = [o for o in open_boxes if o.end[0] > box.begin[0]]
            if any(box.intersection(o) is not None for o in open_boxes):
                return True
        open_boxes.append(box)
    return False


def box_of_slice(message: checkpoint_service_pb2.Slice) -> Box:
    """The box of a slice as it travels; whether it fits is the caller's to check."""
    return Box(tuple(message.offset), tuple(message.shape))


def slice_of_box(box: Box, full_shape: Sequence[int]) -> checkpoint_service_pb2.Slice:
    """A slice as it travels."""
    return checkpoint_service_pb2.Slice(full_shape=full_shape, offset=box.begin, shape=box.shape)


def box_of_extents(message: tensor_slice_pb2.TensorSliceProto, shape: Sequence[int]) -> Box | None:
    """The box of TensorFlow's form of a slice of a tensor of that shape; None if it is none."""
    if not message.extent:
        return Box.whole(shape)  # TensorFlow writes the whole of a tensor of any rank like this.
    if len(message.extent) != len(shape):
        return None
    whole = [not e.HasField("length") for e in message.extent]
    box = Box(
        tuple(e.start for e in message.extent),
        tuple(
            full if is_whole else e.length
            for e, full, is_whole in zip(message.extent, shape, whole, strict=True)
        ),
    )
    return box if box.fits(shape) else None


def extents_of_box(box: Box, shape: Sequence[int]) -> tensor_slice_pb2.TensorSliceProto:
    """TensorFlow's form of a box in a tensor of that shape."""
    message = tensor_slice_pb2.TensorSliceProto()
    for begin, size, full in zip(box.begin, box.shape, shape, strict=True):
        extent = message.extent.add()
        if size != full:
            extent.start = begin
            extent.length = size
    return message
