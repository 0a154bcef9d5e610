"""What a checkpoint consists of: tensors, the ranges of files that hold them, checksums.

`Index` is the same for every format: that of the own one is read and written in `index_file`, the
other formats are in `tf_bundle` and `tf_v1`.

Thread rule: immutable objects and pure functions.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from paramserve_core import dtypes
from paramserve_core.checkpoint.json_fields import MAX_INT, MalformedError
from paramserve_core.checkpoint.slices import Box
from paramserve_core.dtypes import DType
from paramserve_core.errors import DataLossError, InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

CHUNK_BYTES: Final = 4 << 20
"""Bytes of a tensor under one checksum."""
MAX_INDEX_BYTES: Final = 1 << 28
_MAX_ELEMENTS: Final = MAX_INT // 16
"""What an array of the widest type can have."""


class Layout(enum.IntEnum):
    """The formats, numbered as in messages."""

    SAFETENSORS = messages.CHECKPOINT_FORMAT_SAFETENSORS
    TENSORFLOW_V1 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V1
    TENSORFLOW_V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2


def layout_of(number: int) -> Layout:
    """The format of a message's number.

    Raises:
        InvalidArgumentError: there is none.
    """
    try:
        return Layout(number)
    except ValueError:
        raise InvalidArgumentError(
            None, None, f"{number} is no format of checkpoints that this version knows"
        ) from None


class Part(NamedTuple):
    """A rectangular part of a tensor and where it is stored.

    Attributes:
        box: which part.
        file: the file's name.
        offset: where in the file, in bytes.
        nbytes: how many bytes.
        checksums: one for each `chunk_bytes` of them.
        chunk_bytes: how many bytes one checksum is of.
        record: in a table of records, which one of the block at `offset`.
    """

    box: Box
    file: str
    offset: int
    nbytes: int
    checksums: tuple[int, ...]
    chunk_bytes: int
    record: int = 0


class StoredTensor(NamedTuple):
    """A tensor in a checkpoint."""

    dtype: DType
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in files."""
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of a checkpoint: its size, and its header's size and checksum.

    The size is None where the format does not tell it; a file may have no header (0 bytes).
    """

    nbytes: int | None
    header_bytes: int = 0
    header_checksum: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True)
class Index:
    """A checkpoint's contents.

    `writers` has the names of the tasks that wrote files, where they are known: on their disks the
    files were.
    """

    layout: Layout
    tensors: Mapping[str, StoredTensor]
    files: Mapping[str, StoredFile]
    save_id: str = ""
    generation: int = 0
    step: int | None = None
    graph_hash: str = ""
    meta_graph: str = ""
    writer: str = ""
    writers: Mapping[str, str] = field(default_factory=dict)

    def origin(self, file: str) -> str:
        """Who wrote a file, as a clause of an error; empty where that is unknown."""
        return f"; {self.writers[file]} wrote it, to its own disk" if file in self.writers else ""

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors."""
        if self.layout is Layout.SAFETENSORS:  # There is nothing else in its files but headers.
            return sum((file.nbytes or 0) - file.header_bytes for file in self.files.values())
        return sum(tensor.nbytes for tensor in self.tensors.values())


def chunk_count(nbytes: int, chunk_bytes: int) -> int:
    """How many checksums so many bytes have."""
    return -(-nbytes // chunk_bytes)


def stored_name(key: str, box: Box, shape: tuple[int, ...]) -> str:
    """The name of a part in its safetensors file."""
    return key if box.is_whole(shape) else f"{key}{box}"


def check_part(
    key: str, part: Part, files: Mapping[str, StoredFile], dtype: DType, string_bytes: int = 4
) -> None:
    """Refuses a part whose range of bytes cannot be right.

    Args:
        key: the tensor's name, for errors.
        part: the part.
        files: the checkpoint's files.
        dtype: the tensor's type.
        string_bytes: the least that an element of a string tensor takes.

    Raises:
        MalformedError: it is not within its file, or not as long as its elements.
    """
    file = files.get(part.file)
    if file is None:
        raise MalformedError(f"{key!r:.100} is in the file {part.file!r:.100}, which is not listed")
    end = part.offset + part.nbytes
    if part.offset < file.header_bytes or (file.nbytes is not None and end > file.nbytes):
        raise MalformedError(f"{key!r:.100} is not within the file {part.file!r:.100}")
    check_size(f"{key!r:.100}", part.nbytes, part.box.shape, dtype, string_bytes)


def check_size(
    what: str, nbytes: int, shape: Sequence[int], dtype: DType, string_bytes: int = 4
) -> None:
    """Refuses a number of bytes that elements cannot take; see `check_part`.

    Raises:
        MalformedError: they take more, or other than strings less; or no array has the shape.
    """
    check_shape(what, shape)
    wanted = math.prod(shape) * (dtype.size or string_bytes)
    if nbytes < wanted or (dtype is not dtypes.string and nbytes > wanted):
        raise MalformedError(f"{what} has {nbytes} bytes, its elements take {wanted}")


def check_shape(what: str, shape: Sequence[int]) -> None:
    """Refuses a shape that no array has.

    Raises:
        MalformedError: it is one.
    """
    # NumPy wants the bytes to be countable without the zeros among the dimensions, too, so no
    # number of bytes that is compared with the elements' would tell.
    if math.prod(filter(None, shape)) > _MAX_ELEMENTS:
        raise MalformedError(f"{what} has the shape {list(shape)}, which no array can have")


def damaged(key: str, part: Part, begin: int, nbytes: int, why: str) -> DataLossError:
    """The error of bytes of a part of the tensor `key` that are not what was written."""
    first = part.offset + begin
    return DataLossError(
        None,
        None,
        f"{part.file}: damaged in bytes {first} to {first + nbytes - 1}, which belong to the "
        f"tensor {key!r}: {why}; restore another checkpoint",
    )
