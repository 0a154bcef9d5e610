"""Record files: what was written is read, and what is damaged is noticed."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserve_core.crc32c import crc32c, mask
from paramserve_core.errors import DataLossError
from paramserve_core.records import read_records, record


def read(data: bytes) -> list[bytes]:
    return list(read_records(io.BytesIO(data), "events"))


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_records_come_back_in_order(contents):
    assert read(b"".join(map(record, contents))) == contents


@given(st.binary(max_size=50), st.data())
def test_every_flipped_bit_is_noticed(content, data):
    damaged = bytearray(record(b"first") + record(content))
    bit = data.draw(st.integers(8 * len(record(b"first")), 8 * len(damaged) - 1))
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DataLossError, match="events: the record at byte 21 "):
        read(bytes(damaged))


@given(st.binary(max_size=50), st.data())
def test_a_record_that_was_cut_off_is_noticed(content, data):
    whole = record(content)
    size = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(DataLossError, match="events: the record at byte 0 is cut off"):
        read(whole[:size])


def test_a_length_is_not_believed_beyond_what_is_there():
    length = (1 << 62).to_bytes(8, "little")
    header = length + mask(crc32c(length)).to_bytes(4, "little")
    with pytest.raises(DataLossError, match="cut off"):
        read(header + b"little")


def test_a_record_larger_than_a_piece_is_whole():
    content = bytes(range(256)) * 10_000
    assert read(record(content)) == [content]
