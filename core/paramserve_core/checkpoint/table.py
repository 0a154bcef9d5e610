"""Sorted tables of records (LevelDB's file format), as TensorFlow's checkpoints use them.

A table is a sequence of blocks, each followed by its compression and its checksum; then a block
that names the others by their last keys; then a footer of 48 bytes that says where that block is.
Within a block a key is stored as what it adds to the key before it.

A table may be damaged or a stranger's: every length is checked before it is used. A block has a
checksum, and what is outside of blocks must be what a writer puts there: so no bit can change
unnoticed.

Thread rule: pure functions.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from paramserve_core.checkpoint import snappy
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.crc32c import crc32c, mask

MAGIC: Final = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER_BYTES: Final = 48
TRAILER_BYTES: Final = 5

_BLOCK_BYTES: Final = 256 << 10
_RESTART_INTERVAL: Final = 16
_MAX_BLOCK_BYTES: Final = 1 << 31
_UNCOMPRESSED: Final = 0
_SNAPPY: Final = 1

Read = Callable[[int, int], bytes]
"""Answers so many bytes from an offset in a file."""


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block is, without its trailer."""

    offset: int
    nbytes: int


def data_blocks(read: Read, size: int) -> list[Block]:
    """The blocks with a table's records, in the order of their keys.

    Raises:
        MalformedError: the file is no table, or is damaged.
    """
    if size < FOOTER_BYTES:
        raise MalformedError("it is too short for a table")
    footer = read(size - FOOTER_BYTES, FOOTER_BYTES)
    if footer[-len(MAGIC) :] != MAGIC:
        raise MalformedError("it does not end like a table")
    end = size - FOOTER_BYTES
    meta, position = _block(footer, 0, end)
    top, _ = _block(footer, position, end)
    if footer != _footer(meta, top):
        raise MalformedError("its last bytes are not as they are written")
    open_block(read(meta.offset, meta.nbytes + TRAILER_BYTES))  # Nothing is in it but its checksum.
    blocks = []
    for _, value in records(open_block(read(top.offset, top.nbytes + TRAILER_BYTES))):
        block, used = _block(value, 0, end)
        if used != len(value):
            raise MalformedError("the place of a block is followed by something else")
        blocks.append(block)
    position = 0
    for block in (*blocks, meta, top):
        if block.offset != position:
            raise MalformedError("it has bytes that belong to no block or to two")
        position += block.nbytes + TRAILER_BYTES
    if position != end:
        raise MalformedError("it has bytes that belong to no block")
    return blocks


def open_block(stored: bytes | memoryview) -> bytes:
    """The content of a block that is stored with its trailer.

    Raises:
        MalformedError: it is damaged, or compressed in an unknown way.
    """
    if len(stored) < TRAILER_BYTES:
        raise MalformedError("a block is cut off")
    view = memoryview(stored)
    content, trailer = view[:-TRAILER_BYTES], view[-TRAILER_BYTES:]
    if int.from_bytes(trailer[1:], "little") != mask(crc32c(view[:-4])):
        raise MalformedError("the checksum of a block does not match")
    if trailer[0] == _UNCOMPRESSED:
        return bytes(content)
    if trailer[0] == _SNAPPY:
        return snappy.decompress(content, _MAX_BLOCK_BYTES)
    raise MalformedError(f"a block has the unknown compression {trailer[0]}")


def records(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block.

    Raises:
        MalformedError: a length in it leads out of it.
    """
    if len(block) < 4:
        raise MalformedError("a block is cut off")
    end = len(block) - 4 - 4 * int.from_bytes(block[-4:], "little")
    if end < 0:
        raise MalformedError("a block has more restart points than fit into it")
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position, end)
        added, position = read_varint(block, position, end)
        length, position = read_varint(block, position, end)
        if shared > len(key) or position + added + length > end:
            raise MalformedError("a record leads out of its block")
        key = key[:shared] + block[position : position + added]
        position += added
        yield key, block[position : position + length]
        position += length


def write_table(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of records in ascending order of their keys."""
    out = bytearray()
    top = _BlockWriter(interval=1)
    data = _BlockWriter(_RESTART_INTERVAL)
    for key, value in items:
        data.add(key, value)
        if data.nbytes >= _BLOCK_BYTES:
            _flush(out, data, top)
    _flush(out, data, top)
    meta_block = _append(out, _BlockWriter(1).content())
    top_block = _append(out, top.content())
    return bytes(out + _footer(meta_block, top_block))


def read_varint(data: bytes | memoryview, position: int, end: int) -> tuple[int, int]:
    """An unsigned varint of at most 64 bits, and the position after it.

    Raises:
        MalformedError: it is longer, or cut off.
    """
    number = 0
    for shift in range(0, 64, 7):
        if position >= end:
            break
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise MalformedError("a number is cut off or too long")


def write_varint(number: int) -> bytes:
    """An unsigned varint."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _block(data: bytes, position: int, end: int) -> tuple[Block, int]:
    offset, position = read_varint(data, position, len(data))
    nbytes, position = read_varint(data, position, len(data))
    if offset + nbytes + TRAILER_BYTES > end or nbytes > _MAX_BLOCK_BYTES:
        raise MalformedError("a block is said to be outside of the file")
    return Block(offset, nbytes), position


def _encode(block: Block) -> bytes:
    return write_varint(block.offset) + write_varint(block.nbytes)


def _footer(meta: Block, top: Block) -> bytes:
    return (_encode(meta) + _encode(top)).ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC


def _append(out: bytearray, content: bytes) -> Block:
    block = Block(len(out), len(content))
    stored = content + bytes([_UNCOMPRESSED])
    out += stored + mask(crc32c(stored)).to_bytes(4, "little")
    return block


def _flush(out: bytearray, data: _BlockWriter, top: _BlockWriter) -> None:
    if data.nbytes:
        last = data.last_key
        top.add(last, _encode(_append(out, data.content())))
        data.clear()


class _BlockWriter:
    """Gathers the records of one block."""

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self.clear()

    def clear(self) -> None:
        self._out = bytearray()
        self._restarts = [0]
        self._since_restart = 0
        self.last_key = b""

    @property
    def nbytes(self) -> int:
        return len(self._out)

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._since_restart == self._interval:
            self._restarts.append(len(self._out))
            self._since_restart = 0
        elif self._out:
            shared = _common_prefix(self.last_key, key)
        self._out += write_varint(shared) + write_varint(len(key) - shared)
        self._out += write_varint(len(value)) + key[shared:] + value
        self._since_restart += 1
        self.last_key = key

    def content(self) -> bytes:
        restarts = struct.pack(f"<{len(self._restarts) + 1}I", *self._restarts, len(self._restarts))
        return bytes(self._out) + restarts


def _common_prefix(a: bytes, b: bytes) -> int:
    length = min(len(a), len(b))
    if a[:length] == b[:length]:
        return length
    return next(i for i in range(length) if a[i] != b[i])
