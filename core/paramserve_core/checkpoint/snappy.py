"""Decompression of Snappy blocks, which old tables may have.

A block is the length of what it stands for, then elements: bytes as they are, or a copy of bytes
that came before. See https://github.com/google/snappy/blob/main/format_description.txt.

Thread rule: pure functions.
"""

from __future__ import annotations

from paramserve_core.checkpoint.json_fields import MalformedError


def decompress(data: bytes | memoryview, max_bytes: int) -> bytes:
    """What a block stands for.

    Raises:
        MalformedError: it is damaged, or stands for more than `max_bytes`.
    """
    length, position = _length(data)
    # A byte of input gives at most 64 bytes: a copy of that length takes two or three.
    if length > min(max_bytes, 64 * len(data)):
        raise MalformedError(f"a compressed block claims to hold {length} bytes")
    out = bytearray()
    end = len(data)
    while position < end:
        tag = data[position]
        position += 1
        kind = tag & 3
        if kind == 0:
            size = (tag >> 2) + 1
            if size > 60:
                extra = size - 60
                size = int.from_bytes(data[position : position + extra], "little") + 1
                position += extra
            if position + size > end:
                raise MalformedError("a compressed block is cut off")
            out += data[position : position + size]
            position += size
        else:
            width = (1, 2, 4)[kind - 1]
            if position + width > end:
                raise MalformedError("a compressed block is cut off")
            offset = int.from_bytes(data[position : position + width], "little")
            position += width
            size = (tag >> 2) + 1
            if kind == 1:
                offset |= tag >> 5 << 8
                size = (tag >> 2 & 7) + 4
            _copy(out, offset, size)
        if len(out) > length:
            break
    if len(out) != length:
        raise MalformedError(f"a compressed block holds {len(out)} bytes instead of {length}")
    return bytes(out)


def _length(data: bytes | memoryview) -> tuple[int, int]:
    length = 0
    for i in range(min(5, len(data))):
        length |= (data[i] & 0x7F) << (7 * i)
        if data[i] < 0x80:
            return length, i + 1
    raise MalformedError("a compressed block has no length")


def _copy(out: bytearray, offset: int, size: int) -> None:
    if not 0 < offset <= len(out):
        raise MalformedError("a compressed block copies from before its start")
    start = len(out) - offset
    if offset >= size:
        out += out[start : start + size]
        return
    # The copy reaches into itself: what is repeated is the last `offset` bytes.
    pattern = bytes(out[start:])
    out += (pattern * (size // offset + 1))[:size]
