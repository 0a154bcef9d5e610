"""What a program feeds: from a `feed_dict` to arrays of the right types and shapes.

The keys are worked out once. What is left for every run is one call per value, which for an array
that fits is a comparison of its type and its shape. Nothing is sent before every value has passed.

Thread rule: immutable once made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve_core.dtypes import bool as bool_
from paramserve_core.values import as_ndarray

Array: TypeAlias = NDArray[Any]

_MANY: Final = 8
"""With so many feeds it is faster to compare all types and then all shapes."""


class _Slot(Protocol):
    """What becomes of the value of one key."""

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that the value is for."""

    def convert(self, value: Any) -> list[Array]:
        """One array per tensor.

        Raises:
            TypeError: the value cannot become a tensor of the type.
            ValueError: its shape, or a number in it, does not fit.
        """


class FedTensor:
    """The feed of one tensor."""

    __slots__ = ("_dtype", "_numbers", "_numpy_dtype", "_range", "_shape", "_whole_shape", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self._dtype = tensor.dtype.base_dtype
        # Text is looked at in any case: an object array may hold anything.
        is_text = self._dtype.as_numpy_dtype is np.object_
        self._numpy_dtype = None if is_text else np.dtype(self._dtype.as_numpy_dtype)
        # Python's numbers that need no further thought, and the range in which they don't.
        self._numbers: tuple[type, ...] = ()
        self._range: tuple[Any, Any] = (0, 0)
        if self._dtype.is_floating or self._dtype.is_integer:
            self._numbers = (int, float) if self._dtype.is_floating else (int,)
            self._range = (self._dtype.min, self._dtype.max)
        self._shape = tensor.shape
        self._whole_shape: tuple[int | None, ...] | None = None
        if tensor.shape.is_fully_defined():
            self._whole_shape = tuple(tensor.shape.as_list())

    @property
    def kind(self) -> tuple[np.dtype[Any], tuple[int | None, ...]] | None:
        """Type and shape of an array that needs no further thought; None: there are several."""
        if self._numpy_dtype is None or self._whole_shape is None:
            return None
        return self._numpy_dtype, self._whole_shape

    @property
    def tensors(self) -> list[Tensor]:
        """The tensor, in a list."""
        return [self.tensor]

    def convert(self, value: Any) -> list[Array]:
        """See `_Slot.convert`."""
        return [self.array(value)]

    def array(self, value: Any) -> Array:
        """See `_Slot.convert`; the array alone."""
        array: Array
        cls = value.__class__
        if cls is np.ndarray and value.dtype == self._numpy_dtype:
            array = value
        elif cls in self._numbers and self._range[0] <= value <= self._range[1]:
            array = np.array(value, self._numpy_dtype)
        else:
            array = self._converted(value)
        if array.shape != self._whole_shape and not self._shape.is_compatible_with(array.shape):
            raise ValueError(
                f"Cannot feed value of shape {array.shape} for Tensor {self.tensor.name!r}, which "
                f"has shape '{self._shape}'"
            )
        return array

    def _converted(self, value: Any) -> Array:
        if isinstance(value, Tensor | Operation | IndexedSlices) or hasattr(
            value, "_as_graph_element"
        ):
            raise TypeError(
                "The value of a feed cannot be a tf.Tensor object. Acceptable feed values are "
                "numbers, strings, lists and NumPy arrays: run it first, and feed its value. "
                f"Found {value!r} for {self.tensor!r}."
            )
        try:
            if self._dtype is bool_:
                # Unlike for a constant, 0 and 1 are often fed for False and True.
                value = as_ndarray(value)
            return as_ndarray(value, self._dtype)
        except (TypeError, ValueError) as error:
            if isinstance(value, Integral):
                raise TypeError(
                    f"Cannot feed {self.tensor!r}: {value} is not compatible with Tensor type "
                    f"{self._dtype.name}: {error}"
                ) from None
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"Cannot feed {self.tensor!r}: {error}") from None


