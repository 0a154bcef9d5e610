"""Arrays that are lent to the peer as they are, and when their memory is used again."""

import gc

import numpy as np
import pytest

from paramserve_core.errors import UnimplementedError
from paramserve_core.executor.variable import read_only
from paramserve_core.transport import choice, segments
from paramserve_core.transport.choice import Transport, push_buffer
from paramserve_core.transport.interface import Message
from paramserve_core.transport.lending import SHARED_BYTES, Lender
from paramserve_core.transport.segments import locate
from transport_fakes import call

FLOAT = np.dtype(np.float32)
ELEMENTS = SHARED_BYTES // 4


def test_a_buffer_is_lent_where_it_lies_as_a_whole_and_in_part():
    lender = Lender(1 << 30)
    buffer = push_buffer([4, ELEMENTS], FLOAT, Transport.SHM)
    found = locate(buffer)
    assert found is not None
    assert found[1] == 0
    outgoing = lender.pack(Message(call(), [read_only(buffer), read_only(buffer[1:3])]))
    assert outgoing.blocks == [found[0], found[0]]
    assert [place.offset for place in outgoing.packet.shared] == [0, SHARED_BYTES]
    assert not outgoing.body


def test_what_is_writable_or_not_in_one_piece_is_copied():
    lender = Lender(1 << 30)
    buffer = push_buffer([4, ELEMENTS], FLOAT, Transport.SHM)
    found = locate(buffer)
    assert found is not None
    outgoing = lender.pack(Message(call(), [buffer, read_only(buffer[::2])]))
    assert found[0] not in outgoing.blocks


def test_the_memory_of_a_buffer_is_used_again_once_it_is_gone_and_the_peer_is_done():
    lender = Lender(1 << 30)
    buffer = push_buffer([4, ELEMENTS], FLOAT, Transport.SHM)
    buffer.fill(7)
    found = locate(buffer)
    assert found is not None
    segment = found[0].segment
    outgoing = lender.pack(Message(call(), [read_only(buffer)]))
    lease = outgoing.packet.segments[0].lease
    del outgoing, buffer, found
    gc.collect()
    assert segment not in segments.POOL._idle._pieces
    lender.take_back(lease)
    assert segment in segments.POOL._idle._pieces
    again = push_buffer([4, ELEMENTS], FLOAT, Transport.SHM)
    assert not again.any()


@pytest.mark.parametrize(
    ("shape", "transport"), [([ELEMENTS - 1], Transport.SHM), ([4, ELEMENTS], Transport.GRPC)]
)
def test_a_small_buffer_and_one_for_grpc_are_ordinary_arrays(shape, transport):
    buffer = push_buffer(shape, FLOAT, transport)
    assert locate(buffer) is None
    assert buffer.flags.owndata
    assert not buffer.any()


def test_a_buffer_is_refused_where_shared_memory_is_demanded_and_impossible(monkeypatch):
    monkeypatch.setattr(choice, "_HAS_LOCAL", False)
    with pytest.raises(UnimplementedError, match="shared memory works on Linux"):
        push_buffer([4], FLOAT, Transport.SHM)
    assert push_buffer([4], FLOAT, Transport.AUTO).flags.owndata
