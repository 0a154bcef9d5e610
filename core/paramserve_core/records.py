"""Records in a file, one after another: the framing of TensorBoard's event files (TFRecord).

A record is its length (8 bytes, little-endian), the masked CRC-32C of those, its content, and the
content's masked CRC-32C. So a reader notices a record that was cut off and one that was damaged,
and never trusts a length that is.

Thread rule: pure functions; a stream belongs to whoever reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from paramserve_core.crc32c import crc32c, mask
from paramserve_core.errors import DataLossError

_LENGTH_BYTES: Final = 8
_CHECKSUM_BYTES: Final = 4
_PIECE: Final = 1 << 20


def record(content: bytes) -> bytes:
    """A record with that content."""
    length = len(content).to_bytes(_LENGTH_BYTES, "little")
    return length + _checksum(length) + content + _checksum(content)


def read_records(stream: BinaryIO, what: str) -> Iterator[bytes]:
    """The contents of the records of a stream.

    Args:
        stream: a file, at the beginning of a record.
        what: the file's name, for errors.

    Raises:
        DataLossError: a record is damaged, or the last one was cut off; the message says where it
            begins.
    """
    position = 0
    while True:
        head = stream.read(_LENGTH_BYTES + _CHECKSUM_BYTES)
        if not head:
            return
        size = int.from_bytes(head[:_LENGTH_BYTES], "little")
        if len(head) < _LENGTH_BYTES + _CHECKSUM_BYTES:
            raise _loss(what, position, "is cut off")
        if head[_LENGTH_BYTES:] != _checksum(head[:_LENGTH_BYTES]):
            raise _loss(what, position, "has a damaged length")
        content = _read(stream, size)
        checksum = stream.read(_CHECKSUM_BYTES)
        if len(checksum) < _CHECKSUM_BYTES:
            raise _loss(what, position, "is cut off")
        if checksum != _checksum(content):
            raise _loss(what, position, "is damaged")
        yield content
        position += len(head) + size + _CHECKSUM_BYTES


def _read(stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes, without memory for more than the stream turns out to have."""
    parts = []
    while size:
        part = stream.read(min(size, _PIECE))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _checksum(data: bytes) -> bytes:
    return mask(crc32c(data)).to_bytes(_CHECKSUM_BYTES, "little")


def _loss(what: str, position: int, fate: str) -> DataLossError:
    return DataLossError(None, None, f"{what}: the record at byte {position} {fate}")
