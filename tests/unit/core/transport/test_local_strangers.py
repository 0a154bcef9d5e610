"""Whatever comes over the local socket, the server ends that connection and goes on."""

import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_fakes import RawClient, local_server, until
from paramserve_core import dtypes
from paramserve_core.transport import local_packets
from paramserve_core.transport.interface import Message
from paramserve_core.transport.segments import Segment
from paramserve_protos.v1 import local_transport_pb2 as pb
from transport_fakes import Echo, Inbox, call

MIB = 1 << 20
FLOAT = dtypes.float32.as_datatype_enum


@pytest.fixture(scope="module")
def server():
    with local_server(Echo()) as found:
        yield found


@pytest.fixture
def listener(server):
    return server[0]


@pytest.fixture
def client(listener):
    client = RawClient(listener)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def still_serves(server):
    """After each test somebody else is served, and nothing of the stranger is left."""
    yield
    inbox = Inbox()
    connection = server[1].dial(inbox, 10)
    connection.send(Message(call(9), [np.ones(MIB)]))
    assert inbox.next().envelope.call.id == 9
    connection.close()
    until(lambda: not server[0]._connections and not server[0]._strangers)


def announcing(*headers) -> pb.LocalPacket:
    """A message with tensors: (elements, bytes) each, of float32."""
    tensors = pb.TensorList()
    for count, size in headers:
        tensors.tensors.add(dtype=FLOAT, dims=[count], payload_bytes=size)
    return pb.LocalPacket(envelope=call(1).SerializeToString(), tensors=tensors.SerializeToString())


def lending(segment, /, **changes) -> pb.LocalPacket:
    """A packet that lends one segment with one tensor of 1 MiB, all right but for the changes."""
    fields = {"bytes": segment.size, "tensor": 0, "segment": 0, "offset": 0, **changes}
    packet = announcing((MIB // 4, MIB))
    packet.segments.add(id=1, bytes=fields["bytes"], lease=1)
    packet.shared.add(tensor=fields["tensor"], segment=fields["segment"], offset=fields["offset"])
    return packet


def test_a_packet_that_is_right_is_answered(client):
    segment = Segment(MIB)
    client.write(lending(segment), (), [segment.fd])
    assert client.next().envelope


def test_a_nonce_is_needed(listener):
    for nonce in (b"", b"x" * 32, b"x" * 100):
        client = RawClient(listener, greets=False)
        client.write(pb.LocalPacket(nonce=nonce))
        assert "showed a nonce that was not given out" in client.refusal()
        client.close()


def test_a_nonce_is_good_once(listener):
    nonce = listener.offer().nonce
    first, second = (RawClient(listener, greets=False) for _ in range(2))
    first.write(pb.LocalPacket(nonce=nonce))
    assert first.next() == pb.LocalPacket()
    second.write(pb.LocalPacket(nonce=nonce))
    assert "nonce" in second.refusal()
    first.close()
    second.close()


def test_a_nonce_is_good_for_half_a_minute(listener, monkeypatch):
    nonce = listener.offer().nonce
    now = listener._now()
    monkeypatch.setattr(listener, "_now", lambda: now + 31)
    client = RawClient(listener, greets=False)
    client.write(pb.LocalPacket(nonce=nonce))
    assert "older than 30 s" in client.refusal()
    client.close()


def test_nonces_that_nobody_shows_are_forgotten(listener, monkeypatch):
    now = listener._now()
    for _ in range(50):
        listener.offer()
    monkeypatch.setattr(listener, "_now", lambda: now + 62)
    listener.offer()
    assert len(listener._nonces) == 1
    listener._nonces.clear()


def test_a_stranger_is_read_no_further_than_a_greeting_goes(listener):
    client = RawClient(listener, greets=False)
    client.socket.sendall(struct.pack("<IQ", 1 << 20, 0) + b"x" * 100)
    assert "1048576 bytes, the limit is 256" in client.refusal()
    client.close()


def test_a_greeting_with_a_segment_is_refused(listener):
    segment = Segment(10)
    client = RawClient(listener, greets=False)
    packet = pb.LocalPacket(nonce=listener.offer().nonce)
    packet.segments.add(id=1, bytes=10, lease=1)
    client.write(packet, (), [segment.fd])
    assert "first packet lends memory" in client.refusal()
    client.close()


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(garbage=st.binary(min_size=12, max_size=300))
def test_garbage_instead_of_a_greeting_ends_the_connection(server, garbage):
    client = RawClient(server[0], greets=False)
    client.socket.sendall(garbage)
    client.socket.shutdown(1)
    while client.next() is not None:
        pass
    client.close()


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(garbage=st.binary(max_size=100), body=st.integers(0, 1 << 40))
def test_garbage_after_the_greeting_ends_the_connection(server, garbage, body):
    client = RawClient(server[0])
    client.socket.sendall(struct.pack("<IQ", len(garbage), body) + garbage)
    client.socket.shutdown(1)
    while client.next() is not None:
        pass
    client.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tensor": 1}, "not in the message"),
        ({"segment": 1}, "segment 1 of 1"),
        ({"offset": 4}, "at 4 in a segment of 1048576"),
        ({"offset": 1 << 63}, "in a segment of 1048576"),
        ({"offset": (1 << 64) - MIB}, "in a segment of 1048576"),
        ({"bytes": 2 * MIB}, "smaller than that, or not sealed"),
        ({"bytes": 1 << 62}, "smaller than that, or not sealed"),
        ({"bytes": MIB - 1}, "a tensor of 1048576 bytes at 0 in a segment of 1048575"),
    ],
)
def test_a_tensor_outside_its_segment_is_refused(client, changes, reason):
    segment = Segment(MIB)
    client.write(lending(segment, **changes), (), [segment.fd])
    assert reason in client.refusal()