class _FedGroup:
    """The feed of a tuple of keys, or of an `IndexedSlices`, by a sequence of values."""

    def __init__(self, slots: list[_Slot], *, what: str) -> None:
        self._slots = slots
        self._what = what

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors of all parts."""
        return [tensor for slot in self._slots for tensor in slot.tensors]

    def convert(self, value: Any) -> list[Array]:
        """See `_Slot.convert`."""
        if not isinstance(value, tuple | list):
            raise TypeError(
                f"Cannot feed {self._what}: wanted a tuple of {len(self._slots)} values, found "
                f"{type(value).__name__}"
            )
        parts = list(value)
        if len(parts) == len(self._slots) + 1 and parts[-1] is None:
            parts.pop()  # the dense shape of an IndexedSlicesValue that has none
        if len(parts) != len(self._slots):
            raise ValueError(
                f"Cannot feed {self._what}: wanted {len(self._slots)} values, found {len(parts)}"
            )
        return [
            array
            for slot, part in zip(self._slots, parts, strict=True)
            for array in slot.convert(part)
        ]


class Feeds:
    """The keys of one `feed_dict` in one graph.

    Attributes:
        tensors: the tensors that are fed, in the order in which `convert` answers their values.

    Raises:
        TypeError: a key is no tensor of the graph.
        ValueError: a tensor may not be fed, or is fed twice.
    """

    def __init__(self, graph: Graph, keys: Iterable[Any]) -> None:
        self._graph = graph
        self._keys = list(keys)  # keeps the elements alive, see `fetches.structure_key`
        self._slots = [self._slot(key) for key in self._keys]
        single = [slot for slot in self._slots if isinstance(slot, FedTensor)]
        self._single = [slot.array for slot in single]
        kinds = [slot.kind for slot in single if slot.kind is not None]
        self._is_compared_at_once = len(kinds) == len(self._slots) >= _MANY
        self._dtypes = [dtype for dtype, _ in kinds]
        self._shapes = [shape for _, shape in kinds]
        self.tensors = [tensor for slot in self._slots for tensor in slot.tensors]
        seen: set[Tensor] = set()
        for tensor in self.tensors:
            if tensor in seen:
                raise ValueError(f"{tensor!r} is fed twice, under different keys.")
            seen.add(tensor)

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def tensor_names(self) -> list[str]:
        """Names of the tensors that are fed."""
        return [tensor.name for tensor in self.tensors]

    def convert(self, values: Iterable[Any]) -> list[Array]:
        """The arrays to send.

        Args:
            values: one per key, in the order of the keys.

        Returns:
            One array per tensor; it may be the value itself, or a view of it.

        Raises:
            TypeError: a value cannot become a tensor of the key's type.
            ValueError: a value's shape, or a number in it, does not fit.
        """
        if self._is_compared_at_once:
            values = list(values)
            if self._are_as_expected(values):
                return values
        if len(self._single) == len(self._slots):
            return [array(value) for array, value in zip(self._single, values, strict=True)]
        return [
            array
            for slot, value in zip(self._slots, values, strict=True)
            for array in slot.convert(value)
        ]

    def _are_as_expected(self, values: Sequence[Any]) -> bool:
        """Whether `convert` need only pass them on."""
        return (
            set(map(type, values)) == {np.ndarray}
            and [value.dtype for value in values] == self._dtypes
            and [value.shape for value in values] == self._shapes
        )

    def _slot(self, key: Any) -> _Slot:
        if isinstance(key, tuple):
            return _FedGroup([self._slot(part) for part in key], what="a tuple of keys")
        if isinstance(key, IndexedSlices):
            parts = [key.values, key.indices]
            if key.dense_shape is not None:
                parts.append(key.dense_shape)
            return _FedGroup([self._slot(part) for part in parts], what=repr(key))
        try:
            tensor = self._graph.as_graph_element(key, allow_operation=False)
        except (KeyError, TypeError, ValueError) as error:
            raise TypeError(f"Cannot interpret feed_dict key as Tensor: {error.args[0]}") from None
        if not self._graph.is_feedable(tensor):
            raise ValueError(f"{tensor!r} may not be fed.")
        return FedTensor(tensor)
