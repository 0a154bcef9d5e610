"""Small tensors, read many at a time.

What lies close together in a file is read with one call into one block of memory, and each tensor
is checked there and stays there: its array is a view of the block. So of 100,000 tensors each costs
a checksum and a view, not a call to the disk, memory of its own, and the objects by which
`assembly` puts large ones together.

A block lives as long as one of its arrays, which may be until each variable has been updated. Its
tensors are at least half of it, or else their arrays are copies; so blocks that are left for the
sake of a few take no more than twice what was restored.

One thread takes tensors out of what was read while others read: each of those steps is so short
that threads doing them side by side would mostly take the interpreter from each other, which was
measured to take twice as long.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.columns import Integers, Rows
from paramserve_core.checkpoint.crew import for_each
from paramserve_core.checkpoint.disk import DiskFile
from paramserve_core.checkpoint.index import Layout, StoredTensor, damaged
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.stored import check_values, fix_byte_order
from paramserve_core.errors import DataLossError
from paramserve_core.runtime import Runtime

Array = NDArray[Any]

SMALL_BYTES: Final = 32 << 10
"""The largest tensor that is read so: one takes as long to copy as `assembly` to begin with it."""

_RUN_BYTES: Final = 1 << 20
_GAP_BYTES: Final = 4 << 10
"""So much that nobody wants is read along rather than read around."""

_ALIGNMENT: Final = 16
"""At such an address memory begins, and elements of any type may."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SmallTensors:
    """Tensors that are wanted whole, of which each has one checksum.

    Attributes:
        rows: where all tensors are.
        row: which of them are wanted.
        kind: for each one that is wanted, which of `kinds` it is.
        kinds: type and shape of the arrays; the shape has as many elements as what is stored.
    """

    rows: Rows
    row: Integers
    kind: Integers
    kinds: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]

    def __len__(self) -> int:
        return len(self.row)

    @property
    def files(self) -> list[str]:
        """The files that they are in."""
        numbers = np.unique(self.rows.file[self.row]).tolist()
        return [self.rows.files[number] for number in numbers]

    def are_in(self, files: Mapping[str, DiskFile]) -> NDArray[np.bool_]:
        """For each one that is wanted whether it is in one of these files."""
        is_there = np.array([name in files for name in self.rows.files], np.bool_)
        return is_there[self.rows.file[self.row]]

    def taken(self, which: NDArray[Any] | slice) -> SmallTensors:
        """Those of them that an index or a mask chooses."""
        return SmallTensors(
            rows=self.rows, row=self.row[which], kind=self.kind[which], kinds=self.kinds
        )


def is_small(layout: Layout, tensor: StoredTensor) -> bool:
    """Whether a tensor is read with its neighbours, where it is wanted whole."""
    if layout is not Layout.SAFETENSORS or tensor.dtype is dtypes.string:
        return False
    return (
        0 < tensor.nbytes <= SMALL_BYTES
        and len(tensor.parts) == 1
        and len(tensor.parts[0].checksums) == 1
        and tensor.parts[0].box.is_whole(tensor.shape)
    )


def read_small(
    runtime: Runtime, files: Mapping[str, DiskFile], wanted: SmallTensors
) -> list[Array]:
    """Reads and checks tensors.

    Returns:
        An array for each; those of neighbours may be views of one block, which nobody else has.

    Raises:
        DataLossError: a file is damaged.
    """
    rows = wanted.rows
    order = np.lexsort((rows.offset[wanted.row], rows.file[wanted.row]))
    ordered = wanted.taken(order)
    begin = rows.offset[ordered.row]
    end = begin + rows.sizes()[ordered.row]
    arrays: list[Any] = [None] * len(wanted)
    turn = threading.Lock()

    def read(run: slice) -> None:
        first = int(begin[run.start])
        skipped = first % _ALIGNMENT  # As much is aligned in memory as in the file.
        block = np.empty(skipped + int(end[run.stop - 1]) - first, np.uint8)
        file = rows.files[rows.file[ordered.row[run.start]]]
        files[file].read_into(block.data[skipped:], first)
        with turn:
            begins = (begin[run] - (first - skipped)).tolist()
            ends = (end[run] - (first - skipped)).tolist()
            found = _taken_from(block, begins, ends, ordered.taken(run))
            for number, array in zip(order[run].tolist(), found, strict=True):
                arrays[number] = array

    for_each(runtime, _runs(rows.file[ordered.row], begin, end), read)
    return arrays


def _runs(file: Integers, begin: Integers, end: Integers) -> Iterator[slice]:
    """Which tensors, ordered by their places, to read with one call."""
    is_apart = (file[1:] != file[:-1]) | (begin[1:] > end[:-1] + _GAP_BYTES)
    bounds = [0, *(np.flatnonzero(is_apart) + 1).tolist(), len(file)]
    for start, stop in itertools.pairwise(bounds):
        first = start
        while first < stop:
            limit = int(begin[first]) + _RUN_BYTES
            last = first + int(np.searchsorted(end[first:stop], limit, side="right"))
            yield slice(first, last)
            first = last


def _taken_from(
    block: Array, begins: list[int], ends: list[int], wanted: SmallTensors
) -> list[Array]:
    """The arrays of tensors in a block, in their order; `begins` and `ends` are places there."""
    rows, content = wanted.rows, block.data
    found = [crc32(content[begin:end]) for begin, end in zip(begins, ends, strict=True)]
    expected = rows.checksums[rows.first[wanted.row]].tolist()
    if found != expected:
        at = next(i for i, checksum in enumerate(found) if checksum != expected[i])
        row = int(wanted.row[at])
        part = rows.part(row)
        raise damaged(rows.names[row], part, 0, part.nbytes, "the checksum does not match")
    numbers = wanted.kind.tolist()
    kinds = [wanted.kinds[number] for number in numbers]
    arrays: list[Array] = [
        np.ndarray(shape, dtype, block, begin)
        for begin, (dtype, shape) in zip(begins, kinds, strict=True)
    ]
    if any(wanted.kinds[number][0].kind == "b" for number in set(numbers)):
        for row, array in zip(wanted.row.tolist(), arrays, strict=True):
            try:
                check_values(array)
            except MalformedError as error:
                raise DataLossError(None, None, f"{rows.names[row]}: {error}") from None
    fix_byte_order(*arrays)
    if 2 * sum(map(int.__sub__, ends, begins)) < len(content):
        return [array.copy() for array in arrays]
    return arrays
