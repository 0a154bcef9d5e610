"""What the masks of a strided slice mean: TensorFlow's encoding of ``x[1:5:2, ..., None, 3]``.

The graph holds three integer vectors (begin, end, strides) with one entry per item between the
brackets, and five bit masks with a bit per item: the item has no begin, has no end, is an
ellipsis, is a new axis, or is a plain index whose axis disappears. `decode` turns that into
the index tuple that NumPy understands; TensorFlow clamps the bounds of a range just as Python does.
The shape function and the kernels use the same decoding, so they cannot disagree.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NEW_AXIS = None
"""An item that inserts a dimension of 1 (NumPy's own notation)."""


@dataclass(frozen=True, slots=True)
class UnknownIndex:
    """An item with bounds that are not known yet; `is_range` tells if its axis remains."""

    is_range: bool


Item = slice | int | UnknownIndex | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """The five masks; bit i belongs to item i."""

    begin: int = 0
    end: int = 0
    ellipsis: int = 0
    new_axis: int = 0
    shrink_axis: int = 0


def decode(
    begin: Sequence[int] | None,
    end: Sequence[int] | None,
    strides: Sequence[int] | None,
    count: int,
    masks: Masks,
    rank: int,
) -> tuple[Item, ...]:
    """The index of a strided slice, with the ellipsis written out as whole axes.

    Args:
        begin: the begin of each item, or None if not known yet.
        end: the end of each item, or None if not known yet.
        strides: the stride of each item, or None if not known yet.
        count: the number of items.
        masks: which items have no begin, no end, and so on.
        rank: the rank of the tensor that is sliced.

    Returns:
        One item per axis of the tensor, plus the new axes, in the order of the result. An int is
        as the user gave it: possibly negative, possibly out of range.

    Raises:
        ValueError: more than one ellipsis, more items than axes, a stride of zero, or an index
            with a negative stride.
    """
    ellipses = [i for i in range(count) if masks.ellipsis >> i & 1]
    if len(ellipses) > 1:
        raise ValueError("Multiple ellipses in slice spec not allowed")
    ellipsis = ellipses[0] if ellipses else count
    new_axes = sum(1 for i in range(count) if i != ellipsis and masks.new_axis >> i & 1)
    consumed = count - new_axes - len(ellipses)
    if consumed > rank:
        raise ValueError(f"Index out of range using input dim {rank}; input has only {rank} dims")
    items: list[Item] = []
    for i in range(count):
        if i == ellipsis:
            items.extend([slice(None)] * (rank - consumed))
        elif masks.new_axis >> i & 1:
            items.append(NEW_AXIS)
        else:
            items.append(_item(begin, end, strides, i, masks))
    if not ellipses:
        items.extend([slice(None)] * (rank - consumed))
    return tuple(items)


def _item(
    begin: Sequence[int] | None,
    end: Sequence[int] | None,
    strides: Sequence[int] | None,
    i: int,
    masks: Masks,
) -> Item:
    is_index = bool(masks.shrink_axis >> i & 1)
    stride = None if strides is None else int(strides[i])
    if stride == 0:
        raise ValueError(f"strides[{i}] must be non-zero")
    if is_index:
        if stride is not None and stride < 0:
            raise ValueError("only stride 1 allowed on non-range indexing.")
        return UnknownIndex(is_range=False) if begin is None else int(begin[i])
    has_begin, has_end = not masks.begin >> i & 1, not masks.end >> i & 1
    if stride is None or (has_begin and begin is None) or (has_end and end is None):
        return UnknownIndex(is_range=True)
    return slice(
        int(begin[i]) if has_begin and begin is not None else None,
        int(end[i]) if has_end and end is not None else None,
        stride,
    )


def sliced_dims(items: Sequence[Item], dims: Sequence[int | None]) -> list[int | None]:
    """The dimensions of a tensor of `dims` under the index `items` (from `decode`).

    Raises:
        ValueError: an index is out of the bounds of its axis.
    """
    result: list[int | None] = []
    axis = 0
    for item in items:
        if item is NEW_AXIS:
            result.append(1)
            continue
        dim = dims[axis]
        if isinstance(item, int):
            if dim is not None and not -dim <= item < dim:
                raise ValueError(f"slice index {item} of dimension {axis} out of bounds.")
        elif isinstance(item, slice):
            result.append(None if dim is None else len(range(*item.indices(dim))))
        elif item.is_range:
            result.append(None)
        axis += 1
    return result
