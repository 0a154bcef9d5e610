"""One size of a shape, which may be unknown, with the semantics of TensorFlow's 1.x `Dimension`.

Comparing an unknown size answers None, which is neither true nor false.

Threads: a `Dimension` is immutable.
"""

from __future__ import annotations

import operator
from typing import SupportsIndex, TypeAlias

DimensionLike: TypeAlias = "Dimension | SupportsIndex | None"
"""What can be one size: a `Dimension`, an integer of any kind, or None for unknown."""


class Dimension:
    """One size of a shape: a number that is not negative, or unknown.

    Arithmetic with an unknown size gives an unknown size. Comparing with one gives None.
    """

    __slots__ = ("_value",)

    def __init__(self, value: DimensionLike) -> None:
        """Creates a size.

        Args:
            value: The size; None when it is unknown.

        Raises:
            TypeError: `value` is neither an integer nor None.
            ValueError: `value` is negative.
        """
        self._value = size_of(value)

    @property
    def value(self) -> int | None:
        """The size; None when it is unknown."""
        return self._value

    def is_compatible_with(self, other: DimensionLike) -> bool:
        """Whether both can be the same size: equal, or one of them unknown."""
        size = size_of(other)
        return self._value is None or size is None or self._value == size

    def assert_is_compatible_with(self, other: DimensionLike) -> None:
        """Checks that both can be the same size.

        Raises:
            ValueError: Both are known and differ.
        """
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {Dimension(other)} are not compatible")

    def merge_with(self, other: DimensionLike) -> Dimension:
        """What both together know.

        Raises:
            ValueError: Both are known and differ.
        """
        self.assert_is_compatible_with(other)
        return Dimension(other) if self._value is None else self

    def __add__(self, other: DimensionLike) -> Dimension:
        size = size_of(other)
        return Dimension(None if self._value is None or size is None else self._value + size)

    __radd__ = __add__

    def __sub__(self, other: DimensionLike) -> Dimension:
        size = size_of(other)
        return Dimension(None if self._value is None or size is None else self._value - size)

    def __rsub__(self, other: DimensionLike) -> Dimension:
        return Dimension(other) - self

    def __mul__(self, other: DimensionLike) -> Dimension:
        size = size_of(other)
        return Dimension(None if self._value is None or size is None else self._value * size)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimensionLike) -> Dimension:
        size = size_of(other)
        return Dimension(None if self._value is None or size is None else self._value // size)

    def __rfloordiv__(self, other: DimensionLike) -> Dimension:
        return Dimension(other) // self

    def __mod__(self, other: DimensionLike) -> Dimension:
        size = size_of(other)
        return Dimension(None if self._value is None or size is None else self._value % size)

    def __rmod__(self, other: DimensionLike) -> Dimension:
        return Dimension(other) % self

    def __truediv__(self, other: object) -> Dimension:
        raise TypeError(f"a size divided by {other!r} need not be a whole number; use // instead")

    __rtruediv__ = __truediv__

    # The comparisons answer None when one side is unknown, as TensorFlow's do.
    def __eq__(self, other: object) -> bool | None:  # type: ignore[override]
        try:
            size = size_of(other)
        except (TypeError, ValueError):
            return NotImplemented
        return None if self._value is None or size is None else self._value == size

    def __ne__(self, other: object) -> bool | None:  # type: ignore[override]
        equal = self.__eq__(other)
        return equal if equal is NotImplemented or equal is None else not equal

    def __lt__(self, other: DimensionLike) -> bool | None:
        size = size_of(other)
        return None if self._value is None or size is None else self._value < size

    def __le__(self, other: DimensionLike) -> bool | None:
        size = size_of(other)
        return None if self._value is None or size is None else self._value <= size

    def __gt__(self, other: DimensionLike) -> bool | None:
        size = size_of(other)
        return None if self._value is None or size is None else self._value > size

    def __ge__(self, other: DimensionLike) -> bool | None:
        size = size_of(other)
        return None if self._value is None or size is None else self._value >= size

    # Unknown sizes are not equal to themselves, so a size cannot be a key.
    __hash__ = None  # type: ignore[assignment]

    def __int__(self) -> int:
        return self.__index__()

    def __index__(self) -> int:
        if self._value is None:
            raise TypeError("an unknown size has no number; check `value is None` first")
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __str__(self) -> str:
        return "?" if self._value is None else str(self._value)

    def __repr__(self) -> str:
        return f"Dimension({self._value})"

    def __reduce__(self) -> tuple[type[Dimension], tuple[int | None]]:
        return (Dimension, (self._value,))


def size_of(value: object) -> int | None:
    """The size as a plain number; None when it is unknown.

    Raises:
        TypeError: `value` is neither an integer nor None.
        ValueError: it is negative.
    """
    if value is None:
        return None
    if isinstance(value, Dimension):
        return value._value
    try:
        size = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"a size is an integer or None; found {value!r} of type {type(value).__name__}"
        ) from None
    if size < 0:
        raise ValueError(f"Dimension {size} must be >= 0")
    return int(size)
