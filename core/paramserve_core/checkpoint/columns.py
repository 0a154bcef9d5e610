"""The tensors of a checkpoint in columns: what many of them have in common is there once.

An object for each of 100,000 tensors takes longer to make than the tensor to read. So what is
stored are rows, of which each is a name, the number of a form (type, shape and size, of which a
model has few), and a place; and a tensor becomes an object when somebody asks for it.

Thread rule: immutable objects; every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint.index import (
    Part,
    StoredTensor,
    chunk_count,
    stored_name,
)
from paramserve_core.checkpoint.slices import Box
from paramserve_core.dtypes import DType

Integers = NDArray[np.int64]

ABSENT: Final = -1
"""The row of a tensor that has none of its own."""


class StoredForm(NamedTuple):
    """What a part of a tensor is, wherever it is stored.

    Attributes:
        dtype: the tensor's type.
        shape: the tensor's shape.
        box: which part of it.
        nbytes: how many bytes it takes in a file.
    """

    dtype: DType
    shape: tuple[int, ...]
    box: Box
    nbytes: int

    @property
    def is_whole(self) -> bool:
        """Whether the part is all of the tensor."""
        return self.box.is_whole(self.shape)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rows:
    """Parts of tensors that are stored, each in one place.

    Attributes:
        names: the name of each in its file.
        files: the names of the files.
        file: for each part, the number of its file.
        forms: what parts can be.
        form: for each part, the number of its form.
        offset: for each part, where in the file it begins, in bytes.
        checksums: of all parts, one part's after the other's; `uint32`.
        first: for each part, the number of its first checksum.
        chunk_bytes: how many bytes one checksum is of.
    """

    names: Sequence[str]
    files: Sequence[str]
    file: Integers
    forms: Sequence[StoredForm]
    form: Integers
    offset: Integers
    checksums: NDArray[np.uint32]
    first: Integers
    chunk_bytes: int

    def sizes(self) -> Integers:
        """How many bytes each part takes."""
        return self.of_form([form.nbytes for form in self.forms])

    def checksum_counts(self) -> Integers:
        """How many checksums each part has."""
        return self.of_form([chunk_count(form.nbytes, self.chunk_bytes) for form in self.forms])

    def checksums_in_order(self) -> NDArray[np.uint32]:
        """The checksums of all parts, in the order of these."""
        counts = self.checksum_counts()
        before = sums_before(counts)
        if np.array_equal(before, self.first) and len(self.checksums) == counts.sum():
            return self.checksums
        numbers = np.repeat(self.first - before, counts) + np.arange(counts.sum())
        found: NDArray[np.uint32] = self.checksums[numbers]
        return found

    def of_form(self, values: Sequence[int]) -> Integers:
        """For each part that of these values which belongs to its form."""
        return np.array(values, np.int64)[self.form]

    def part(self, row: int) -> Part:
        """One of them."""
        form, first = self.forms[self.form[row]], int(self.first[row])
        count = chunk_count(form.nbytes, self.chunk_bytes)
        return Part(
            box=form.box,
            file=self.files[self.file[row]],
            offset=int(self.offset[row]),
            nbytes=form.nbytes,
            checksums=tuple(self.checksums[first : first + count].tolist()),
            chunk_bytes=self.chunk_bytes,
        )


NO_ROWS: Final = Rows(
    names=(),
    files=(),
    file=np.zeros(0, np.int64),
    forms=(),
    form=np.zeros(0, np.int64),
    offset=np.zeros(0, np.int64),
    checksums=np.zeros(0, np.uint32),
    first=np.zeros(0, np.int64),
    chunk_bytes=1,
)
"""What there is in columns of the other formats."""


class Tensors(Mapping[str, StoredTensor]):
    """Tensors by name, of which each becomes an object when it is asked for.

    Args:
        rows: all parts of all tensors; those of one make it up.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._parts: dict[str, list[int]] = {}
        self._is_whole: NDArray[np.bool_] | None = None
        cut = [number for number, form in enumerate(rows.forms) if not form.is_whole]
        if cut:
            self._is_whole = ~np.isin(rows.form, cut)
            for row in np.flatnonzero(~self._is_whole).tolist():
                box = rows.forms[rows.form[row]].box
                self._parts.setdefault(key_of_part(rows.names[row], box), []).append(row)

    def __getitem__(self, key: str) -> StoredTensor:
        row = self._row_of.get(key)
        own = self._parts[key] if row is None else [row]
        form = self.rows.forms[self.rows.form[own[0]]]
        return StoredTensor(form.dtype, form.shape, tuple([self.rows.part(row) for row in own]))

    def __contains__(self, key: object) -> bool:
        return key in self._row_of or key in self._parts

    def __iter__(self) -> Iterator[str]:
        return chain(self._row_of, self._parts)

    def __len__(self) -> int:
        return len(self._row_of) + len(self._parts)

    @property
    def in_parts(self) -> Mapping[str, Sequence[int]]:
        """The rows of each tensor that is not stored whole."""
        return self._parts

    def is_whole(self, key: str) -> bool:
        """Whether there is a tensor of that name that is stored whole."""
        return key in self._row_of

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors in files."""
        return int(self.rows.sizes().sum())

    def find_rows(self, keys: Sequence[str]) -> Integers:
        """The row of each tensor; `ABSENT` for those that are in parts, or not there."""
        if self._is_whole is None and keys == self.rows.names:
            return np.arange(len(keys))
        return np.array(list(map(self._row_of.get, keys, repeat(ABSENT))), np.int64)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        """The rows of the tensors that are stored whole."""
        names = self.rows.names
        if self._is_whole is None:
            return dict(zip(names, range(len(names)), strict=True))
        return {names[row]: row for row in np.flatnonzero(self._is_whole).tolist()}


def whole_tensors(shards: Sequence[Rows]) -> Tensors | None:
    """The tensors of several files, ordered by name; None if some are in parts, or have one name.

    Args:
        shards: what is in each file; `chunk_bytes` is the same.
    """
    names = list(chain.from_iterable(shard.names for shard in shards))
    is_whole = all(form.is_whole for shard in shards for form in shard.forms)
    if not shards or not is_whole or len(set(names)) < len(names):
        return None
    numbers: dict[StoredForm, int] = {}
    forms = []
    for shard in shards:
        own = [numbers.setdefault(form, len(numbers)) for form in shard.forms]
        forms.append(shard.of_form(own))
    known = sums_before(np.array([len(shard.checksums) for shard in shards]))
    order = sorted(range(len(names)), key=names.__getitem__)
    return Tensors(
        Rows(
            names=[names[row] for row in order],
            files=[file for shard in shards for file in shard.files],
            file=np.repeat(np.arange(len(shards)), [len(shard.names) for shard in shards])[order],
            forms=list(numbers),
            form=np.concatenate(forms)[order],
            offset=np.concatenate([shard.offset for shard in shards])[order],
            checksums=np.concatenate([shard.checksums for shard in shards]),
            first=np.concatenate(
                [shard.first + before for shard, before in zip(shards, known, strict=True)]
            )[order],
            chunk_bytes=shards[0].chunk_bytes,
        )
    )


def sums_before(counts: Integers) -> Integers:
    """For each count the sum of those before it."""
    sums: Integers = np.cumsum(counts) - counts
    return sums


def in_columns(tensors: Mapping[str, StoredTensor], files: Iterable[str], chunk: int) -> Tensors:
    """The same tensors in columns.

    Args:
        tensors: by name.
        files: that they are in.
        chunk: `Part.chunk_bytes` of all of them.
    """
    if isinstance(tensors, Tensors):
        return tensors
    numbers = {name: number for number, name in enumerate(files)}
    forms: dict[StoredForm, int] = {}
    names, file, form, offset, checksums, first = [], [], [], [], list[int](), []
    for key, (dtype, shape, parts) in tensors.items():
        for part in parts:
            names.append(stored_name(key, part.box, shape))
            kind = StoredForm(dtype, shape, part.box, part.nbytes)
            form.append(forms.setdefault(kind, len(forms)))
            file.append(numbers[part.file])
            offset.append(part.offset)
            first.append(len(checksums))
            checksums.extend(part.checksums)
    return Tensors(
        Rows(
            names=names,
            files=list(numbers),
            file=np.array(file, np.int64),
            forms=list(forms),
            form=np.array(form, np.int64),
            offset=np.array(offset, np.int64),
            checksums=np.array(checksums, np.uint32),
            first=np.array(first, np.int64),
            chunk_bytes=chunk,
        )
    )


def key_of_part(name: str, box: Box) -> str:
    """The tensor's name of the name that a part of it has in its file; see `stored_name`."""
    return name.removesuffix(str(box))
