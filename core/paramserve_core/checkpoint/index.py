"""What a checkpoint consists of: tensors, the ranges of files that hold them, checksums.

`Index` is the same for every format; this module also reads and writes the own format's index
file, which `docs/checkpoint-format.md` specifies. The other formats are in `tf_bundle` and
`tf_v1`.

Thread rule: immutable objects and pure functions.
"""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from paramserve_core import dtypes
from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.json_fields import (
    HEXADECIMAL,
    Fields,
    MalformedError,
    parse_first,
    parse_object,
    quoted,
)
from paramserve_core.checkpoint.places import SavedFile, file_name
from paramserve_core.checkpoint.slices import Box, cover
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import DataLossError, InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

FORMAT_VERSION: Final = 1
CHUNK_BYTES: Final = 4 << 20
"""Bytes of a tensor under one checksum."""
MAX_INDEX_BYTES: Final = 1 << 28

_START: Final = b'{\n "metadata": '


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
        return sum(tensor.nbytes for tensor in self.tensors.values())


@dataclass(frozen=True, slots=True)
class IndexHead:
    """Which save an index is of: its id, its number at the path, and its graph's file."""

    save_id: str
    generation: int
    meta_graph: str


def chunk_count(nbytes: int, chunk_bytes: int) -> int:
    """How many checksums so many bytes have."""
    return -(-nbytes // chunk_bytes)


def stored_name(key: str, box: Box, shape: tuple[int, ...]) -> str:
    """The name of a part in its safetensors file."""
    return key if box.is_whole(shape) else f"{key}{box}"


def encode_index(index: Index) -> bytes:
    """The content of an index file."""
    metadata: dict[str, object] = {
        "total_size": index.total_bytes,
        "format": "paramserve",
        "format_version": FORMAT_VERSION,
        "writer": index.writer,
        "save_id": index.save_id,
        "generation": index.generation,
        "chunk_bytes": CHUNK_BYTES,
    }
    if index.step is not None:
        metadata["step"] = index.step
    if index.graph_hash:
        metadata["graph_hash"] = index.graph_hash
    if index.meta_graph:
        metadata["meta_graph"] = index.meta_graph
    if index.writers:
        metadata["tasks"] = dict(index.writers)
    files = {
        name: {
            "bytes": file.nbytes,
            "header_bytes": file.header_bytes,
            "header_checksum": f"{file.header_checksum:08x}",
        }
        for name, file in index.files.items()
    }
    weight_map, tensors = _encode_tensors(index)
    body = "".join(
        [
            f'{{\n "metadata": {json.dumps(metadata, ensure_ascii=False)},\n',
            f' "weight_map": {{{weight_map}}},\n "tensors": {{{tensors}}},\n',
            f' "files": {json.dumps(files, ensure_ascii=False)},\n "checksum": ',
        ]
    ).encode()
    return body + _tail(crc32(body))


def _encode_tensors(index: Index) -> tuple[str, str]:
    """The members of `weight_map` and of `tensors`.

    Put together from pieces that are the same for many tensors: `json` takes four times as long.
    """
    files = {name: quoted(name) for name in index.files}
    forms: dict[tuple[str, tuple[int, ...]], str] = {}
    weight_map, tensors = [], []
    for key, (dtype, shape, parts) in index.tensors.items():
        name = quoted(key)
        form = forms.get((dtype.name, shape))
        if form is None:
            form = f'{{"dtype": "{dtype.name}", "shape": {list(shape)}, "parts": ['
            forms[dtype.name, shape] = form
        items = []
        for part in parts:
            box, _, offset, nbytes, checksums, _, _ = part
            file = files[part.file]
            digits = ", ".join([f'"{checksum:08x}"' for checksum in checksums])
            item = f'"file": {file}, "offset": {offset}, "bytes": {nbytes}, "checksums": [{digits}]'
            if box.shape == shape:
                weight_map.append(f"{name}: {file}")
                items.append(f"{{{item}}}")
                continue
            weight_map.append(f"{quoted(stored_name(key, box, shape))}: {file}")
            begin, sizes = list(box.begin), list(box.shape)
            items.append(f'{{{item}, "begin": {begin}, "shape": {sizes}}}')
        tensors.append(f"{name}: {form}{', '.join(items)}]}}")
    return ", ".join(weight_map), ", ".join(tensors)


def _tail(checksum: int) -> bytes:
    return f'"{checksum:08x}"\n}}'.encode()


def decode_index(content: bytes) -> Index:
    """Reads an index file.

    Raises:
        MalformedError: it is damaged, or not what the format says.
    """
    _check_frame(content)
    root = parse_object(content)
    root.only("metadata", "weight_map", "tensors", "files", "checksum")
    metadata = root.fields("metadata")
    head = _head(metadata)
    files = _files(root.fields("files"), head.save_id)
    return Index(
        layout=Layout.SAFETENSORS,
        tensors=_tensors(root.fields("tensors"), files, metadata.integer("chunk_bytes", 1)),
        files=files,
        save_id=head.save_id,
        generation=head.generation,
        step=metadata.integer("step", -1 << 63) if "step" in metadata else None,
        graph_hash=metadata.text("graph_hash") if "graph_hash" in metadata else "",
        meta_graph=head.meta_graph,
        writer=metadata.text("writer"),
        writers=_writers(metadata.fields("tasks")) if "tasks" in metadata else {},
    )


def _writers(members: Fields) -> dict[str, str]:
    return {file: members.text(file) for file in members}


def decode_head(content: bytes) -> IndexHead:
    """Reads which save an index file is of, and checks the file's checksum; not what else it says.

    Raises:
        MalformedError: it is damaged, or not what the format says.
    """
    _check_frame(content)
    return _head(parse_first(content[len(_START) :]))


def _check_frame(content: bytes) -> None:
    body = content[: -len(_tail(0))]
    if content[len(body) :] != _tail(crc32(body)):
        raise MalformedError("its checksum does not match: it is damaged, or was edited")
    if not body.startswith(_START):
        raise MalformedError("it does not begin with its metadata")


def _head(metadata: Fields) -> IndexHead:
    if metadata.text("format") != "paramserve":
        raise MalformedError("its format is not 'paramserve'")
    metadata.integer("format_version", 1, FORMAT_VERSION)
    return IndexHead(
        save_id=metadata.text("save_id"),
        generation=metadata.integer("generation", 1),
        meta_graph=_file(metadata.text("meta_graph")) if "meta_graph" in metadata else "",
    )


def _files(members: Fields, save_id: str) -> dict[str, StoredFile]:
    files = {}
    for name in members:
        saved = SavedFile.parse(_file(name))
        if saved is None or saved.save_id != save_id:
            raise MalformedError(f"the file {name!r:.100} is of another save")
        fields = members.fields(name)
        fields.only("bytes", "header_bytes", "header_checksum")
        nbytes = fields.integer("bytes")
        files[name] = StoredFile(
            nbytes=nbytes,
            header_bytes=fields.integer("header_bytes", maximum=nbytes),
            header_checksum=fields.checksum("header_checksum"),
        )
    return files


def _file(name: str) -> str:
    try:
        return file_name(name, "file of a checkpoint")
    except InvalidArgumentError as error:
        raise MalformedError(error.message) from None


def _tensors(
    members: Fields, files: Mapping[str, StoredFile], chunk_bytes: int
) -> dict[str, StoredTensor]:
    tensors = {}
    plain = _PlainTensors(files)
    for key, value in members.items():
        tensor = plain.read(value)
        if tensor is None:
            tensor = _tensor(key, members.fields(key), files, chunk_bytes)
            plain.learn(tensor)
        tensors[key] = tensor
    return tensors


def _tensor(
    key: str, fields: Fields, files: Mapping[str, StoredFile], chunk_bytes: int
) -> StoredTensor:
    fields.only("dtype", "shape", "parts")
    try:
        dtype = as_dtype(fields.text("dtype"))
    except TypeError as error:
        raise MalformedError(f"{key!r:.100}: {error}") from None
    shape = fields.integers("shape")
    parts = tuple(
        _part(key, part, files, chunk_bytes, dtype, shape) for part in fields.objects("parts")
    )
    if dtype.is_ref or not cover([part.box for part in parts], shape):
        raise MalformedError(f"the parts of {key!r:.100} are not the whole tensor")
    return StoredTensor(dtype, shape, parts)


class _PlainTensors:
    """Reads what is said of small tensors in one piece, in as few steps as will do.

    That is nearly all of an index of many tensors, and they are much alike: of each type and shape
    one is read by `_tensor`, which knows all that may be said and names what is wrong. So is
    whatever differs from it in more than its place, its checksum and its name.
    """

    def __init__(self, files: Mapping[str, StoredFile]) -> None:
        self._spans = {name: (file.header_bytes, file.nbytes or 0) for name, file in files.items()}
        self._forms: dict[tuple[Any, ...], StoredTensor] = {}

    def learn(self, tensor: StoredTensor) -> None:
        """Others may be like this one."""
        if len(tensor.parts) == 1 and tensor.dtype is not dtypes.string:
            part = tensor.parts[0]
            if len(part.checksums) == 1 and part.box is Box.whole(tensor.shape):
                self._forms[(tensor.dtype.name, *tensor.shape)] = tensor

    def read(self, value: Any) -> StoredTensor | None:
        """The tensor that a member describes; None where that takes more care."""
        try:
            (part,) = value["parts"]
            sizes = value["shape"]
            dtype, shape, ((box, _, _, wanted, _, chunk_bytes, record),) = self._forms[
                (value["dtype"], *sizes)
            ]
            offset, nbytes, file = part["offset"], part["bytes"], part["file"]
            (digits,) = part["checksums"]
            first, end = self._spans[file]
            if len(value) != 3 or len(part) != 4 or nbytes != wanted or len(digits) != 8:
                return None
            if type(offset) is not int or not first <= offset <= end - nbytes:
                return None
            for size in (nbytes, *sizes):
                if type(size) is not int:  # 1.0 and True are found where 1 is.
                    return None
            if digits.strip(HEXADECIMAL):
                return None
            checksum = int(digits, 16)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        new = tuple.__new__  # A third of the time, of a class that adds nothing to it.
        placed = new(Part, (box, file, offset, nbytes, (checksum,), chunk_bytes, record))
        return new(StoredTensor, (dtype, shape, (placed,)))


def _part(
    key: str,
    fields: Fields,
    files: Mapping[str, StoredFile],
    chunk_bytes: int,
    dtype: DType,
    shape: tuple[int, ...],
) -> Part:
    fields.only("file", "offset", "bytes", "checksums", "begin", "shape")
    box = Box.whole(shape)
    if "begin" in fields:
        box = Box(fields.integers("begin"), fields.integers("shape"))
        if not box.fits(shape):
            raise MalformedError(f"a part of {key!r:.100} lies outside of it")
    nbytes = fields.integer("bytes")
    part = Part(
        box=box,
        file=fields.text("file"),
        offset=fields.integer("offset"),
        nbytes=nbytes,
        checksums=fields.checksums("checksums", chunk_count(nbytes, chunk_bytes)),
        chunk_bytes=chunk_bytes,
    )
    check_part(key, part, files, dtype)
    return part


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
    wanted = math.prod(part.box.shape) * (dtype.size or string_bytes)
    if part.nbytes < wanted or (dtype is not dtypes.string and part.nbytes > wanted):
        raise MalformedError(f"{key!r:.100} has {part.nbytes} bytes, its elements take {wanted}")


def damaged(key: str, part: Part, begin: int, nbytes: int, why: str) -> DataLossError:
    """The error of bytes of a part of the tensor `key` that are not what was written."""
    first = part.offset + begin
    return DataLossError(
        None,
        None,
        f"{part.file}: damaged in bytes {first} to {first + nbytes - 1}, which belong to the "
        f"tensor {key!r}: {why}; restore another checkpoint",
    )
