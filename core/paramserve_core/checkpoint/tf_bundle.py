"""TensorFlow's V2 checkpoints ("bundles"), read and written.

A bundle at `model.ckpt` is a table `model.ckpt.index` and data files
`model.ckpt.data-00000-of-00001`. The table's first record (an empty key) is a header, the others
are one entry per tensor: type, shape, range of bytes, checksum. A partitioned tensor has an entry
with its slices and no bytes, and one further entry for each slice, whose key is the name and the
slice in an encoding that keeps the order.

Numbers lie in the data files as they are in memory. A string tensor is the lengths of its elements
as varints, the checksum of the lengths, then the bytes.

Thread rule: pure functions, but for the disk.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint.contents import Contents
from paramserve_core.checkpoint.crew import for_each
from paramserve_core.checkpoint.disk import Disk
from paramserve_core.checkpoint.index import (
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
    check_part,
    check_shape,
)
from paramserve_core.checkpoint.json_fields import MAX_RANK, MalformedError
from paramserve_core.checkpoint.places import CheckpointPlace
from paramserve_core.checkpoint.shard import TakenTensor, WrittenFile
from paramserve_core.checkpoint.slices import Box, box_of_extents, cover, extents_of_box
from paramserve_core.checkpoint.stored import bytes_of, split_strings
from paramserve_core.checkpoint.table import (
    data_blocks,
    open_block,
    read_varint,
    records,
    write_table,
    write_varint,
)
from paramserve_core.checkpoint.tf_v1 import is_table
from paramserve_core.checkpoint.unread import Unread, content_of
from paramserve_core.crc32c import crc32c, mask
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1 import tensor_bundle_pb2, tensor_slice_pb2

Array = NDArray[Any]

_VERSION: Final = 1
_NOTHING: Final = memoryview(b"")

_WRITE_BYTES: Final = 16 << 20


def decode_bundle_index(content: bytes, name: str, *, is_complete: bool = True) -> Index:
    """Reads the index file of the checkpoint `name`.

    Tensors of types that do not exist here are left out. With `is_complete` false the slices of a
    tensor may be some of it only, as in a file that is to be merged with others.

    Raises:
        MalformedError: it is damaged or no bundle's.
    """
    header, entries = _read_entries(content)
    count = header.num_shards
    if not 0 <= count <= 99_999:
        raise MalformedError(f"it has {count} data files")
    if header.endianness != tensor_bundle_pb2.BundleHeaderProto.LITTLE:
        raise MalformedError("it was written on a big-endian machine")
    ends: dict[str, int] = {}
    for entry in entries.values():
        if not entry.slices:
            file = _data_file(name, entry.shard_id, count)
            ends[file] = max(ends.get(file, 0), entry.offset + entry.size)
    # Nothing follows the last tensor, so the size is known, of types that do not exist here too.
    sizes = {file: StoredFile(nbytes=end) for file, end in ends.items()}
    files: dict[str, StoredFile] = {}
    tensors: dict[str, StoredTensor] = {}
    for key, entry in entries.items():
        if key.startswith(b"\0"):
            continue  # A slice, which its tensor's entry leads to.
        try:
            text, dtype = key.decode(), as_dtype(int(entry.dtype))
        except UnicodeDecodeError:
            raise MalformedError(f"the name {key[:100]!r} is not UTF-8") from None
        except TypeError:
            continue
        shape = _shape(entry, text)
        boxes = [Box.whole(shape)]
        parts = [entry]
        if entry.slices:
            boxes, parts = _slices(text, entry, shape, entries)
            if is_complete and not cover(boxes, shape):
                raise MalformedError(f"the slices of {text!r:.100} are not the whole tensor")
        stored = []
        for box, part_entry in zip(boxes, parts, strict=True):
            if not 0 <= part_entry.shard_id < count:
                raise MalformedError(f"{text!r:.100} is in a data file that does not exist")
            file = _data_file(name, part_entry.shard_id, count)
            files[file] = sizes[file]
            stored.append(_part(text, part_entry, box, file, files, dtype))
        tensors[text] = StoredTensor(dtype, shape, tuple(stored))
    return Index(layout=Layout.TENSORFLOW_V2, tensors=tensors, files=files)


def has_bundle(disk: Disk, place: CheckpointPlace, names: Collection[str]) -> bool:
    """Whether the index file at a place is a bundle's, damaged or not: it has data beside it.

    Args:
        disk: the file system.
        place: the checkpoint.
        names: the files in its directory.
    """
    return place.bundle_index.name in names and (
        is_table(disk, place.bundle_index) or any(map(place.is_bundle_data, names))
    )


def encode_bundle_index(index: Index) -> bytes:
    """The content of an index file."""
    shards = {file: shard for shard, file in enumerate(sorted(index.files))}
    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=len(shards))
    header.version.producer = _VERSION
    items = {b"": header.SerializeToString()}
    for key, tensor in index.tensors.items():
        entry = _entry(tensor.dtype, tensor.shape)
        if len(tensor.parts) == 1 and tensor.parts[0].box.is_whole(tensor.shape):
            _place(entry, tensor.parts[0], shards)
        else:
            for part in tensor.parts:
                extents = extents_of_box(part.box, tensor.shape)
                entry.slices.append(extents)
                own = _entry(tensor.dtype, part.box.shape)
                _place(own, part, shards)
                items[slice_key(key, extents)] = own.SerializeToString()
        items[key.encode()] = entry.SerializeToString()
    return write_table(sorted(items.items()))


def write_bundle_data(
    disk: Disk,
    runtime: Runtime,
    path: PurePath,
    name: str,
    tensors: list[TakenTensor],
    check: Callable[[], None],
) -> WrittenFile:
    """Writes a data file; see `shard.write_safetensors` for arguments and errors."""
    ordered = sorted(tensors, key=lambda t: (t.key, t.box.begin))
    packed = list(map(_packed, ordered))
    strings = {
        number: math.prod(tensor.box.shape)
        for number, tensor in enumerate(ordered)
        if tensor.dtype is dtypes.string
    }
    contents = messages.WriteShardResponse(
        file=name, chunk_bytes=max(map(len, packed), default=0) or 1
    )
    described = Contents()
    offset = 0
    for tensor, data in zip(ordered, packed, strict=True):
        described.add(tensor.key, tensor.dtype, tensor.shape, tensor.box, offset, len(data))
        offset += len(data)
    contents.bytes = offset
    file = disk.create(path, offset)
    tensors.clear()
    ordered.clear()

    def write(number: int) -> None:
        data, offset = content_of(packed[number]), described.offsets[number]
        checksum = 0
        for begin in range(0, len(data), _WRITE_BYTES):
            check()
            piece = data[begin : begin + _WRITE_BYTES]
            checksum = crc32c(piece, checksum)
            file.write_at(piece, offset + begin)
        if number in strings:
            checksum = _checksum_of_strings(data, strings[number])
        described.checksums[number] = (mask(checksum),)
        packed[number] = _NOTHING

    try:
        for_each(runtime, range(len(packed)), write)
        described.write_to(contents.tensors)
        file.sync()
    except BaseException:
        file.close()
        disk.remove(path)
        raise
    return WrittenFile(file, contents)


def check_numbers(content: memoryview, checksum: int) -> bool:
    """Whether the bytes of a numeric tensor are those that were written."""
    return mask(crc32c(content)) == checksum


def unpack_bundle_strings(content: memoryview, checksum: int, shape: tuple[int, ...]) -> Array:
    """A string tensor from its bytes in a data file.

    Raises:
        MalformedError: it is damaged.
    """
    lengths, position = _lengths(content, math.prod(shape))
    if mask(_checksum_of_strings(content, len(lengths))) != checksum:
        raise MalformedError("the checksum does not match")
    text = content[position + 4 :]  # Behind the checksum of the lengths, which is in the other.
    if sum(lengths) != len(text):
        raise MalformedError("the strings' lengths do not add up to the bytes that are stored")
    return split_strings(text, lengths, shape)


def slice_key(name: str, extents: tensor_slice_pb2.TensorSliceProto) -> bytes:
    """The key of a slice's entry: numbers and names in an encoding that keeps their order."""
    escaped = b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in name.encode())
    out = b"\0" + escaped + b"\0\1" + _unsigned(len(extents.extent))
    for extent in extents.extent:
        length = extent.length if extent.HasField("length") else -1
        out += _signed(extent.start) + _signed(length)
    return out


