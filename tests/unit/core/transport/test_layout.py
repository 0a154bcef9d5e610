"""How the tensors of a message are announced, remembered, and cut out of its bytes."""

import ml_dtypes
import numpy as np
import pytest

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.transport.layout import Announcer, Layout, Layouts, Remembered, joined
from paramserve_protos.v1 import local_transport_pb2

LIMIT = 1 << 30


def announced(*tensors, large_bytes=1 << 20):
    return Announcer(large_bytes).announce(tensors)


def arrays_of(layout, body, *, are_own):
    """The tensors of a layout whose every run is plain."""
    body, begin, found = np.frombuffer(body, np.uint8), 0, []
    for run in layout.runs:
        end = begin + run.size * (run.end - run.begin)
        found += run.arrays(body[begin:end], are_own=are_own)
        begin = end
    assert begin == len(body)
    return found


@pytest.mark.parametrize("are_own", [False, True])
def test_tensors_are_cut_out_of_the_bytes_of_a_message(are_own):
    sent = [
        *(np.full((2, 3), n, np.float32) for n in range(5)),
        np.array([True, False, True]),
        np.float64(7) * np.ones(()),
        np.float64(8) * np.ones(()),
        np.arange(3, dtype=np.int64),
    ]
    layout = Layout.of(announced(*sent).encoded, LIMIT)
    assert [(run.begin, run.end) for run in layout.runs] == [(0, 5), (5, 6), (6, 8), (8, 9)]
    arrived = arrays_of(layout, b"".join(sent), are_own=are_own)
    for array, expected in zip(arrived, sent, strict=True):
        assert type(array) is np.ndarray
        assert array.dtype == expected.dtype
        assert array.flags.aligned
        np.testing.assert_array_equal(array, expected)
        assert array.flags.owndata or not are_own


def test_bytes_that_are_no_bools_become_bools():
    layout = Layout.of(announced(np.zeros(3, np.bool_)).encoded, LIMIT)
    (array,) = arrays_of(layout, b"\x00\x02\xff", are_own=False)
    assert array.view(np.uint8).tolist() == [0, 1, 1]


def test_tensors_of_known_types_and_shapes_are_announced_in_the_same_bytes():
    announcer = Announcer(64)
    first = announcer.announce([np.zeros(3), np.zeros(100)])
    assert first.small == (0,)
    assert first.large == (1,)
    assert announcer.announce([np.ones(3), np.ones(100)]) is first
    for others in (
        [np.zeros(3), np.zeros(99)],
        [np.zeros(3), np.zeros(100, np.float32)],
        [np.zeros(3), np.zeros(100, ">f8")],
        [np.zeros(3)],
    ):
        assert announcer.announce(others).encoded != first.encoded or others[1].dtype == ">f8"


@pytest.mark.parametrize(
    "tensor",
    [
        np.array([b"a", b"bcd"], object),
        np.arange(5).astype(ml_dtypes.bfloat16),
        np.arange(5, dtype=">i4"),
    ],
    ids=["strings", "bfloat16", "big-endian"],
)
def test_tensors_that_are_not_their_bytes_are_packed_each_time(tensor):
    announcer = Announcer(1 << 20)
    one, other = announcer.announce([tensor]), announcer.announce([tensor[:0]])
    again = announcer.announce([tensor])
    assert again.encoded == one.encoded != other.encoded
    assert b"".join(again.bodies) == b"".join(one.bodies)
    assert again.small_bytes == sum(map(len, again.bodies)) == again.size


def test_pieces_that_are_not_contiguous_are_joined_in_row_major_order():
    square = np.arange(9, dtype=np.int32).reshape(3, 3)
    assert b"".join(joined([b"ab", square.T, square[:, 1]])) == (
        b"ab" + square.T.tobytes() + square[:, 1].tobytes()
    )


def test_many_pieces_are_joined_in_order():
    pieces = [np.array([n], "<u4") for n in range(3000)]
    assert np.frombuffer(b"".join(joined(pieces)), "<u4").tolist() == list(range(3000))


def test_bytes_that_were_understood_are_not_looked_into_again():
    layouts = Layouts(LIMIT)
    encoded = announced(np.zeros(3)).encoded
    assert layouts.find(bytes(encoded)) is layouts.find(bytes(bytearray(encoded)))


def test_a_peer_cannot_make_this_one_remember_without_bound():
    remembered = Remembered(limit_bytes=10_000)
    for number in range(1000):
        remembered.keep(number, "", 0, bytes(100))
    assert 0 < len(remembered) < 100
    remembered.keep("much", "", 0, bytes(10_000))
    remembered.keep("many", "", 1000, b"")
    assert remembered.find("much") is None
    assert remembered.find("many") is None
    assert remembered.find(999) == ""


def test_a_layout_is_checked_before_it_is_remembered(monkeypatch):
    layouts = Layouts(1000)
    with pytest.raises(InvalidArgumentError, match="no TensorList"):
        layouts.find(b"\xff")
    with pytest.raises(ResourceExhaustedError, match="the limit is 1000"):
        layouts.find(announced(np.zeros(126)).encoded)
    wrong = local_transport_pb2.TensorList()
    wrong.tensors.add(dtype=1, dims=[2], payload_bytes=7)
    for _ in range(2):
        with pytest.raises(InvalidArgumentError, match=r"float32 of shape \[2\] has 8 bytes"):
            layouts.find(wrong.SerializeToString())
    monkeypatch.setattr("paramserve_core.transport.payload.MAX_TENSORS", 2)
    with pytest.raises(ResourceExhaustedError, match="3 tensors, the limit is 2"):
        layouts.find(announced(*[np.zeros(1)] * 3).encoded)
