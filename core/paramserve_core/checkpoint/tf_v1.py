"""TensorFlow's V1 checkpoints, read.

A checkpoint at `model.ckpt` is one table of that very name, or several named
`model.ckpt-00000-of-00002`. The first record (an empty key) tells which tensors and slices there
are, each further one holds a slice as a `TensorProto`. There is no index: where a slice lies is
found by going through the file once.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final

from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramserve_core.checkpoint.contents import Contents
from paramserve_core.checkpoint.disk import Disk, DiskFile
from paramserve_core.checkpoint.index import check_shape
from paramserve_core.checkpoint.json_fields import MAX_RANK, MalformedError
from paramserve_core.checkpoint.places import CheckpointPlace
from paramserve_core.checkpoint.slices import Box, box_of_extents
from paramserve_core.checkpoint.table import (
    FOOTER_BYTES,
    MAGIC,
    TRAILER_BYTES,
    Read,
    data_blocks,
    open_block,
    records,
)
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import DataLossError
from paramserve_core.tensors import to_ndarray
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1 import saved_tensor_slice_pb2

_MAX_TABLE_FILES: Final = 99_999
_MOST_PER_BYTE: Final = 16


def is_table(disk: Disk, path: PurePath) -> bool:
    """Whether a file is there and ends like a table."""
    try:
        file = disk.open(path)
    except OSError:
        return False
    try:
        end = bytearray(len(MAGIC))
        size = file.size
        if size < FOOTER_BYTES:
            return False
        file.read_into(memoryview(end), size - len(end))
        return end == MAGIC
    finally:
        file.close()


def read_table_files(
    disk: Disk, place: CheckpointPlace, names: Iterable[str]
) -> messages.TableIndex:
    """What the V1 files among `names` hold.

    Raises:
        DataLossError: one is damaged.
    """
    found = messages.TableIndex()
    for name in itertools.islice(names, _MAX_TABLE_FILES):
        path = place.directory / name
        if "." in name.removeprefix(place.name) or not is_table(disk, path):
            continue
        file = disk.open(path)
        try:
            found.files.append(_contents(file, name))
        except MalformedError as error:
            raise DataLossError(
                None, None, f"{path}: damaged: {error}; {_advice(disk, path)}"
            ) from None
        finally:
            file.close()
    return found


def _advice(disk: Disk, path: PurePath) -> str:
    # The index of a V2 checkpoint is a table too, and its name is easily taken for the path.
    data = f"{path.stem}.data-"
    if path.suffix == ".index" and any(name.startswith(data) for name in disk.names(path.parent)):
        return "to read the V2 checkpoint whose index this is, leave '.index' out of its path"
    return "restore another checkpoint"


def decode_record(
    stored: memoryview, number: int, key: str, dtype: DType, shape: tuple[int, ...]
) -> NDArray[Any]:
    """The slice in one record of a block.

    Args:
        stored: the block with its trailer.
        number: which record.
        key: the tensor's name.
        dtype: its type.
        shape: the slice's shape.

    Raises:
        MalformedError: the block is damaged, or the record is another.
    """
    block = open_block(stored)
    record = next(itertools.islice(records(block), number, None), None)
    if record is None:
        raise MalformedError(f"the block has no record {number}")
    data = _message(record[1]).data
    if data.name != key:
        raise MalformedError(f"the record is of {data.name!r:.100}")
    try:
        # No element takes less than a byte of the record, whatever its shape claims.
        limit = _MOST_PER_BYTE * len(record[1])
        array = to_ndarray(_with_shape(data.data, dtype, shape), limit)
    except ValueError as error:
        raise MalformedError(str(error)) from None
    return array


def _contents(file: DiskFile, name: str) -> messages.WriteShardResponse:
    size = file.size
    read = _reader(file)
    contents = messages.WriteShardResponse(file=name, bytes=size, chunk_bytes=1)
    tensors = Contents()
    meta: dict[str, saved_tensor_slice_pb2.SavedSliceMeta] = {}
    for block in data_blocks(read, size):
        stored = read(block.offset, block.nbytes + TRAILER_BYTES)
        contents.chunk_bytes = max(contents.chunk_bytes, len(stored))
        for number, (key, value) in enumerate(records(open_block(stored))):
            message = _message(value)
            if not key:
                meta = {tensor.name: tensor for tensor in message.meta.tensor}
                continue
            found = _slice(message.data, meta)
            if found is not None:
                tensors.add(message.data.name, *found, block.offset, len(stored), number)
    tensors.write_to(contents.tensors)
    return contents


def _slice(
    data: saved_tensor_slice_pb2.SavedSlice,
    meta: dict[str, saved_tensor_slice_pb2.SavedSliceMeta],
) -> tuple[DType, tuple[int, ...], Box] | None:
    """Type, shape and box of a slice; None for a type that does not exist here."""
    tensor = meta.get(data.name)
    if tensor is None:
        raise MalformedError(f"the tensor {data.name!r:.100} is not in the table of contents")
    try:
        dtype = as_dtype(int(tensor.type))
    except TypeError:
        return None
    shape = tuple(dim.size for dim in tensor.shape.dim)
    box = box_of_extents(data.slice, shape)
    if box is None or len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise MalformedError(f"a slice of {data.name!r:.100} is not within its shape {shape}")
    check_shape(f"{data.name!r:.100}", shape)
    return dtype, shape, box


def _with_shape(data: Any, dtype: DType, shape: tuple[int, ...]) -> Any:
    """The message with type and shape, which the writer leaves out."""
    data.dtype = dtype.as_datatype_enum
    del data.tensor_shape.dim[:]
    for size in shape:
        data.tensor_shape.dim.add(size=size)
    return data


def _reader(file: DiskFile) -> Read:
    size = file.size

    def read(offset: int, nbytes: int) -> bytes:
        if offset + nbytes > size:
            raise MalformedError("a block is said to be outside of the file")
        content = bytearray(nbytes)
        file.read_into(memoryview(content), offset)
        return bytes(content)

    return read


def _message(value: bytes) -> saved_tensor_slice_pb2.SavedTensorSlices:
    try:
        return saved_tensor_slice_pb2.SavedTensorSlices.FromString(value)
    except DecodeError:
        raise MalformedError("a record is no message of the kind expected") from None
