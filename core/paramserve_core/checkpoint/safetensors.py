"""The header of a safetensors file.

A file is the length of its header (`uint64`), the header, then the tensors back to back. The
header is JSON: per tensor its type, shape and range of bytes behind the header, and text under
`__metadata__`. The ranges cover the file without gaps or overlap. It is for other programs: what is
restored is found by the checkpoint's index, which has a checksum of the header.

See https://huggingface.co/docs/safetensors for the format.

Thread rule: pure functions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from paramserve_core.checkpoint.json_fields import quoted

_LENGTH_BYTES: Final = 8
_METADATA: Final = "__metadata__"
_ALIGNMENT: Final = 64


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
    content += b" " * (-(len(content) + _LENGTH_BYTES) % _ALIGNMENT)
    return len(content).to_bytes(_LENGTH_BYTES, "little") + content
