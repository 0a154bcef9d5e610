"""Putting variables' values together from byte ranges of a checkpoint's files.

A value is planned first: which parts of the stored tensor it needs, and of those which chunks,
since a chunk is the least that can be checked. What is planned are *pieces*, byte ranges with a
place in memory where they go: straight into the value where that is possible. Pieces then arrive
in any order, from this disk or from another task, and a chunk is checked when its last piece is
there.

A value that is complete has passed every check. One that is not is never given out.

Thread rule: pieces may be filled by several threads at a time, each piece once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.index import Index, Layout, Part, StoredTensor, damaged
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.checkpoint.slices import Box
from paramserve_core.checkpoint.stored import check_values, fix_byte_order, unpack_strings
from paramserve_core.checkpoint.tf_bundle import check_numbers, unpack_bundle_strings
from paramserve_core.checkpoint.tf_v1 import decode_record
from paramserve_core.errors import DataLossError

Array = NDArray[Any]

PIECE_BYTES: Final = 32 << 20
"""The largest piece: what one message between tasks carries."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A byte range of a file and the memory that it goes to."""

    file: str
    offset: int
    memory: memoryview
    chunk: _Chunk

    @property
    def nbytes(self) -> int:
        """How many bytes."""
        return len(self.memory)

    def arrived(self) -> None:
        """The bytes are in `memory`.

        Raises:
            DataLossError: with them a chunk is complete, and it is damaged.
        """
        self.chunk.piece_arrived()


