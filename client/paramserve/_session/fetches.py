"""What a program fetches: from its own structure to a list of names, and back to the structure.

A structure is flattened once. What is left for every run is a function that puts a list of arrays
into the structure again, and for the most common structures it does next to nothing.

Thread rule: immutable once made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from numpy.typing import NDArray

from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor

Array: TypeAlias = NDArray[Any]
Pack: TypeAlias = Callable[[Sequence[Any]], Any]


class IndexedSlicesValue(NamedTuple):
    """The value of an `IndexedSlices`, as a session answers it and may be fed it.

    Attributes:
        values: the rows, of shape `[n, ...]`.
        indices: their numbers, of shape `[n]`.
        dense_shape: the shape of the whole tensor, where it is known.
    """

    values: Any
    indices: Any
    dense_shape: Any = None


def structure_key(structure: Any) -> Any:
    """A hashable that two structures share only if they hold the same elements in the same way.

    Elements count by identity, so whoever keeps the key keeps the elements alive. Strings count by
    value, and the containers, which a program makes anew for each call, by type and content.
    """
    cls = structure.__class__
    if cls is Tensor or cls is Operation:
        return id(structure)
    if cls is list or issubclass(cls, tuple):
        return (cls, *[structure_key(item) for item in structure])
    if cls is str:
        return structure
    if issubclass(cls, list):
        return (cls, *[structure_key(item) for item in structure])
    if issubclass(cls, Mapping):
        return (cls, *[(key, structure_key(item)) for key, item in structure.items()])
    return id(structure)


class Fetches:
    """One structure of fetches in one graph.

    Attributes:
        tensors: the tensors in it, each once.
        operations: the operations in it that are run for no value, each once.

    Raises:
        TypeError: an element is None, or of a type that cannot be fetched.
        ValueError: an element is not in the graph, or may not be fetched.
    """

    def __init__(self, graph: Graph, structure: Any) -> None:
        self._graph = graph
        self._structure = structure  # keeps the elements alive, see `structure_key`
        self._position: dict[Tensor, int] = {}
        self._operations: dict[Operation, None] = {}
        self._pack = self._packer(structure)
        self.tensors = list(self._position)
        self.operations = list(self._operations)

    @property
    def tensor_names(self) -> list[str]:
        """Names of the tensors, in the order in which `pack` takes their values."""
        return [tensor.name for tensor in self.tensors]

    @property
    def operation_names(self) -> list[str]:
        """Names of the operations."""
        return [op.name for op in self.operations]

    def pack(self, values: list[Any]) -> Any:
        """The structure with values for tensors, and None for operations.

        Args:
            values: one array per tensor; the list is changed. A scalar becomes NumPy's scalar of
                its type (`bytes` for a string), as in TensorFlow.
        """
        if 0 in [value.ndim for value in values]:
            values[:] = [value if value.ndim else value[()] for value in values]
        return self._pack(values)

    def _packer(self, structure: Any) -> Pack:
        cls = type(structure)
        if structure is None:
            raise TypeError(
                f"Fetch argument {structure!r} has invalid type {cls!r}. Cannot be None"
            )
        if issubclass(cls, Mapping):
            return self._mapping_packer(structure)
        if issubclass(cls, list | tuple):
            return self._sequence_packer(structure)
        if issubclass(cls, IndexedSlices):
            return self._slices_packer(structure)
        return self._element_packer(structure)

    def _element_packer(self, fetch: Any) -> Pack:
        element = self._element(fetch)
        if not self._graph.is_fetchable(element):
            raise ValueError(f"{element!r} has been marked as not fetchable.")
        if isinstance(element, Operation):
            self._operations[element] = None
            return _nothing
        position = self._position.setdefault(element, len(self._position))
        return itemgetter(position)

    def _element(self, fetch: Any) -> Tensor | Operation:
        try:
            element: Tensor | Operation = self._graph.as_graph_element(fetch)
        except TypeError as error:
            raise TypeError(
                f"Fetch argument {fetch!r} has invalid type {type(fetch)!r}, must be a string or "
                f"Tensor. ({error})"
            ) from None
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"Fetch argument {fetch!r} cannot be interpreted as a Tensor. ({error.args[0]})"
            ) from None
        return element

    def _sequence_packer(self, structure: Sequence[Any]) -> Pack:
        cls = type(structure)
        items = [self._packer(item) for item in structure]
        if issubclass(cls, list):
            return lambda values: [item(values) for item in items]
        if hasattr(cls, "_make"):  # a named tuple
            make = cls._make
            return lambda values: make([item(values) for item in items])
        return lambda values: tuple([item(values) for item in items])

    def _mapping_packer(self, structure: Mapping[Any, Any]) -> Pack:
        cls: Any = type(structure)
        items = [(key, self._packer(item)) for key, item in structure.items()]
        make = dict if not hasattr(cls, "__setitem__") or hasattr(cls, "__missing__") else cls

        def pack(values: Sequence[Any]) -> Any:
            result: Any = make()
            for key, item in items:
                result[key] = item(values)
            return result

        return pack

    def _slices_packer(self, slices: IndexedSlices) -> Pack:
        rows = self._element_packer(slices.values)
        indices = self._element_packer(slices.indices)
        shape: Pack = _nothing
        if slices.dense_shape is not None:
            shape = self._element_packer(slices.dense_shape)
        return lambda values: IndexedSlicesValue(rows(values), indices(values), shape(values))


def _nothing(values: Sequence[Any]) -> None:
    return None
