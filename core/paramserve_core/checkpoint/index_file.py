"""The index file of the own format, as `docs/checkpoint-format.md` specifies it.

Thread rule: pure functions, and objects that belong to one thread.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

import numpy as np

from paramserve_core.checkpoint.checksum import crc32
from paramserve_core.checkpoint.columns import (
    ABSENT,
    Rows,
    StoredForm,
    Tensors,
    in_columns,
    sums_before,
)
from paramserve_core.checkpoint.index import (
    CHUNK_BYTES,
    Index,
    Layout,
    StoredFile,
    check_shape,
    check_size,
    chunk_count,
)
from paramserve_core.checkpoint.json_fields import (
    Fields,
    MalformedError,
    parse_first,
    parse_object,
)
from paramserve_core.checkpoint.places import SavedFile, file_name
from paramserve_core.checkpoint.slices import Box, cover
from paramserve_core.dtypes import as_dtype
from paramserve_core.errors import InvalidArgumentError

FORMAT_VERSION: Final = 1

_START: Final = b'{\n "metadata": '
_MEMBERS: Final = ("metadata", "weight_map", "tensors", "files")


@dataclass(frozen=True, slots=True)
class IndexHead:
    """Which save an index is of: its id, its number at the path, and its graph's file."""

    save_id: str
    generation: int
    meta_graph: str