_ESCAPES: Final = {0x00: b"\x00\xff", 0xFF: b"\xff\x00"}


def _unsigned(number: int) -> bytes:
    width = (number.bit_length() + 7) // 8
    return bytes([width]) + number.to_bytes(width, "big")


def _signed(number: int) -> bytes:
    """A number after as many leading ones as it has bytes, complemented if it is negative."""
    bits = (number if number >= 0 else ~number).bit_length()
    width = bits // 7 + 1
    prefix = ((1 << width) - 1) << (8 * width - width)
    value = number & ((1 << (8 * width)) - 1)
    return (value ^ prefix).to_bytes(width, "big")


def _read_entries(
    content: bytes,
) -> tuple[tensor_bundle_pb2.BundleHeaderProto, Mapping[bytes, tensor_bundle_pb2.BundleEntryProto]]:
    header: tensor_bundle_pb2.BundleHeaderProto | None = None
    entries = {}

    def read(offset: int, nbytes: int) -> bytes:
        return content[offset : offset + nbytes]

    try:
        for block in data_blocks(read, len(content)):
            for key, value in records(open_block(read(block.offset, block.nbytes + 5))):
                if not key:
                    header = tensor_bundle_pb2.BundleHeaderProto.FromString(value)
                else:
                    entries[key] = tensor_bundle_pb2.BundleEntryProto.FromString(value)
    except DecodeError:
        raise MalformedError("a record is no message of the kind expected") from None
    if header is None:
        raise MalformedError("it has no header: it is no checkpoint")
    return header, entries


