"""The header of a safetensors file, written and read.

A file is the length of its header (`uint64`), the header, then the tensors back to back. The
header is JSON: per tensor its type, shape and range of bytes behind the header, and text under
`__metadata__`. The ranges cover the file without gaps or overlap, which is checked here along
with everything else, because a file may be damaged or a stranger's.

See https://huggingface.co/docs/safetensors for the format.

Thread rule: pure functions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from paramserve_core.checkpoint.json_fields import MalformedError, parse_object, quoted
from paramserve_core.checkpoint.stored import SAFETENSORS_TYPES

LENGTH_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 1 << 28
_METADATA: Final = "__metadata__"
_ALIGNMENT: Final = 64
_ITEM_BYTES: Final = {name: dtype.size for name, dtype in SAFETENSORS_TYPES.items()} | {
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "C64": 8,
}


class HeaderEntry(NamedTuple):
    """One tensor of a file; `offset` counts from the end of the header."""

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def encode_header(tensors: Sequence[HeaderEntry], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file: the header and its length.

    The data begin at a multiple of 64 bytes, so that a mapped file is aligned.
    """
    members = []
    if metadata:
        text = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
        members.append(f'"{_METADATA}":{text}')
    forms: dict[tuple[str, tuple[int, ...]], str] = {}
    for name, type_name, shape, offset, nbytes in tensors:
        # Put together from pieces that many tensors share: `json` takes three times as long.
        form = forms.get((type_name, shape))
        if form is None:
            form = f'"dtype":"{type_name}","shape":[{",".join(map(str, shape))}]'
            forms[type_name, shape] = form
        members.append(f'{quoted(name)}:{{{form},"data_offsets":[{offset},{offset + nbytes}]}}')
    content = f"{{{','.join(members)}}}".encode()
    content += b" " * (-(len(content) + LENGTH_BYTES) % _ALIGNMENT)
    return len(content).to_bytes(LENGTH_BYTES, "little") + content


def header_bytes(start: bytes, file_bytes: int) -> int:
    """How many bytes of a file are header and length, by its first 8 bytes.

    Raises:
        MalformedError: the file is shorter.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < LENGTH_BYTES or length > min(MAX_HEADER_BYTES, file_bytes - LENGTH_BYTES):
        raise MalformedError("the length of its header is not that of a safetensors file")
    return length + LENGTH_BYTES


def decode_header(header: bytes, file_bytes: int) -> list[HeaderEntry]:
    """The tensors of a file, in the order of their bytes.

    Args:
        header: as many bytes as `header_bytes` says.
        file_bytes: the size of the file.

    Raises:
        MalformedError: the header is not what the format says.
    """
    members = parse_object(header[LENGTH_BYTES:])
    entries = []
    for name in members:
        if name == _METADATA:
            metadata = members.fields(name)
            for key in metadata:
                metadata.text(key, MAX_HEADER_BYTES)
            continue
        fields = members.fields(name)
        fields.only("dtype", "shape", "data_offsets")
        offsets = fields.integers("data_offsets")
        if len(offsets) != 2 or offsets[0] > offsets[1]:
            raise MalformedError(f"'data_offsets' of {name!r:.100} is no range")
        entry = HeaderEntry(
            name=name,
            type=fields.text("dtype"),
            shape=fields.integers("shape"),
            offset=offsets[0],
            nbytes=offsets[1] - offsets[0],
        )
        item_bytes = _ITEM_BYTES.get(entry.type)
        if item_bytes is not None and math.prod(entry.shape) * item_bytes != entry.nbytes:
            raise MalformedError(f"{name!r:.100} has {entry.nbytes} bytes, which do not fit")
        entries.append(entry)
    entries.sort(key=lambda e: (e.offset, e.nbytes))
    position = 0
    for entry in entries:
        if entry.offset != position:
            raise MalformedError(f"the bytes before {entry.name!r:.100} belong to no tensor or two")
        position += entry.nbytes
    if len(header) + position != file_bytes:
        raise MalformedError(f"the tensors end at {position}, the file does not")
    return entries