def test_a_tensor_between_elements_is_refused(client):
    segment = Segment(2 * MIB)
    client.write(lending(segment, offset=3), (), [segment.fd])
    assert "at 3 in a segment" in client.refusal()


def test_memory_that_could_shrink_is_refused(client):
    fd = os.memfd_create("unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, MIB)
    packet = announcing((MIB // 4, MIB))
    packet.segments.add(id=1, bytes=MIB, lease=1)
    packet.shared.add()
    client.write(packet, (), [fd])
    os.close(fd)
    assert "not sealed" in client.refusal()


def test_a_descriptor_of_something_else_is_refused(client):
    with open("/dev/zero", "rb") as zeros:
        segment = Segment(MIB)
        client.write(lending(segment), (), [zeros.fileno()])
    assert "not sealed" in client.refusal()


def test_a_segment_that_changes_its_size_is_refused(client):
    segment = Segment(2 * MIB)
    client.write(lending(segment), (), [segment.fd])
    assert client.next().envelope
    client.write(lending(segment, bytes=MIB), (), [segment.fd])
    packet = client.next()
    while not packet.HasField("refusal"):  # Releases may come first.
        packet = client.next()
    assert "segment 1 of 2097152 bytes with 1048576" in packet.refusal.message


def test_segments_without_descriptors_are_refused(client):
    client.write(lending(Segment(MIB)))
    assert "1 segments, 0 descriptors came" in client.refusal()


def test_segments_without_a_message_are_refused(client):
    segment = Segment(MIB)
    packet = pb.LocalPacket()
    packet.segments.add(id=1, bytes=MIB, lease=1)
    client.write(packet, (), [segment.fd])
    assert "tensors without a message" in client.refusal()


def test_two_places_of_one_tensor_are_refused(client):
    segment = Segment(MIB)
    packet = lending(segment)
    packet.shared.add()
    client.write(packet, (), [segment.fd])
    assert "two places" in client.refusal()


def test_strings_in_shared_memory_are_refused(client):
    segment = Segment(MIB)
    packet = lending(segment)
    announced = pb.TensorList.FromString(packet.tensors)
    announced.tensors[0].dtype = dtypes.string.as_datatype_enum
    announced.tensors[0].dims[:] = [1]
    packet.tensors = announced.SerializeToString()
    client.write(packet, (), [segment.fd])
    assert "string of 1048576 bytes in shared memory" in client.refusal()


@pytest.mark.parametrize("behind", [0, 399, 401])
def test_bytes_behind_a_packet_must_be_those_of_its_tensors(client, behind):
    client.write(announcing((100, 400)), [memoryview(bytes(behind))])
    assert f"{behind} bytes behind it, its tensors have 400" in client.refusal()


@pytest.mark.parametrize(
    ("changes", "behind", "problem"),
    [
        ({"bytes": 399}, 0, "399 bytes at 0 in a segment of 1048576, its tensors have 400"),
        ({"bytes": 401}, 0, "401 bytes at 0 in a segment of 1048576, its tensors have 400"),
        ({"offset": MIB - 399}, 0, "400 bytes at 1048177 in a segment of 1048576"),
        ({"offset": (1 << 64) - 1}, 0, "400 bytes at 18446744073709551615 in a segment"),
        ({"segment": 1}, 0, "segment 1 of 1"),
        ({}, 1, "400 bytes at 0"),
    ],
)
def test_bytes_that_are_not_where_a_packet_says_are_refused(client, changes, behind, problem):
    segment = Segment(MIB)
    packet = announcing((100, 400))
    packet.segments.add(id=1, bytes=MIB, lease=1)
    for name, value in {"segment": 0, "offset": 0, "bytes": 400, **changes}.items():
        setattr(packet.body, name, value)
    client.write(packet, [bytes(behind)], [segment.fd])
    assert problem in client.refusal()


def test_bytes_in_memory_that_is_not_lent_are_refused(client):
    packet = announcing((100, 400))
    packet.body.bytes = 400
    client.write(packet)
    assert "segment 0 of 0" in client.refusal()


def test_tensors_announced_in_the_envelope_are_refused(client):
    envelope = call(1)
    envelope.tensors.add(dtype=FLOAT, dims=[1], payload_bytes=4)
    client.write(pb.LocalPacket(envelope=envelope.SerializeToString()), [bytes(4)])
    assert "tensors in its envelope" in client.refusal()


def test_tensors_that_are_no_list_are_refused(client):
    client.write(pb.LocalPacket(envelope=call(1).SerializeToString(), tensors=b"\xff"))
    assert "no TensorList" in client.refusal()


def test_a_tensor_that_is_only_announced_takes_no_memory(client):
    encoded = announcing((1 << 27, 1 << 29)).SerializeToString()
    client.socket.sendall(struct.pack("<IQ", len(encoded), 1 << 29) + encoded)
    client.socket.shutdown(1)
    assert client.next() is None


def test_a_message_that_is_no_envelope_is_refused(client):
    client.write(pb.LocalPacket(envelope=b"\xff\xff"))
    assert "no Envelope" in client.refusal()


def test_descriptors_that_no_packet_takes_are_closed(client):
    segment = Segment(MIB)
    before = len(os.listdir("/proc/self/fd"))
    client.write(pb.LocalPacket(released=[1]), (), [segment.fd] * local_packets.MAX_DESCRIPTORS)
    client.write(pb.LocalPacket(released=[1]), (), [segment.fd] * local_packets.MAX_DESCRIPTORS)
    client.write(pb.LocalPacket(released=[1]), (), [segment.fd] * local_packets.MAX_DESCRIPTORS)
    assert "more descriptors" in client.refusal()
    client.close()
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_leases_that_were_never_given_are_ended_in_vain(client):
    client.write(pb.LocalPacket(released=[0, 1, 1 << 63], dropped=[0, 5, 1 << 63]))
    client.write(announcing())
    assert client.next().envelope


def test_a_stranger_that_says_nothing_holds_nobody_up(listener):
    silent = [RawClient(listener, greets=False) for _ in range(20)]
    client = RawClient(listener)
    client.write(announcing())
    assert client.next().envelope
    for stranger in (*silent, client):
        stranger.close()
