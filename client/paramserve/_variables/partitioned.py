"""A variable in parts, each a variable by itself, perhaps on a server of its own.

Thread rule: immutable; reading it as a tensor adds to the graph of the calling thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from paramserve._framework.apply import apply_op
from paramserve._framework.convert import (
    convert_to_tensor,
    register_tensor_conversion_function,
)
from paramserve._framework.graph import Graph
from paramserve._framework.tensor import Tensor
from paramserve._ops import indexing
from paramserve._variables.save_slice import SaveSliceInfo
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape


class PartitionedVariable:
    """The parts of a variable that was cut along one dimension.

    Iterating gives its parts. Where a tensor is wanted it stands for the parts put together,
    which brings the whole of it to one place; `nn.embedding_lookup` works on the parts.

    Args:
        name: the name of the whole.
        shape: its shape.
        dtype: its type.
        variable_list: the parts in order, each knowing its place.
        partitions: the number of parts per dimension.

    Raises:
        TypeError: a part is no variable.
        ValueError: there are no parts, or not as many as `partitions` says.
    """

    def __init__(
        self,
        name: str,
        shape: TensorShape,
        dtype: DType,
        variable_list: Sequence[Variable],
        partitions: Sequence[int],
    ) -> None:
        for part in variable_list:
            if not isinstance(part, Variable):
                raise TypeError(f"{name}: a part must be a Variable, got {part!r}")
        if not variable_list or int(np.prod(partitions)) != len(variable_list):
            raise ValueError(
                f"{name}: {len(variable_list)} parts for the partitions {list(partitions)}"
            )
        self._name = name
        self._shape = shape
        self._dtype = dtype
        self._parts = tuple(variable_list)
        self._partitions = tuple(partitions)
        self._element: Tensor | None = None

    @property
    def name(self) -> str:
        """The name of the whole, as checkpoints have it."""
        return self._name

    @property
    def dtype(self) -> DType:
        """The type of the elements."""
        return self._dtype

    @property
    def shape(self) -> TensorShape:
        """The shape of the whole."""
        return self._shape

    def get_shape(self) -> TensorShape:
        """The shape of the whole."""
        return self._shape

    @property
    def graph(self) -> Graph:
        """The graph of the parts."""
        return self._parts[0].graph

    @property
    def partitions(self) -> tuple[int, ...]:
        """The number of parts per dimension."""
        return self._partitions

    def as_tensor(self) -> Tensor:
        """The whole as one tensor, put together anew by an op in the current scopes."""
        values = [part.value() for part in self._parts]
        graph = self.graph
        with graph.as_default(), graph.name_scope(None):
            joined = values[0]
            if len(values) > 1:
                axis = next(i for i, count in enumerate(self._partitions) if count > 1)
                name = f"{self._name}/ConcatPartitions/concat"
                joined = apply_op("ConcatV2", name, values=values, axis=axis)
            whole: Tensor = apply_op("Identity", self._name, input=joined)
        return whole

    def assign(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> list[Any]:
        """Ops that replace the value, each that of one part.

        Args:
            value: the value of the whole; or those of the parts, as a list or as another variable
                in the same parts.
            use_locking: of no effect, the update of each part is atomic anyway.
            name: the name of the ops.
            read_value: answer the values after the update; else the operations.

        Returns:
            One tensor for each part, its value after the update.

        Raises:
            TypeError: a value of another type.
            ValueError: a value whose shape cannot match, or not one for each part.
        """
        parts = zip(self._parts, self._cut(value), strict=True)
        return [part.assign(new, use_locking, name, read_value) for part, new in parts]

    def assign_add(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> list[Any]:
        """Ops that add to the value, each to that of one part; see `assign`."""
        parts = zip(self._parts, self._cut(value), strict=True)
        return [part.assign_add(delta, use_locking, name, read_value) for part, delta in parts]

    def assign_sub(
        self,
        value: Any,
        use_locking: bool = False,
        name: str | None = None,
        read_value: bool = True,
    ) -> list[Any]:
        """Ops that subtract from the value, each from that of one part; see `assign`."""
        parts = zip(self._parts, self._cut(value), strict=True)
        return [part.assign_sub(delta, use_locking, name, read_value) for part, delta in parts]

    def _cut(self, value: Any) -> list[Any]:
        """What belongs to each part, of a value of the whole."""
        if isinstance(value, (list, tuple, PartitionedVariable)):
            values = list(value)
            if len(values) != len(self._parts):
                raise ValueError(
                    f"{self._name}: {len(values)} values for {len(self._parts)} parts; give one "
                    "for each part, or the whole as one tensor or array"
                )
            return values
        whole = convert_to_tensor(value, self._dtype)
        if not whole.shape.is_compatible_with(self._shape):
            raise ValueError(
                f"{self._name}: a value of shape {whole.shape} for a variable of shape "
                f"{self._shape}"
            )
        places = slices_of(self._name, self._shape, self._partitions)
        return [indexing.slice(whole, list(p.var_offset), list(p.var_shape)) for p in places]

    def _get_variable_list(self) -> list[Variable]:
        return list(self._parts)

    def _get_partitions(self) -> list[int]:
        return list(self._partitions)

    def _as_graph_element(self) -> Tensor:
        """What a session fetches: the whole, put together by one op for all sessions."""
        if self._element is None:
            with self.graph.control_dependencies(None):
                self._element = self.as_tensor()
        return self._element

    def __iter__(self) -> Iterator[Variable]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return (
            f"<paramserve.PartitionedVariable '{self._name}' shape={self._shape} "
            f"dtype={self._dtype.name} partitions={list(self._partitions)}>"
        )


def slices_of(name: str, shape: TensorShape, partitions: Sequence[int]) -> list[SaveSliceInfo]:
    """The places of the parts, in order; the first ones are longer by one where need be.

    Args:
        name: the name of the whole.
        shape: its shape, fully defined.
        partitions: the number of parts per dimension.

    Raises:
        ValueError: not one number per dimension, one that is not positive or larger than the
            dimension, or more than one dimension to cut.
    """
    sizes = [int(size or 0) for size in shape.as_list()]
    if len(partitions) != len(sizes):
        raise ValueError(
            f"{name}: Partitioner returned a partition list that does not match the Variable's "
            f"rank: {list(partitions)} vs. {shape}"
        )
    if any(count < 1 for count in partitions):
        raise ValueError(
            f"{name}: Partitioner returned zero partitions for some axes: {list(partitions)}"
        )
    axes = [axis for axis, count in enumerate(partitions) if count > 1]
    if len(axes) > 1:
        raise ValueError(
            f"{name}: Can only slice a variable along one dimension: shape: {shape}, "
            f"partitioning: {list(partitions)}"
        )
    axis = axes[0] if axes else 0
    count = int(partitions[axis]) if axes else 1
    if axes and count > sizes[axis]:
        raise ValueError(
            f"{name}: {count} parts along dimension {axis}, which has only {sizes[axis]} elements"
        )
    places = []
    begin = 0
    for i in range(count):
        part, offset = list(sizes), [0] * len(sizes)
        if axes:
            part[axis] = sizes[axis] // count + (i < sizes[axis] % count)
            offset[axis] = begin
            begin += part[axis]
        places.append(SaveSliceInfo(name, tuple(sizes), tuple(offset), tuple(part)))
    return places


def _to_tensor(
    variable: PartitionedVariable,
    dtype: DType | None = None,
    name: str | None = None,
    as_ref: bool = False,
) -> Any:
    if dtype is not None and not dtype.is_compatible_with(variable.dtype):
        raise ValueError(
            f"Incompatible type conversion requested to type '{dtype.name}' for variable of type "
            f"'{variable.dtype.name}': {variable!r}"
        )
    if as_ref:
        raise TypeError(f"{variable!r} has no reference of its own; change its parts one by one")
    return variable.as_tensor()


register_tensor_conversion_function(PartitionedVariable, _to_tensor)
