"""Small tensors, read many at a time.

What lies close together in a file is read with one call, and each tensor is checked in what was
read and copied from it into an array of its own. So of 100,000 tensors each costs a checksum and an
array, not a call to the disk and the objects by which `assembly` puts large ones together.

One thread takes tensors out of what was read while others read: each of those steps is so short
that threads doing them side by side would mostly take the interpreter from each other, which was
measured to take twice as long.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.crew import for_each
from paramserve_core.checkpoint.disk import DiskFile
from paramserve_core.checkpoint.index import Layout, Part, StoredTensor, damaged
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


class SmallTensor(NamedTuple):
    """A tensor that is wanted whole.

    Attributes:
        number: which of those that are wanted.
        key: its name.
        part: where it is.
        dtype: of its elements.
        shape: that the array is to have, of as many elements.
    """

    number: int
    key: str
    part: Part
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def is_small(layout: Layout, tensor: StoredTensor) -> bool:
    """Whether a tensor is read with its neighbours, where it is in one part and wanted whole."""
    is_number = tensor.dtype is not dtypes.string
    return layout is Layout.SAFETENSORS and is_number and 0 < tensor.nbytes <= SMALL_BYTES


def read_small(
    runtime: Runtime,
    files: Mapping[str, DiskFile],
    wanted: Sequence[SmallTensor],
    arrays: list[Array | None],
) -> None:
    """Reads and checks tensors; puts the array of each, which owns its memory, into `arrays`.

    Raises:
        DataLossError: a file is damaged.
    """
    blocks: deque[Array] = deque()
    turn = threading.Lock()

    def read(run: Sequence[SmallTensor]) -> None:
        first = run[0].part.offset
        end = run[-1].part.offset + run[-1].part.nbytes
        try:
            block = blocks.pop()
        except IndexError:
            block = np.empty(_RUN_BYTES, np.uint8)
        content = block.data[: end - first]
        files[run[0].part.file].read_into(content, first)
        with turn:
            for tensor in run:
                arrays[tensor.number] = _taken_from(content, first, tensor)
        blocks.append(block)

    for_each(runtime, _runs(wanted), read)


def _runs(wanted: Sequence[SmallTensor]) -> Iterator[Sequence[SmallTensor]]:
    ordered = sorted(wanted, key=lambda tensor: (tensor.part.file, tensor.part.offset))
    begin = start = end = 0
    for number, tensor in enumerate(ordered):
        _, file, offset, nbytes, _, _, _ = tensor.part
        if number > begin and (
            file != ordered[begin].part.file
            or offset > end + _GAP_BYTES
            or offset + nbytes > start + _RUN_BYTES
        ):
            yield ordered[begin:number]
            begin = number
        if number == begin:
            start = offset
        end = offset + nbytes
    if ordered:
        yield ordered[begin:]


def _taken_from(content: memoryview, first: int, tensor: SmallTensor) -> Array:
    _, key, part, dtype, shape = tensor
    _, _, offset, nbytes, (checksum,), _, _ = part
    begin = offset - first
    if crc32(content[begin : begin + nbytes]) != checksum:
        raise damaged(key, part, 0, nbytes, "the checksum does not match")
    array: Array = np.ndarray(shape, dtype, content, begin).copy()
    if dtype.kind == "b":
        try:
            check_values(array)
        except MalformedError as error:
            raise DataLossError(None, None, f"{key}: {error}") from None
    fix_byte_order(array)
    return array