def encode_index(index: Index) -> bytes:
    """The content of an index file."""
    tensors = in_columns(index.tensors, index.files, CHUNK_BYTES)
    metadata: dict[str, object] = {
        "total_size": tensors.total_bytes,
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
    rows = tensors.rows
    weight_map = dict(zip(rows.names, map(rows.files.__getitem__, rows.file.tolist()), strict=True))
    columns = {
        "forms": [_form_members(form) for form in rows.forms],
        "form": rows.form.tolist(),
        "offset": rows.offset.tolist(),
        "checksums": rows.checksums_in_order().astype(">u4").tobytes().hex(),
    }
    members = (metadata, weight_map, columns, files)
    texts = [json.dumps(member, ensure_ascii=False) for member in members]
    lines = [f'"{name}": {text},' for name, text in zip(_MEMBERS, texts, strict=True)]
    body = "\n ".join(["{", *lines, '"checksum": ']).encode()
    return body + _tail(crc32(body))


def _form_members(form: StoredForm) -> dict[str, object]:
    members: dict[str, object] = {
        "dtype": form.dtype.name,
        "shape": form.shape,
        "bytes": form.nbytes,
    }
    if not form.is_whole:
        members["begin"], members["size"] = form.box.begin, form.box.shape
    return members


def _tail(checksum: int) -> bytes:
    return f'"{checksum:08x}"\n}}'.encode()


def decode_index(content: bytes) -> Index:
    """Reads an index file.

    Raises:
        MalformedError: it is damaged, or not what the format says.
    """
    _check_frame(content)
    root = parse_object(content)
    root.only(*_MEMBERS, "checksum")
    metadata = root.fields("metadata")
    head = _head(metadata)
    files = _files(root.fields("files"), head.save_id)
    return Index(
        layout=Layout.SAFETENSORS,
        tensors=_tensors(root, files, metadata.integer("chunk_bytes", 1)),
        files=files,
        save_id=head.save_id,
        generation=head.generation,
        step=metadata.integer("step", -1 << 63) if "step" in metadata else None,
        graph_hash=_graph_hash(metadata) if "graph_hash" in metadata else "",
        meta_graph=head.meta_graph,
        writer=metadata.text("writer"),
        writers=_writers(metadata.fields("tasks")) if "tasks" in metadata else {},
    )


def _writers(members: Fields) -> dict[str, str]:
    return {file: members.text(file) for file in members}


def _graph_hash(metadata: Fields) -> str:
    text = metadata.text("graph_hash")
    try:
        if bytes.fromhex(text).hex() == text:
            return text
    except ValueError:
        pass
    raise MalformedError(f"its graph_hash {text!r:.100} is not in hexadecimal digits")


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


def _tensors(root: Fields, files: Mapping[str, StoredFile], chunk_bytes: int) -> Tensors:
    """The tensors: `weight_map` has their names, `tensors` the rest, in the same order."""
    file_of = root.fields("weight_map").texts()
    columns = root.fields("tensors")
    columns.only("forms", "form", "offset", "checksums")
    forms = [_form(fields) for fields in columns.objects("forms")]
    names = list(file_of)
    form = columns.column("form", len(names), len(forms) - 1)
    # Counted in Python's integers: what a form claims need not fit into any other.
    uses = np.bincount(form, minlength=len(forms)).tolist()
    counts = [chunk_count(form.nbytes, chunk_bytes) for form in forms]
    checksum_count = sum(map(operator.mul, uses, counts))
    numbers = {name: number for number, name in enumerate(files)}
    file = list(map(numbers.get, file_of.values(), repeat(ABSENT)))
    rows = Rows(
        names=names,
        files=list(files),
        file=np.array(file, np.int64),
        forms=forms,
        form=form,
        offset=columns.column("offset", len(names)),
        checksums=columns.checksums("checksums", checksum_count),
        first=sums_before(np.array(counts, np.int64)[form]),
        chunk_bytes=chunk_bytes,
    )
    _check_places(rows, files, file_of)
    tensors = Tensors(rows)
    _check_parts(tensors)
    return tensors


def _form(fields: Fields) -> StoredForm:
    fields.only("dtype", "shape", "bytes", "begin", "size")
    try:
        dtype = as_dtype(fields.text("dtype"))
    except TypeError as error:
        raise MalformedError(f"a form of 'tensors': {error}") from None
    if dtype.is_ref:
        raise MalformedError(f"a form of 'tensors' is of type {dtype.name}, which is not stored")
    shape = fields.integers("shape")
    check_shape("a form of 'tensors'", shape)
    box = Box.whole(shape)
    if "begin" in fields or "size" in fields:
        box = Box(fields.integers("begin"), fields.integers("size"))
        where = f"{list(box.shape)} from {list(box.begin)}"
        if not box.fits(shape):
            raise MalformedError(f"{where} lies outside of a tensor of shape {list(shape)}")
        if box.is_whole(shape):
            raise MalformedError(f"{where} is the whole tensor, of which only its shape is told")
    nbytes = fields.integer("bytes")
    check_size(f"a tensor of shape {list(box.shape)}", nbytes, box.shape, dtype)
    return StoredForm(dtype, shape, box, nbytes)


def _check_places(rows: Rows, files: Mapping[str, StoredFile], file_of: Mapping[str, str]) -> None:
    """Refuses a part that is not within its file, or that takes bytes of another.

    Raises:
        MalformedError: there is one.
    """
    if not rows.names:
        return
    for row in np.flatnonzero(rows.file == ABSENT)[:1].tolist():
        name = rows.names[row]
        raise MalformedError(f"{name!r:.100} is in {file_of[name]!r:.100}, which is not listed")
    begins = np.array([file.header_bytes for file in files.values()], np.int64)
    ends = np.array([file.nbytes or 0 for file in files.values()], np.int64)
    sizes, offset = rows.sizes(), rows.offset
    # None of these is negative, so there is no overflow here, which there would be in a sum.
    is_outside = (offset < begins[rows.file]) | (offset > ends[rows.file] - sizes)
    for row in np.flatnonzero(is_outside)[:1].tolist():
        raise MalformedError(
            f"{rows.names[row]!r:.100} is not within the file {rows.files[rows.file[row]]!r:.100}"
        )
    order = np.flatnonzero(sizes)
    order = order[np.lexsort((offset[order], rows.file[order]))]
    file, first, end = rows.file[order], offset[order], (offset + sizes)[order]
    for at in np.flatnonzero((file[1:] == file[:-1]) & (first[1:] < end[:-1]))[:1].tolist():
        one, other = rows.names[order[at]], rows.names[order[at + 1]]
        raise MalformedError(f"{one!r:.100} and {other!r:.100} have bytes in common")


def _check_parts(tensors: Tensors) -> None:
    """Refuses parts that do not make up a tensor.

    Raises:
        MalformedError: there are some.
    """
    rows = tensors.rows
    for row in chain.from_iterable(tensors.in_parts.values()):
        name, box = rows.names[row], rows.forms[rows.form[row]].box
        if not name.endswith(str(box)):
            raise MalformedError(f"{name!r:.100} is no name of the part {box} of a tensor")
    for key, own in tensors.in_parts.items():
        forms = [rows.forms[rows.form[row]] for row in own]
        dtype, shape, _, _ = forms[0]
        is_one = {(form.dtype, form.shape) for form in forms} == {(dtype, shape)}
        if not is_one or tensors.is_whole(key) or not cover([form.box for form in forms], shape):
            raise MalformedError(f"the parts of {key!r:.100} are not the whole tensor")
