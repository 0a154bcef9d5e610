"""What is between the brackets of a strided slice, as an index of NumPy's.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from paramserve_core.kernels.arguments import check_result_rank
from paramserve_core.kernels.numerics import Array, invalid, shape_text
from paramserve_core.kernels.registry import KernelNode
from paramserve_core.slicing import Masks, decode, sliced_dims

_MAX_ITEMS: Final = 31
"""Most items in the brackets of a strided slice: each has a bit in a mask of 32 bits."""


def decoded_index(
    node: KernelNode, shape: Sequence[int], begin: Array, end: Array, strides: Array
) -> tuple[Any, list[int]]:
    """The index that NumPy understands, and the shape of what it gives.

    Args:
        node: the op, which has the masks.
        shape: of the tensor that is sliced.
        begin: where each item begins.
        end: where each item ends.
        strides: the step of each item.

    Raises:
        InvalidArgumentError: an item does not fit the tensor, or there are too many.
    """
    count = begin.size
    if any(a.shape != (count,) for a in (begin, end, strides)) or count > _MAX_ITEMS:
        invalid(
            f"{node.op}: begin, end and strides must be vectors of one length, at most "
            f"{_MAX_ITEMS}, but have shapes {shape_text(begin.shape)}, {shape_text(end.shape)} and "
            f"{shape_text(strides.shape)}"
        )
    attrs = node.attrs
    masks = Masks(
        begin=attrs["begin_mask"],
        end=attrs["end_mask"],
        ellipsis=attrs["ellipsis_mask"],
        new_axis=attrs["new_axis_mask"],
        shrink_axis=attrs["shrink_axis_mask"],
    )
    try:
        items = decode(begin.tolist(), end.tolist(), strides.tolist(), count, masks, len(shape))
        sliced = sliced_dims(items, shape)
    except ValueError as error:
        invalid(str(error))
    check_result_rank(node.op, len(sliced))
    # The ellipsis keeps a single element an array.
    return (*items, ...), [size for size in sliced if size is not None]
