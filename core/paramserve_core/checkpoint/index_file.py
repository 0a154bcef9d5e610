"""The index file of the own format, as `docs/checkpoint-format.md` specifies it.

Thread rule: pure functions, and objects that belong to one thread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.index import (
    CHUNK_BYTES,
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
    check_part,
    chunk_count,
    stored_name,
)
from paramserve_core.checkpoint.json_fields import (
    Fields,
    MalformedError,
    parse_first,
    parse_object,
    parse_value,
    quoted,
)
from paramserve_core.checkpoint.places import SavedFile, file_name
from paramserve_core.checkpoint.slices import Box, cover
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import InvalidArgumentError

FORMAT_VERSION: Final = 1

_START: Final = b'{\n "metadata": '
_WEIGHT_MAP: Final = '\n "weight_map": {'
_TENSORS: Final = '\n "tensors": {'

_PLAIN: Final = re.compile(
    r""""([^"\\\x00-\x1f]*)": \{"dtype": "([a-z0-9]+)", "shape": \[([0-9, ]*)\], """
    r""""parts": \[\{"file": "([^"\\\x00-\x1f]*)", "offset": (0|[1-9][0-9]{0,18}), """
    r""""bytes": ([0-9]+), "checksums": \["([0-9a-f]{8})"\]\}\]\}(?:, (?=")|\Z)"""
)
"""A tensor in one piece, which has one checksum, and the comma behind it."""


@dataclass(frozen=True, slots=True)
class IndexHead:
    """Which save an index is of: its id, its number at the path, and its graph's file."""

    save_id: str
    generation: int
    meta_graph: str


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
    text, line = _without_long_lines(content)
    root = parse_object(text)
    root.only("metadata", "weight_map", "tensors", "files", "checksum")
    metadata = root.fields("metadata")
    head = _head(metadata)
    files = _files(root.fields("files"), head.save_id)
    chunk_bytes = metadata.integer("chunk_bytes", 1)
    members = root.fields("tensors")
    if line:
        tensors = _Line(line, members, files, chunk_bytes).read()
    else:
        tensors = {key: _tensor(key, members.fields(key), files, chunk_bytes) for key in members}
    return Index(
        layout=Layout.SAFETENSORS,
        tensors=tensors,
        files=files,
        save_id=head.save_id,
        generation=head.generation,
        step=metadata.integer("step", -1 << 63) if "step" in metadata else None,
        graph_hash=metadata.text("graph_hash") if "graph_hash" in metadata else "",
        meta_graph=head.meta_graph,
        writer=metadata.text("writer"),
        writers=_writers(metadata.fields("tasks")) if "tasks" in metadata else {},
    )


def _without_long_lines(content: bytes) -> tuple[str, str]:
    """The text, and if they have a line of their own, the tensors that are left out of it.

    Then `weight_map` is left out too. It says nothing that `tensors` does not, to other programs.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise MalformedError(f"no valid JSON ({error})") from None
    # No string has a line break in it, so this is no part of one.
    before, start, rest = text.partition(_TENSORS)
    line, end, after = rest.partition("},\n")
    metadata, map_start, weight_map = before.partition(_WEIGHT_MAP)
    if not end or "\n" in line or not map_start or not weight_map.endswith("},"):
        return text, ""
    return f"{metadata}{map_start}}},{start}{end}{after}", line


class _Line:
    """The tensors of an index as `encode_index` writes them, on a line, read one after the other.

    Nearly all tensors of an index of many are small ones in one piece, and much alike. Of each type
    and shape one is read by `_tensor`, which knows all that may be said and names what is wrong. Of
    those that differ from it in their name, place and checksum only, a regular expression finds
    just these: in a third of the time, most of which it takes to make objects of the rest.

    Args:
        text: the members, without the braces around them.
        outer: what they are members of, for errors.
        files: the checkpoint's.
        chunk_bytes: how many bytes one checksum is of.
    """

    def __init__(
        self, text: str, outer: Fields, files: Mapping[str, StoredFile], chunk_bytes: int
    ) -> None:
        self._text = text
        self._outer = outer
        self._files = files
        self._chunk_bytes = chunk_bytes
        self._tensors: dict[str, StoredTensor] = {}
        self._forms: dict[tuple[str, str, str], StoredTensor] = {}

    def read(self) -> dict[str, StoredTensor]:
        """All of them, by name.

        Raises:
            MalformedError: something is wrong with one.
        """
        count = position = 0
        while True:
            found, position = self._plain(position)
            count += found
            if found and position == len(self._text):
                break
            position = self._careful(position)
            count += 1
            if position == len(self._text):
                break
            position = self._behind(", ", position)
        if len(self._tensors) < count:
            raise MalformedError("an object has one name twice")
        return self._tensors

    def _plain(self, position: int) -> tuple[int, int]:
        """Reads tensors as long as they are like one before; how many, and where the next is."""
        text, tensors, match = self._text, self._tensors, _PLAIN.match
        forms, files, chunk_bytes = self._forms, self._files, self._chunk_bytes
        new = tuple.__new__  # A third of the time, of a class that adds nothing to it.
        count = 0
        while found := match(text, position):
            name, type_name, sizes, file, first, length, digits = found.groups()
            form = forms.get((type_name, sizes, length))
            stored = files.get(file)
            if form is None or stored is None or stored.nbytes is None:
                break
            dtype, shape, (alike,) = form
            offset = int(first)
            if not stored.header_bytes <= offset <= stored.nbytes - alike.nbytes:
                break
            checksums = (int(digits, 16),)
            fields = (alike.box, file, offset, alike.nbytes, checksums, chunk_bytes, 0)
            tensors[name] = new(StoredTensor, (dtype, shape, (new(Part, fields),)))
            count += 1
            position = found.end()
        return count, position

    def _careful(self, position: int) -> int:
        """Reads one tensor, whatever there is to it; answers where it ends."""
        found = _PLAIN.match(self._text, position)
        key, end = parse_value(self._text, position)
        if not isinstance(key, str):
            raise MalformedError("no valid JSON (a name should be a string)")
        value, end = parse_value(self._text, self._behind(": ", end))
        fields = Fields(value, repr(key), self._outer)
        tensor = _tensor(key, fields, self._files, self._chunk_bytes)
        self._tensors[key] = tensor
        if found is not None:
            _, type_name, sizes, _, _, length, _ = found.groups()
            self._forms[type_name, sizes, length] = tensor
        return end

    def _behind(self, separator: str, position: int) -> int:
        if not self._text.startswith(separator, position):
            raise MalformedError(f"no valid JSON ({separator!r} should be in {self._outer.name})")
        return position + len(separator)


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
