"""An IndexedSlices where a tensor is wanted becomes the dense tensor that it stands for.

Importing this module says so to `convert_to_tensor`.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.convert import register_tensor_conversion_function
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.tensor import Tensor
from paramserve._ops.indexing import strided_slice
from paramserve._ops.math_segment import unsorted_segment_sum

__all__: list[str] = []


def _dense(
    value: IndexedSlices, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    """The dense tensor; rows of one number add up.

    Raises:
        ValueError: the number of rows is not known, or another type is wanted.
    """
    if dtype is not None and not value.dtype.base_dtype.is_compatible_with(dtype):
        raise ValueError(
            f"a tensor of {dtype.name} is wanted, the rows of {value!r} are {value.dtype.name}"
        )
    if value.dense_shape is None:
        raise ValueError(
            f"{value!r} cannot become a tensor, because it does not say how many rows there are; "
            "make it with a dense_shape"
        )
    rows = strided_slice(value.dense_shape, [0], [1], [1], shrink_axis_mask=1)
    return unsorted_segment_sum(value.values, value.indices, rows, name=name)


register_tensor_conversion_function(IndexedSlices, _dense)
