"""The checksum: published values, any length, any split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserve_core.crc32c import crc32c, mask, unmask


def bit_by_bit(data: bytes, value: int = 0) -> int:
    """The definition."""
    state = value ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def by_bytes(data: bytes, value: int = 0) -> int:
    """The definition with a table, for larger inputs."""
    table = [bit_by_bit(bytes([b]), 0xFFFFFFFF) ^ 0xFFFFFFFF for b in range(256)]
    state = value ^ 0xFFFFFFFF
    for byte in data:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


# RFC 3720, section B.4, and the check value of the catalogue of CRCs.
@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_published_values(data, checksum):
    assert crc32c(data) == checksum


@given(st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_equals_the_definition_at_any_length_and_start(data, value):
    assert crc32c(data, value) == bit_by_bit(data, value)


@pytest.mark.parametrize("size", [1023, 1024, 1025, 45479, 45480, 45481, 45488, 80_003])
def test_equals_the_definition_around_rows_and_folds(size):
    data = np.random.default_rng(size).bytes(size)
    assert crc32c(data, 7) == by_bytes(data, 7)


@pytest.mark.parametrize("extra", [-1, 0, 1, 3, 4, 5, 8])
def test_pieces_of_a_large_message_are_one_message(extra):
    size = (1 << 19) + extra
    data = np.random.default_rng(1).bytes(2 * size)
    whole = crc32c(data)
    assert crc32c(data[size:], crc32c(data[:size])) == whole
    tiny = crc32c(data[:3])
    assert crc32c(memoryview(data)[3:], tiny) == whole


def test_takes_any_contiguous_buffer():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    wanted = crc32c(array.tobytes())
    assert crc32c(array) == crc32c(bytearray(array.tobytes())) == wanted
    assert crc32c(memoryview(array)) == wanted
    with pytest.raises(ValueError, match="contiguous"):
        crc32c(array[:, ::2])


@given(st.integers(0, 2**32 - 1))
def test_unmask_undoes_mask(checksum):
    masked = mask(checksum)
    assert 0 <= masked < 2**32
    assert unmask(masked) == checksum


def test_mask_is_that_of_the_file_formats():
    # The header of a record of 24 bytes, as TensorFlow writes it.
    length = (24).to_bytes(8, "little")
    assert mask(crc32c(length)).to_bytes(4, "little").hex() == "a37f4b22"
