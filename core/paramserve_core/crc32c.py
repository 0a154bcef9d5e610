"""CRC-32C, the checksum of TensorFlow's checkpoints and event files, at the speed of NumPy.

`zlib` has the other CRC-32 only, so this is written out here. A CRC is the remainder of the data,
read as a polynomial over GF(2) with the first bit as its highest coefficient, by the polynomial
`P`, and it can be had without a step per byte in two ways:

- *Folding.* If a sparse polynomial ``y**c + y**b + y**a + 1`` is a multiple of `P`, then so is the
  one with ``x**64`` for ``y`` (over GF(2) it is the 64th power). So the first 8-byte word of a
  message may be taken away when it is added (XOR) to the words ``c - b``, ``c - a`` and ``c``
  places on: three passes over the data, and no table. This one was found by search; among those of
  small degree it lets the most words, ``c - b``, be folded at a time.
- *Contributions.* The remainder is linear, so the remainder of 1024 bytes is the XOR over them of
  what each contributes by its value and its distance from the end: one look-up per byte in a table,
  for all bytes at once. This is for what folding leaves, and for small messages.

Zeros in front of a message change nothing, and a checksum so far enters as an XOR into the first
four bytes; so every length is made to fit by padding in front.

Thread rule: pure functions; the table is made once, by whoever needs it first.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = "bytes | bytearray | memoryview | NDArray[Any]"

_REFLECTED: Final = 0x82F63B78
"""`P`, lowest coefficient last, without its highest."""

_FOLD: Final = (4323, 5259, 5685)
"""``c - b``, ``c - a`` and ``c`` of ``y**5685 + y**1362 + y**426 + 1``, a multiple of `P`."""

_REST: Final = _FOLD[-1]
_ROW: Final = 1024
_PIECE: Final = 1 << 16
"""Words folded at a time, so that the working copy stays in the cache."""

_TINY: Final = 16
_MASK_DELTA: Final = 0xA282EAD8


def crc32c(data: Bytes, value: int = 0) -> int:
    """The checksum of `data`.

    Args:
        data: contiguous bytes, or a contiguous array whose bytes are meant.
        value: the checksum of what comes before `data`, to go on from it.
    """
    content = np.frombuffer(data, np.uint8)
    state = value ^ 0xFFFFFFFF
    if content.size <= _TINY:
        for byte in content.tolist():
            state = _byte_table()[(state ^ byte) & 0xFF] ^ (state >> 8)
    else:
        state = _remainder(_folded(_words(content, state)))
    return state ^ 0xFFFFFFFF


def mask(checksum: int) -> int:
    """The form in which files store a checksum: a checksum of data with checksums in it is weak."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def unmask(masked: int) -> int:
    """The checksum that `mask` was given."""
    rotated = (masked - _MASK_DELTA) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF


def _words(content: NDArray[np.uint8], state: int) -> Iterator[NDArray[np.uint64]]:
    """The message with `state` in it, in pieces of whole words; the first is padded in front."""
    first = content.size % (8 * _PIECE) or 8 * _PIECE
    words = np.zeros(-(-first // 8), np.uint64)
    padded = words.view(np.uint8)
    start = padded.size - first
    padded[start:] = content[:first]
    head = np.frombuffer(state.to_bytes(4, "little"), np.uint8)
    padded[start : start + 4] ^= head[: padded.size - start]
    carried = head[padded.size - start :]
    yield words
    for begin in range(first, content.size, 8 * _PIECE):
        piece = content[begin : begin + 8 * _PIECE]
        if carried.size:
            piece = piece.copy()
            piece[: carried.size] ^= carried
            carried = carried[:0]
        yield np.frombuffer(piece, np.uint64)


def _folded(pieces: Iterator[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """A message of at most `_REST` words with the same remainder."""
    block = _FOLD[0]
    work = np.empty(_REST + _PIECE, np.uint64)
    rest = 0
    for piece in pieces:
        size = rest + piece.size
        work[rest:size] = piece
        end = size - _REST
        for begin in range(0, end, block):
            count = min(block, end - begin)
            folded = work[begin : begin + count]
            for distance in _FOLD:
                work[begin + distance : begin + distance + count] ^= folded
        rest = min(size, _REST)
        work[:rest] = work[size - rest : size].copy()
    return work[:rest]


def _remainder(words: NDArray[np.uint64]) -> int:
    rows = -(-words.nbytes // _ROW)
    padded = np.zeros((rows, _ROW), np.uint8)
    padded.reshape(-1)[rows * _ROW - words.nbytes :] = words.view(np.uint8)
    table, offsets, (first, second, third, fourth) = _contributions()
    # No index is out of bounds; to clip is the mode that does not check for it.
    found = np.take(table, padded + offsets, mode="clip")
    parts: NDArray[np.uint32] = np.bitwise_xor.reduce(found, axis=1)
    state = 0
    for part in parts.tolist():
        # What came before enters at the first four bytes of this row.
        state = (
            part
            ^ first[state & 0xFF]
            ^ second[(state >> 8) & 0xFF]
            ^ third[(state >> 16) & 0xFF]
            ^ fourth[state >> 24]
        )
    return state


@cache
def _byte_table() -> list[int]:
    """The remainder of each byte."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_REFLECTED), table >> 1)
    result: list[int] = table.tolist()
    return result


@cache
def _contributions() -> tuple[NDArray[np.uint32], NDArray[np.intp], list[list[int]]]:
    """What each value of each byte of a row contributes.

    Returns:
        The contributions, 256 for each of the row's positions; where each position's begin; and
        those of the first four positions once more, as lists.
    """
    base = np.array(_byte_table(), np.uint32)
    table = np.empty((_ROW, 256), np.uint32)
    table[-1] = base
    for position in range(_ROW - 2, -1, -1):
        later = table[position + 1]
        table[position] = base[later & 0xFF] ^ (later >> 8)
    return table.reshape(-1), np.arange(_ROW, dtype=np.intp) * 256, table[:4].tolist()
