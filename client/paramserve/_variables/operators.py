"""The operators of tensors, for what stands for a tensor.

`variable + 1.0` is `variable.value() + 1.0`. The operators are written out so that type checkers
and editors know them.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import paramserve._ops.operators  # noqa: F401  # gives Tensor what is used here
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike


class TensorOperators(ABC):
    """Gives a class with a `value()` all operators of Tensor, except `==`, which is identity."""

    __slots__ = ()

    @abstractmethod
    def value(self) -> Tensor:
        """The tensor that the operators work on."""

    def _apply(self, operator: str, *operands: Any) -> Tensor:
        result: Tensor = getattr(Tensor, operator)(self.value(), *operands)
        return result

    def __neg__(self) -> Tensor:
        return self._apply("__neg__")

    def __abs__(self) -> Tensor:
        return self._apply("__abs__")

    def __invert__(self) -> Tensor:
        return self._apply("__invert__")

    def __add__(self, other: TensorLike) -> Tensor:
        return self._apply("__add__", other)

    def __radd__(self, other: TensorLike) -> Tensor:
        return self._apply("__radd__", other)

    def __sub__(self, other: TensorLike) -> Tensor:
        return self._apply("__sub__", other)

    def __rsub__(self, other: TensorLike) -> Tensor:
        return self._apply("__rsub__", other)

    def __mul__(self, other: TensorLike) -> Tensor:
        return self._apply("__mul__", other)

    def __rmul__(self, other: TensorLike) -> Tensor:
        return self._apply("__rmul__", other)

    def __truediv__(self, other: TensorLike) -> Tensor:
        return self._apply("__truediv__", other)

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        return self._apply("__rtruediv__", other)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        return self._apply("__floordiv__", other)

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        return self._apply("__rfloordiv__", other)

    def __mod__(self, other: TensorLike) -> Tensor:
        return self._apply("__mod__", other)

    def __rmod__(self, other: TensorLike) -> Tensor:
        return self._apply("__rmod__", other)

    def __pow__(self, other: TensorLike) -> Tensor:
        return self._apply("__pow__", other)

    def __rpow__(self, other: TensorLike) -> Tensor:
        return self._apply("__rpow__", other)

    def __matmul__(self, other: TensorLike) -> Tensor:
        return self._apply("__matmul__", other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        return self._apply("__rmatmul__", other)

    def __and__(self, other: TensorLike) -> Tensor:
        return self._apply("__and__", other)

    def __rand__(self, other: TensorLike) -> Tensor:
        return self._apply("__rand__", other)

    def __or__(self, other: TensorLike) -> Tensor:
        return self._apply("__or__", other)

    def __ror__(self, other: TensorLike) -> Tensor:
        return self._apply("__ror__", other)

    def __xor__(self, other: TensorLike) -> Tensor:
        return self._apply("__xor__", other)

    def __rxor__(self, other: TensorLike) -> Tensor:
        return self._apply("__rxor__", other)

    def __lt__(self, other: TensorLike) -> Tensor:
        return self._apply("__lt__", other)

    def __le__(self, other: TensorLike) -> Tensor:
        return self._apply("__le__", other)

    def __gt__(self, other: TensorLike) -> Tensor:
        return self._apply("__gt__", other)

    def __ge__(self, other: TensorLike) -> Tensor:
        return self._apply("__ge__", other)

    def __getitem__(self, item: Any) -> Tensor:
        return self._apply("__getitem__", item)