class _Chunk:
    """Consecutive bytes that are checked together."""

    __slots__ = ("_lock", "_missing", "_verify")

    def __init__(self, pieces: int, verify: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._missing = pieces
        self._verify = verify

    def piece_arrived(self) -> None:
        with self._lock:
            self._missing -= 1
            is_complete = not self._missing
        if is_complete:
            self._verify()


class Value:
    """One value that is being put together.

    Args:
        index: the checkpoint's.
        key: the stored tensor.
        box: the wanted part of it.
        shape: that of the finished array, of as many elements; the box's if it is None.
    """

    def __init__(
        self,
        index: Index,
        key: str,
        box: Box,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self._layout = index.layout
        self._key = key
        self._tensor: StoredTensor = index.tensors[key]
        self._box = box
        # A checkpoint may claim any shape. An array of numbers takes no memory before they arrive;
        # one of strings does, so it is made when all of them are there.
        self._shape = box.shape if shape is None else shape
        self._owner: Array = np.empty((), np.object_)
        if self._tensor.dtype is not dtypes.string:
            try:
                self._owner = np.empty(self._shape, self._tensor.dtype.as_numpy_dtype)
            except ValueError as error:
                raise MemoryError(f"{key}: {error}") from None
            self._array = self._owner.reshape(box.shape)
        self._decoded_parts: list[tuple[Box, Array]] = []
        self._last_steps: list[Callable[[], None]] = []
        self.pieces: list[Piece] = list(self._plan())

    def finish(self) -> Array:
        """The value, once every piece has arrived: an array of its own memory, not a view.

        Raises:
            DataLossError: what is stored is no value of the tensor's type.
        """
        is_text = self._tensor.dtype is dtypes.string
        for step in self._last_steps:
            step()
        self._last_steps.clear()
        self.pieces.clear()  # They know this object, which would wait for the collector of cycles.
        if is_text:
            self._owner = np.empty(self._shape, np.object_)
            self._array = self._owner.reshape(self._box.shape)
            for box, values in self._decoded_parts:
                self._array[box.within(self._box)] = values
        else:
            fix_byte_order(self._owner)
            try:
                check_values(self._owner)
            except MalformedError as error:
                raise DataLossError(None, None, f"{self._key}: {error}") from None
        return self._owner

    def _plan(self) -> Iterator[Piece]:
        for part in self._tensor.parts:
            is_all = part.box is self._box and part.nbytes > 0
            common = self._box if is_all else part.box.intersection(self._box)
            if common is None:
                continue
            if self._tensor.dtype is dtypes.string or self._layout is Layout.TENSORFLOW_V1:
                yield from self._decoded(part, common)
                continue
            rows = common.rows_in(part.box)
            target = common.rows_in(self._box)
            if rows is not None and target is not None:
                yield from self._direct(part, rows, target[0])
            else:
                yield from self._copied(part, common)

    def _direct(self, part: Part, rows: tuple[int, int], target: int) -> Iterator[Piece]:
        """Reads a range of elements to where they belong."""
        width = self._tensor.dtype.size
        first, last = rows[0] * width, rows[1] * width
        memory = self._array.reshape(-1).view(np.uint8).data
        shift = target * width - first
        for begin in range(first - first % part.chunk_bytes, last, part.chunk_bytes):
            end = min(begin + part.chunk_bytes, part.nbytes)
            if begin >= first and end <= last:
                yield from self._chunk(part, begin, memory[begin + shift : end + shift])
                continue
            # The edge of the range lies within the chunk, which must be read to be checked.
            aside = memoryview(bytearray(end - begin))
            low, high = max(begin, first), min(end, last)
            self._last_steps.append(
                _copying(memory[low + shift : high + shift], aside[low - begin : high - begin])
            )
            yield from self._chunk(part, begin, aside)

    def _copied(self, part: Part, common: Box) -> Iterator[Piece]:
        """Reads a whole part aside and copies from it what is wanted."""
        aside = np.empty(part.box.shape, self._array.dtype)
        target = self._array[common.within(self._box)]
        source = aside[common.within(part.box)]
        self._last_steps.append(lambda: np.copyto(target, source))
        yield from self._all_chunks(part, aside.reshape(-1).view(np.uint8).data)

    def _decoded(self, part: Part, common: Box) -> Iterator[Piece]:
        """Reads a whole part aside, whose bytes are not its elements."""
        aside = memoryview(bytearray(part.nbytes))

        def decode() -> None:
            try:
                values = self._decode(part, aside)
            except MalformedError as error:
                raise damaged(self._key, part, 0, part.nbytes, str(error)) from None
            found = values[common.within(part.box)]
            if self._tensor.dtype is dtypes.string:
                self._decoded_parts.append((common, found))
            else:
                self._array[common.within(self._box)] = found

        self._last_steps.append(decode)
        yield from self._all_chunks(part, aside)

    def _decode(self, part: Part, content: memoryview) -> Array:
        shape = part.box.shape
        if self._layout is Layout.TENSORFLOW_V1:
            return decode_record(content, part.record, self._key, self._tensor.dtype, shape)
        if self._layout is Layout.TENSORFLOW_V2:
            return unpack_bundle_strings(content, part.checksums[0], shape)
        return unpack_strings(content, shape)

    def _all_chunks(self, part: Part, memory: memoryview) -> Iterator[Piece]:
        for begin in range(0, part.nbytes, part.chunk_bytes):
            yield from self._chunk(part, begin, memory[begin : begin + part.chunk_bytes])

    def _chunk(self, part: Part, begin: int, memory: memoryview) -> Iterator[Piece]:
        count = -(-len(memory) // PIECE_BYTES)
        chunk = _Chunk(count, lambda: self._verify(part, begin, memory))
        for start in range(0, len(memory), PIECE_BYTES):
            piece = memory[start : start + PIECE_BYTES]
            yield Piece(part.file, part.offset + begin + start, piece, chunk)

    def _verify(self, part: Part, begin: int, memory: memoryview) -> None:
        if self._layout is Layout.TENSORFLOW_V1:
            return  # Its records have their own checksums.
        wanted = part.checksums[begin // part.chunk_bytes]
        if self._layout is Layout.TENSORFLOW_V2:
            is_right = self._tensor.dtype is dtypes.string or check_numbers(memory, wanted)
        else:
            is_right = crc32(memory) == wanted
        if not is_right:
            raise damaged(self._key, part, begin, len(memory), "the checksum does not match")


def _copying(target: memoryview, source: memoryview) -> Callable[[], None]:
    def copy() -> None:
        target[:] = source

    return copy