def _data_file(name: str, shard: int, count: int) -> str:
    return f"{name}.data-{shard:05}-of-{count:05}"


def _shape(entry: tensor_bundle_pb2.BundleEntryProto, key: str) -> tuple[int, ...]:
    shape = tuple(dim.size for dim in entry.shape.dim)
    if len(shape) > MAX_RANK or any(size < 0 for size in shape) or entry.shape.unknown_rank:
        raise MalformedError(f"{key!r:.100} has the shape {shape}")
    check_shape(f"{key!r:.100}", shape)
    return shape


def _slices(
    key: str,
    entry: tensor_bundle_pb2.BundleEntryProto,
    shape: tuple[int, ...],
    entries: Mapping[bytes, tensor_bundle_pb2.BundleEntryProto],
) -> tuple[list[Box], list[tensor_bundle_pb2.BundleEntryProto]]:
    boxes, found = [], []
    for extents in entry.slices:
        box = box_of_extents(extents, shape)
        own = None if box is None else entries.get(slice_key(key, extents))
        if box is None or own is None or own.dtype != entry.dtype:
            raise MalformedError(f"a slice of {key!r:.100} is not as its tensor says")
        boxes.append(box)
        found.append(own)
    return boxes, found


def _part(
    key: str,
    entry: tensor_bundle_pb2.BundleEntryProto,
    box: Box,
    file: str,
    files: Mapping[str, StoredFile],
    dtype: DType,
) -> Part:
    if entry.offset < 0 or entry.size < 0:
        raise MalformedError(f"{key!r:.100} has a negative place in its file")
    part = Part(
        box=box,
        file=file,
        offset=entry.offset,
        nbytes=entry.size,
        checksums=(entry.crc32c,),
        chunk_bytes=max(1, entry.size),
    )
    # The lengths of strings take a byte each, or more.
    check_part(key, part, files, dtype, string_bytes=1)
    return part


def _entry(dtype: DType, shape: tuple[int, ...]) -> tensor_bundle_pb2.BundleEntryProto:
    entry = tensor_bundle_pb2.BundleEntryProto(dtype=dtype.as_datatype_enum)
    entry.shape.SetInParent()
    for size in shape:
        entry.shape.dim.add(size=size)
    return entry


def _place(
    entry: tensor_bundle_pb2.BundleEntryProto, part: Part, shards: Mapping[str, int]
) -> None:
    entry.shard_id = shards[part.file]
    entry.offset = part.offset
    entry.size = part.nbytes
    entry.crc32c = part.checksums[0]


def _packed(tensor: TakenTensor) -> memoryview | Unread:
    """A tensor's bytes in a data file, or what will read them."""
    if isinstance(tensor.array, Unread):
        return tensor.array
    return _pack_strings(tensor.array) if tensor.dtype is dtypes.string else bytes_of(tensor.array)


def _pack_strings(array: Array) -> memoryview:
    elements = array.reshape(-1).tolist()
    lengths = [len(element) for element in elements]
    head = b"".join(map(write_varint, lengths))
    checksum = mask(crc32c(_length_words(lengths)))
    return memoryview(b"".join([head, checksum.to_bytes(4, "little"), *elements]))


def _length_words(lengths: Sequence[int]) -> bytes:
    """What the checksum of lengths is of: 4 bytes for each, 8 where they are needed."""
    if max(lengths, default=0) < 1 << 32:
        return np.array(lengths, "<u4").tobytes()
    return b"".join(struct.pack("<I" if n < 1 << 32 else "<Q", n) for n in lengths)


def _lengths(content: memoryview, count: int) -> tuple[list[int], int]:
    if count > len(content):
        raise MalformedError(f"{len(content)} bytes cannot hold {count} strings")
    lengths, position = [], 0
    for _ in range(count):
        length, position = read_varint(content, position, len(content))
        lengths.append(length)
    return lengths, position


def _checksum_of_strings(content: memoryview, count: int) -> int:
    """The checksum of a string tensor, in which the lengths count as words."""
    lengths, position = _lengths(content, count)
    return crc32c(content[position:], crc32c(_length_words(lengths)))
