"""From a checkpoint's entries to the variables of a task, and back.

Thread rule: pure functions, but for the store.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint.casting import may_cast
from paramserve_core.checkpoint.columns import ABSENT, Integers, Rows, Tensors
from paramserve_core.checkpoint.entries import EntryList
from paramserve_core.checkpoint.index import Index
from paramserve_core.checkpoint.runs import is_small
from paramserve_core.checkpoint.shard import TakenTensor
from paramserve_core.checkpoint.slices import Box, box_of_slice
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import (
    InvalidArgumentError,
    NotFoundError,
    OpError,
)
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.updating import read_all
from paramserve_core.executor.variable import Variable
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1.checkpoint_service_pb2 import CheckpointEntry
from paramserve_protos.v1.tensor_shape_pb2 import TensorShapeProto

_MOST_COMPARED: Final = 20_000
"""Names beyond this many are not searched for ones that a wrong name resembles."""


def take(store: VariableStore, wanted: EntryList) -> list[TakenTensor]:
    """The values of the entries' variables, leased, all of one moment.

    Raises:
        FailedPreconditionError: a variable has no value.
        InvalidArgumentError: an entry that does not fit its variable.
    """
    variables = wanted.variables(store)
    known: dict[Hashable, tuple[DType, Box, tuple[int, ...]]] = {}
    taken = []
    new = tuple.__new__  # A third of the time, of a class that adds nothing to it.
    for number, (key, kind, variable, array) in enumerate(
        zip(wanted.keys, wanted.kinds, variables, read_all(variables), strict=True)
    ):
        shape = array.shape
        found = known.get((kind, shape))
        if found is None or found[0] is not variable.dtype:
            found = known[kind, shape] = _taken(wanted.entries[number], variable, shape)
        dtype, box, full_shape = found
        taken.append(new(TakenTensor, (key, dtype, full_shape, box, array)))
    return taken


def _taken(
    entry: CheckpointEntry, variable: Variable, shape: tuple[int, ...]
) -> tuple[DType, Box, tuple[int, ...]]:
    """The type of an entry's tensor, the part that the variable has, and the tensor's shape."""
    dtype = _dtype(entry)
    if variable.dtype is not dtype:
        raise InvalidArgumentError(
            None,
            None,
            f"{entry.node}: the saver has it as {dtype.name}, the variable is "
            f"{variable.dtype.name}; make the saver from the graph that made the variable",
        )
    if not entry.HasField("slice"):
        return dtype, Box.whole(shape), shape
    box = _box(entry)
    if box.shape != shape:
        raise InvalidArgumentError(
            None,
            None,
            f"{entry.node}: a part of shape {list(box.shape)} of {entry.key!r}, but its value has "
            f"shape {list(shape)}",
        )
    return dtype, box, tuple(entry.slice.full_shape)


class Fit(NamedTuple):
    """What entries of one kind take of stored tensors of one form.

    Attributes:
        dtype: the variable's.
        stored: the tensor's; another one only if that was asked for.
        declared: the shape that the graph gives the variable.
        box: which part of the tensor.
        shape: that the part gets in the variable.
        is_declared: whether the graph declares just that shape.
        is_small: whether it is all of a tensor that can be read with its neighbours, as it is.
        numpy_dtype: the type of the value's elements.
        nbytes: what the value takes; 0 for strings.
    """

    dtype: DType
    stored: DType
    declared: TensorShape
    box: Box
    shape: tuple[int, ...]
    is_declared: bool
    is_small: bool
    numpy_dtype: np.dtype[Any]
    nbytes: int


class Fits:
    """What each entry takes of a checkpoint's tensors.

    Attributes:
        kinds: all that are different.
        kind: for each entry, which of them.
        row: for each entry, the row of its tensor, or `ABSENT`.
    """

    def __init__(self, kinds: Sequence[Fit], kind: Integers, row: Integers) -> None:
        self.kinds = kinds
        self.kind = kind
        self.row = row

    def __getitem__(self, number: int) -> Fit:
        return self.kinds[int(self.kind[number])]

    @property
    def nbytes(self) -> int:
        """What all values take."""
        counts = np.bincount(self.kind, minlength=len(self.kinds)).tolist()
        return sum(count * fit.nbytes for count, fit in zip(counts, self.kinds, strict=True))

    @property
    def undeclared(self) -> list[int]:
        """The entries whose values have not just the shape that the graph declares."""
        return np.flatnonzero(~self._those(lambda fit: fit.is_declared)).tolist()

    def small(self, rows: Rows) -> NDArray[np.bool_]:
        """For each entry whether it takes a tensor that can be read with its neighbours."""
        found: NDArray[np.bool_] = (self.row != ABSENT) & self._those(lambda fit: fit.is_small)
        widths = np.array([fit.numpy_dtype.itemsize for fit in self.kinds], np.int64)[self.kind]
        # Elements stay where they are read, which has to be a place for them.
        found[found] = rows.offset[self.row[found]] % widths[found] == 0
        return found

    def _those(self, is_one: Callable[[Fit], bool]) -> NDArray[np.bool_]:
        return np.array([is_one(fit) for fit in self.kinds], np.bool_)[self.kind]


def fits(index: Index, wanted: EntryList, path: str) -> Fits:
    """What each entry takes of a checkpoint's tensors.

    Args:
        index: the checkpoint's.
        wanted: the entries.
        path: where the checkpoint is, for errors.

    Raises:
        NotFoundError: there is no tensor of a name.
        InvalidArgumentError: the type or shape of one is not the variable's.
    """
    tensors = index.tensors
    kind, row = np.zeros(len(wanted), np.int64), np.full(len(wanted), ABSENT, np.int64)
    kinds: list[Fit] = []
    if isinstance(tensors, Tensors):
        row = tensors.find_rows(wanted.keys)
        numbers = np.flatnonzero(row != ABSENT)
        forms = tensors.rows.form[row[numbers]]
        pairs = np.array(wanted.kinds, np.int64)[numbers] * len(tensors.rows.forms) + forms
        _, firsts, kind[numbers] = np.unique(pairs, return_index=True, return_inverse=True)
        kinds = [_fit(index, wanted.entries[number], path) for number in numbers[firsts].tolist()]
    known: dict[Hashable, int] = {}
    for number in np.flatnonzero(row == ABSENT).tolist():
        key = wanted.keys[number]
        tensor = tensors.get(key)
        if tensor is None:
            raise missing_key(key, tensors, path)
        form = (wanted.kinds[number], tensor.shape, tensor.dtype.name)
        if form not in known:
            known[form] = len(kinds)
            kinds.append(_fit(index, wanted.entries[number], path))
        kind[number] = known[form]
    return Fits(kinds, kind, row)


def _fit(index: Index, entry: CheckpointEntry, path: str) -> Fit:
    box = wanted_part(index, entry, path)
    shape = shape_for(entry, box.shape)
    dtype = _dtype(entry)
    declared = _declared(entry)
    tensor = index.tensors[entry.key]
    return Fit(
        dtype=dtype,
        stored=tensor.dtype,
        declared=declared,
        box=box,
        shape=shape,
        is_declared=declared.is_fully_defined() and declared.is_compatible_with(shape),
        is_small=(
            tensor.dtype is dtype and box.is_whole(tensor.shape) and is_small(index.layout, tensor)
        ),
        numpy_dtype=np.dtype(dtype.as_numpy_dtype),
        nbytes=box.size * dtype.size,
    )


def wanted_part(index: Index, entry: CheckpointEntry, path: str) -> Box:
    """Which part of a stored tensor an entry's variable takes.

    Raises:
        NotFoundError: there is no such tensor.
        InvalidArgumentError: its type or shape is not the variable's.
    """
    tensor = index.tensors.get(entry.key)
    if tensor is None:
        raise missing_key(entry.key, index.tensors, path)
    dtype = _dtype(entry)
    if tensor.dtype is not dtype:
        can = may_cast(tensor.dtype, dtype)
        if not (can and entry.cast):
            advice = "restore with Saver(cast=True)" if can else "it cannot be cast to that"
            raise InvalidArgumentError(
                None,
                None,
                f"{entry.key}: original dtype {tensor.dtype.name} in the checkpoint {path!r}, "
                f"{dtype.name} in the graph; {advice}, or restore into a variable of type "
                f"{tensor.dtype.name}",
            )
    if entry.HasField("slice"):
        box, wanted = _box(entry), TensorShape(entry.slice.full_shape)
    else:
        box, wanted = Box.whole(tensor.shape), _shape(entry.shape.SerializeToString())
        if entry.reshape and wanted.num_elements() == math.prod(tensor.shape):
            return box
    if not wanted.is_compatible_with(tensor.shape):
        raise InvalidArgumentError(
            None,
            None,
            f"{entry.key}: Assign requires shapes of both tensors to match: shape "
            f"{TensorShape(tensor.shape)} in the checkpoint {path!r}, {wanted} in the graph; "
            "restore it under another name with Saver({...}), or with as many elements and "
            "Saver(reshape=True)",
        )
    return box


def missing_key(key: str, keys: Iterable[str], path: str) -> OpError:
    """The error of a name that is not in a checkpoint; it lists names that resemble it."""
    known = list(keys)
    near = difflib.get_close_matches(key, known[:_MOST_COMPARED], n=3, cutoff=0.5)
    if near:
        hint = "it has " + ", ".join(map(repr, near))
    elif len(known) <= 5:
        hint = "it has " + (", ".join(map(repr, sorted(known))) or "no tensors")
    else:
        hint = f"none of its {len(known)} names resembles it"
    return NotFoundError(
        None,
        None,
        f"Key {key} not found in checkpoint {path!r}; {hint}; Saver([...]) restores some variables "
        "only, Saver({name: variable}) those of other names",
    )


def shape_for(entry: CheckpointEntry, stored: Sequence[int]) -> tuple[int, ...]:
    """The shape that a value of shape `stored` gets in the entry's variable."""
    declared = _declared(entry)
    if entry.reshape and declared.num_elements() == math.prod(stored):
        return tuple(int(dim) for dim in declared)
    return tuple(stored)


def _declared(entry: CheckpointEntry) -> TensorShape:
    if entry.HasField("shape"):
        return _shape(entry.shape.SerializeToString())
    return TensorShape(list(entry.slice.shape) if entry.HasField("slice") else None)


def _dtype(entry: CheckpointEntry) -> DType:
    try:
        return _base_dtype(entry.dtype)
    except TypeError:
        raise InvalidArgumentError(
            None, None, f"{entry.key}: {entry.dtype} is not a known element type"
        ) from None


@lru_cache(maxsize=1024)
def _shape(message: bytes) -> TensorShape:
    """The shape of a message; kept, because the many variables of a model have few shapes."""
    return TensorShape(TensorShapeProto.FromString(message))


@lru_cache(maxsize=64)
def _base_dtype(number: int) -> DType:
    return as_dtype(number).base_dtype


def _box(entry: CheckpointEntry) -> Box:
    box = box_of_slice(entry.slice)
    if not box.fits(entry.slice.full_shape):
        raise InvalidArgumentError(
            None,
            None,
            f"{entry.node}: {list(box.shape)} from {list(box.begin)} is no part of a tensor of "
            f"shape {list(entry.slice.full_shape)}",
        )
    return box
