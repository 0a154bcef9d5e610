"""The operators of tensors: arithmetic, comparisons, logic, and brackets.

Importing this module puts them into `Tensor`. A plain value takes the type of the tensor that it
meets, so that `t + 1` works for every type of number. `==` stays what it is for every Python
object, the question whether both are the same; use `equal`.

Thread rule: an operator adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops import elementary, math, math_product
from paramserve._ops.array import cast, constant
from paramserve._ops.indexing import boolean_mask, strided_slice
from paramserve._ops.joining import stack
from paramserve_core import dtypes
from paramserve_core.dimensions import Dimension

__all__: list[str] = []


def _override_binary(operator: str, function: Callable[..., Tensor]) -> None:
    """Defines `__operator__` and `__roperator__`."""

    def forward(x: Tensor, y: TensorLike) -> Tensor:
        with name_scope(None, operator, [x, y]) as scope:
            return function(x, _operand(y, x, "y"), name=scope)

    def backward(y: Tensor, x: TensorLike) -> Tensor:
        with name_scope(None, operator, [x, y]) as scope:
            return function(_operand(x, y, "x"), y, name=scope)

    Tensor.override_operator(f"__{operator}__", forward)
    Tensor.override_operator(f"__r{operator}__", backward)


def _operand(value: TensorLike, beside: Tensor, name: str) -> Tensor:
    if hasattr(value, "graph"):
        return convert_to_tensor(value, name=name)
    return convert_to_tensor(value, dtype=beside.dtype.base_dtype, name=name)


_override_binary("add", math.add)
_override_binary("sub", math.subtract)
_override_binary("mul", math.multiply)
_override_binary("truediv", math.truediv)
_override_binary("floordiv", math.floordiv)
_override_binary("mod", math.floormod)
_override_binary("pow", math.pow)
_override_binary("matmul", math_product.matmul)
_override_binary("and", math.logical_and)
_override_binary("or", math.logical_or)
_override_binary("xor", math.logical_xor)

Tensor.override_operator("__neg__", elementary.negative)
Tensor.override_operator("__abs__", elementary.abs)
Tensor.override_operator("__invert__", elementary.logical_not)
Tensor.override_operator("__lt__", math.less)
Tensor.override_operator("__le__", math.less_equal)
Tensor.override_operator("__gt__", math.greater)
Tensor.override_operator("__ge__", math.greater_equal)


# Brackets.

_INTEGERS: Final = (dtypes.int16, dtypes.int32, dtypes.int64)


class _Items:
    """What stands between the brackets, in the form of a strided slice."""

    def __init__(self) -> None:
        self.begin: list[Any] = []
        self.end: list[Any] = []
        self.strides: list[Any] = []
        self.masks = dict.fromkeys(
            ["begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask"], 0
        )

    def add(self, item: Any) -> None:
        """Adds one item: a range, an index, `...` or None."""
        bit = 1 << len(self.begin)
        if item is None:
            self._append(0, 0, 1)
            self.masks["new_axis_mask"] |= bit
        elif item is Ellipsis:
            if self.masks["ellipsis_mask"]:
                raise ValueError("Multiple ellipses in a slice are not allowed")
            self._append(0, 0, 1)
            self.masks["ellipsis_mask"] |= bit
        elif isinstance(item, slice):
            for part, mask in ((item.start, "begin_mask"), (item.stop, "end_mask")):
                if part is None:
                    self.masks[mask] |= bit
            parts = ((item.start, 0), (item.stop, 0), (item.step, 1))
            self._append(*(_index(default if part is None else part) for part, default in parts))
        else:
            index = _index(item)
            self._append(index, index + 1, 1)
            self.masks["shrink_axis_mask"] |= bit

    def _append(self, begin: Any, end: Any, stride: Any) -> None:
        self.begin.append(begin)
        self.end.append(end)
        self.strides.append(stride)


def _index(value: Any) -> Any:
    """An index: an int, or a scalar integer tensor.

    Raises:
        TypeError: it is of another type.
    """
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Dimension) and value.value is not None:
        return value.value
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iu":
        return int(value)
    if hasattr(value, "graph"):
        tensor = convert_to_tensor(value)
        if tensor.dtype.base_dtype in _INTEGERS and tensor.shape.ndims in (None, 0):
            return tensor
    raise TypeError(
        "between brackets there may be integers, integer scalar tensors, ranges of those, `...`, "
        f"None, or one boolean mask; got {value!r}"
    )


def _get_item(tensor: Tensor, item: Any) -> Tensor:
    """`tensor[item]`: as NumPy indexes, but that no list of indices is taken; see `gather`.

    Args:
        tensor: the tensor.
        item: an integer, a scalar integer tensor, a range of those, `...`, None, a tuple of all
            that; or a boolean tensor or array, see `boolean_mask`.

    Raises:
        TypeError: something else.
        ValueError: more items than dimensions, or an index out of range.
    """
    if isinstance(item, (Tensor, np.ndarray)) and item.dtype in (dtypes.bool, np.bool_):
        return boolean_mask(tensor, item)
    with name_scope(None, "strided_slice", [tensor]) as scope:
        items = _Items()
        for part in item if isinstance(item, tuple) else (item,):
            items.add(part)
        begin, end, strides = _packed(items.begin, items.end, items.strides)
        return strided_slice(tensor, begin, end, strides, **items.masks, name=scope)


def _packed(*vectors: list[Any]) -> list[Tensor]:
    """Each list as an integer vector, all of one type: the widest that is among the indices."""
    found = [i.dtype.base_dtype for vector in vectors for i in vector if isinstance(i, Tensor)]
    wide = dtypes.int64 in found or any(
        isinstance(i, int) and not -(2**31) <= i < 2**31 for vector in vectors for i in vector
    )
    dtype = dtypes.int64 if wide else dtypes.int32
    return [
        stack([cast(i, dtype) if isinstance(i, Tensor) else constant(i, dtype) for i in vector])
        if any(isinstance(i, Tensor) for i in vector)
        else constant(np.array(vector, dtype.as_numpy_dtype))
        for vector in vectors
    ]


Tensor.override_operator("__getitem__", _get_item)
