"""What the same-host transport promises: round trips, ownership, leases, fallback."""

import gc
import os
import struct
import threading

import ml_dtypes
import numpy as np
import pytest

from local_fakes import local_server, until
from paramserve_core.dtypes import float64
from paramserve_core.errors import (
    ResourceExhaustedError,
    UnavailableError,
)
from paramserve_core.executor.store import VariableStore
from paramserve_core.shapes import TensorShape
from paramserve_core.transport import local_packets, local_socket, segments
from paramserve_core.transport.interface import Message
from paramserve_core.transport.local_socket import LocalConnection
from paramserve_core.transport.ownership import is_exclusive
from paramserve_core.transport.traffic import Traffic
from transport_fakes import Echo, Inbox, call

HUGE = 1 << 18
"""Elements; of every type that is 256 KiB or more, of float64 2 MiB."""


class Keeper:
    """A `Host` that keeps what arrives, and can send."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.connection = None

    def accept(self, connection, peer):
        self.connection = connection
        return self.inbox


class Pair:
    """Both ends of one connection."""

    def __init__(self, listener, dialer, keeper) -> None:
        self.listener = listener
        self.inbox = Inbox()
        self.client = dialer.dial(self.inbox, 10)
        self.keeper = keeper
        until(lambda: keeper.connection is not None)
        self.server = keeper.connection

    def push(self, *tensors):
        """Sends tensors to the server; answers what it got."""
        self.client.send(Message(call(), tensors))
        return self.keeper.inbox.next().tensors

    def pull(self, *tensors):
        """Sends tensors to the client; answers what it got."""
        self.server.send(Message(call(), tensors))
        return self.inbox.next().tensors


@pytest.fixture
def pair():
    keeper = Keeper()
    with local_server(keeper) as (listener, dialer):
        pair = Pair(listener, dialer, keeper)
        yield pair
        pair.client.close()


def leased(elements=HUGE, value=1.0):
    """An array as a server's variable has it, and a lease on it."""
    array = segments.POOL.allocate((elements,), np.float64)
    array[:] = value
    view = array.view()
    view.flags.writeable = False
    return array, view


NUMERIC = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.complex64,
    np.complex128,
    np.int8,
    np.int16,
    np.int32,
    np.int64,
    np.uint8,
    np.uint16,
    np.uint32,
    np.uint64,
    np.bool_,
]


@pytest.mark.parametrize("dtype", NUMERIC, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 17, 1 << 18])
def test_tensors_of_every_type_and_size_arrive_as_they_were(pair, dtype, size):
    sent = (np.arange(size) % 100).astype(dtype)
    for arrived in (pair.push(sent)[0], pair.pull(sent)[0]):
        assert arrived.dtype == sent.dtype
        np.testing.assert_array_equal(arrived, sent)


def test_strings_arrive_as_they_were(pair):
    sent = np.array([b"", b"a" * 200_000, b"\x00\xff"], object).reshape(3, 1)
    for arrived in (pair.push(sent)[0], pair.pull(sent)[0]):
        assert arrived.tolist() == sent.tolist()


@pytest.mark.slow
def test_shapes_and_orders_of_memory_arrive_as_arrays_in_row_major_order(pair):
    base = np.arange(6 * HUGE, dtype=np.float64).reshape(6, -1)
    views = [base.T, base[::2], np.asfortranarray(base), base.astype(">f8"), base[:0]]
    for arrived, sent in zip(pair.push(*views), views, strict=True):
        assert arrived.flags.c_contiguous
        assert arrived.dtype == np.float64
        np.testing.assert_array_equal(arrived, sent)


@pytest.mark.slow
def test_one_message_may_carry_more_tensors_than_descriptors(pair):
    sent = [np.full(16 << 10, n, np.float64) for n in range(300)]  # 128 KiB each.
    sent += [np.full(HUGE, n, np.float32) for n in range(260)]  # 1 MiB each.
    for arrived, expected in zip(pair.push(*sent), sent, strict=True):
        assert (arrived == expected[0]).all()
    before = segments.POOL.segment_count
    arrived = pair.pull(*sent)
    assert all((a == e[0]).all() for a, e in zip(arrived, sent, strict=True))
    assert segments.POOL.segment_count <= before + 260


def mixed(start):
    """Many small tensors of several types and shapes, and larger ones between them."""
    sent = [np.full((16, 16), start + n, np.float32) for n in range(400)]
    sent += [np.array(start + n) for n in range(20)]
    sent += [np.array([n % 3 == 0, True, False]) for n in range(20)]
    sent += [np.full(HUGE, start), np.array([b"some", b"text"], object), np.ones((0, 3))]
    sent += [np.arange(5 * n, dtype=np.int32).reshape(5, n).T for n in range(1, 9)]
    sent += [np.full(20_000, start + n) for n in range(3)]
    return [*sent, np.arange(7).astype(ml_dtypes.bfloat16), np.full((16, 16), 7, np.float32)]


@pytest.mark.slow
@pytest.mark.parametrize("has_segments", [True, False])
def test_many_small_tensors_arrive_as_they_were_each_time(pair, monkeypatch, has_segments):
    if not has_segments:
        monkeypatch.setattr(segments.POOL, "_max_segments", 0)
        monkeypatch.setattr(segments.POOL._idle, "_pieces", [])
    for start in range(3):
        for arrived in (pair.push(*mixed(start)), pair.pull(*mixed(start))):
            for array, expected in zip(arrived, mixed(start), strict=True):
                assert array.dtype == expected.dtype
                np.testing.assert_array_equal(array, expected)


def test_small_tensors_that_a_client_gets_are_its_own_each(pair):
    arrived = pair.pull(*[np.full(256, n, np.float32) for n in range(300)])
    assert all(is_exclusive(array) for array in arrived)
    until(lambda: pair.server.lease_count == 0)


def test_small_tensors_that_a_server_gets_do_not_change_any_more(pair):
    sent = [np.full(256, n, np.float32) for n in range(300)]
    arrived = pair.push(*sent)
    until(lambda: pair.client.lease_count == 0)
    pair.push(*[tensor + 1 for tensor in sent])
    for array, expected in zip(arrived, sent, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_without_segments_large_tensors_go_through_the_socket(pair, monkeypatch):
    monkeypatch.setattr(segments.POOL, "_max_segments", 0)
    monkeypatch.setattr(segments.POOL._idle, "_pieces", [])
    sent = [np.arange(HUGE, dtype=np.float64), np.ones(3), np.arange(HUGE, dtype=np.float64)]
    for arrived, expected in zip(pair.push(*sent), sent, strict=True):
        np.testing.assert_array_equal(arrived, expected)
    assert pair.client.lease_count == 0


def test_a_client_that_may_map_no_more_copies(pair, monkeypatch):
    monkeypatch.setattr(segments, "has_room_to_map", lambda: False)
    array, lease = leased()
    fetched = pair.pull(lease)[0]
    del lease
    assert fetched.flags.owndata
    until(lambda: pair.server.lease_count == 0)
    assert (fetched == array).all()


def test_a_server_that_may_map_no_more_keeps_no_segment_mapped(pair, monkeypatch):
    monkeypatch.setattr(segments, "has_room_to_map", lambda: False)
    kept = [pair.push(np.full(HUGE, number))[0] for number in range(5)]
    assert pair.server._borrower.known_count == 1
    assert [array[0] for array in kept] == list(range(5))


# Who owns what arrives.


def test_what_a_client_gets_is_its_own_and_the_servers_memory_stays_as_it_is(pair):
    array, lease = leased()
    fetched = pair.pull(lease)[0]
    assert is_exclusive(fetched)
    fetched += 1
    assert (array == 1).all()
    assert (fetched == 2).all()


def test_a_leased_variable_goes_to_the_client_without_a_copy(pair):
    before = segments.POOL.segment_count
    _, lease = leased()
    fetched = pair.pull(lease, lease[10:])
    assert segments.POOL.segment_count <= before + 1
    assert (fetched[1] == 1).all()
    fetched[0][:] = 5
    assert (fetched[1] == 1).all()  # Two arrays on the same memory are independent.


def test_memory_that_may_be_written_to_is_copied(pair):
    """The sender may change its arrays as soon as `send` returns."""
    array, _ = leased()
    fetched = pair.pull(array)[0]
    array[:] = 7
    assert (fetched == 1).all()


def test_what_a_server_gets_is_read_where_it_lies(pair):
    sent = np.ones(HUGE)
    arrived = pair.push(sent)[0]
    assert not arrived.flags.writeable
    assert not is_exclusive(arrived)
    sent[:] = 2
    assert (arrived == 1).all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.bool_])
def test_integers_and_bools_are_a_servers_own(pair, dtype):
    arrived = pair.push(np.ones(1 << 20, dtype))[0]
    assert arrived.flags.owndata
    until(lambda: pair.client.lease_count == 0)


# Leases.


def test_a_lease_ends_with_the_last_array(pair):
    fetched = pair.pull(*[np.ones(HUGE) for _ in range(3)])
    assert pair.server.lease_count == 3
    view = fetched[0][5:]
    del fetched
    until(lambda: pair.server.lease_count == 1)
    assert view[0] == 1
    del view
    until(lambda: pair.server.lease_count == 0)


def test_a_variable_is_written_in_place_again_once_its_lease_ended(pair):
    store = VariableStore(memory=segments.POOL)
    variable = store.get_or_create("v", "", float64, TensorShape([HUGE]))
    variable.assign(np.ones(HUGE))

    def place() -> int:
        return segments.locate(variable.read())[0].segment.id

    first = place()
    fetched = pair.pull(variable.read())
    variable.assign(np.zeros(HUGE))
    second = place()
    assert second != first
    assert (fetched[0] == 1).all()
    del fetched
    until(lambda: pair.server.lease_count == 0)
    variable.assign(np.ones(HUGE))
    assert place() == second


def test_repeated_pushes_use_the_same_memory(pair):
    pair.push(np.ones(HUGE))
    until(lambda: pair.client.lease_count == 0)
    before = segments.POOL.segment_count
    for _ in range(10):
        pair.push(np.ones(HUGE))
        until(lambda: pair.client.lease_count == 0)
    assert segments.POOL.segment_count <= before


def test_a_segment_that_is_freed_is_unmapped_by_the_server(pair, monkeypatch):
    known = pair.server._borrower
    pair.push(np.ones(HUGE))
    assert known.known_count == 1
    monkeypatch.setattr(segments.POOL._idle, "max_bytes", 0)
    until(lambda: pair.client.lease_count == 0)
    segments.POOL.take(1)  # Sorts out what is idle.
    until(lambda: known.known_count == 0 or pair.client.send(Message(call())) is not None)


def test_arrays_outlive_the_connection_and_what_the_server_does_then(pair):
    array, lease = leased()
    fetched = pair.pull(lease)[0]
    pair.client.close()
    pair.keeper.inbox.error()
    array[:] = 9
    assert (fetched == 1).all()
    fetched[:] = 3
    assert (array == 9).all()


def test_arrays_outlive_a_server_that_closes(pair):
    array, lease = leased()
    fetched = pair.pull(lease)[0]
    pair.server.close()
    pair.inbox.error()
    until(lambda: pair.server.lease_count == 0)
    array[:] = 9
    assert (fetched == 1).all()


def test_what_a_server_still_reads_is_not_used_again_when_the_client_closes(pair):
    arrived = pair.push(np.ones(HUGE))[0]
    pair.client.close()
    pair.keeper.inbox.error()
    until(lambda: pair.client.lease_count == 0)
    others = [segments.POOL.take(HUGE * 8) for _ in range(4)]
    for memory in others:
        memory[:] = 0
    assert (arrived == 1).all()


def test_a_fork_leaves_the_child_arrays_of_its_own(pair):
    array, lease = leased()
    fetched = pair.pull(lease)[0]
    local_socket._before_fork()
    array[:] = 9
    assert (fetched == 1).all()


def test_a_child_process_ends_no_lease(pair):
    fetched = pair.pull(np.ones(HUGE))
    pair.client._borrower._process = os.getpid() + 1
    del fetched
    gc.collect()
    pair.push(np.ones(3))
    pair.pull(np.ones(3))
    assert pair.server.lease_count == 1


@pytest.mark.slow
def test_connections_leave_no_threads_or_descriptors():
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    echo = Echo()
    with local_server(echo) as (_, dialer):

        def connect_and_close() -> None:
            inbox = Inbox()
            connection = dialer.dial(inbox, 10)
            connection.send(Message(call(1), [np.zeros(HUGE)]))
            inbox.next()
            connection.close()
            echo.lost.get(timeout=10)

        for _ in range(3):
            connect_and_close()
        gc.collect()
        before = descriptors(), threading.active_count()
        for _ in range(50):
            connect_and_close()
        gc.collect()
        until(lambda: descriptors() <= before[0] + 2 and threading.active_count() <= before[1])


# Flow and ends.


def test_a_message_that_is_interrupted_ends_the_connection(pair, monkeypatch):
    """Ctrl-C in the middle of a packet: what comes after half of one is not understood."""

    def interrupted(connected, packet, *rest, **options):
        encoded = packet.SerializeToString()
        connected.sendall(struct.pack("<IQ", len(encoded), 0) + encoded[:1])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(local_packets, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pair.client.send(Message(call()))
    assert isinstance(pair.inbox.error(), UnavailableError)
    assert isinstance(pair.keeper.inbox.error(), UnavailableError)
    with pytest.raises(UnavailableError, match="interrupted"):
        pair.client.send(Message(call()))


def test_messages_in_both_directions_do_not_wait_for_each_other(pair):
    """Each side sends more than the socket holds before it reads."""
    tensors = [np.array([b"x" * (1 << 20)], object)]

    def send(connection) -> None:
        for number in range(20):
            connection.send(Message(call(number), tensors))

    threads = [threading.Thread(target=send, args=(end,)) for end in (pair.client, pair.server)]
    for thread in threads:
        thread.start()
    for number in range(20):
        assert pair.inbox.next().envelope.call.id == number
        assert pair.keeper.inbox.next().envelope.call.id == number
    for thread in threads:
        thread.join()


def test_bytes_are_counted_once_however_they_travel():
    traffic = Traffic()
    with local_server(Echo(), traffic=traffic) as (_, dialer):
        inbox = Inbox()
        connection = dialer.dial(inbox, 10)
        tensors = [np.ones(10), np.ones(1 << 15), np.ones(HUGE), np.ones(HUGE, np.int32)]
        connection.send(Message(call(), tensors))
        inbox.next()
        until(lambda: traffic.sent_bytes > 0)
        connection.close()
    nbytes = sum(tensor.nbytes for tensor in tensors)
    assert nbytes < traffic.received_bytes < nbytes + 200
    assert traffic.sent_bytes == traffic.received_bytes


def test_a_message_above_the_limit_is_not_sent():
    with local_server(Echo(), max_message_bytes=1 << 20) as (_, dialer):
        dialer._grpc._max_message_bytes = 1000
        inbox = Inbox()
        connection = dialer.dial(inbox, 10)
        for size in (1000, 1 << 20):
            with pytest.raises(ResourceExhaustedError, match="limit is 1000"):
                connection.send(Message(call(), [np.zeros(size)]))
        connection.send(Message(call(3)))
        assert inbox.next().envelope.call.id == 3
        assert connection.lease_count == 0
        connection.close()


def test_a_server_refuses_a_message_above_its_own_limit():
    with local_server(Echo(), max_message_bytes=1000) as (_, dialer):
        for size in (1000, 1 << 20):
            inbox = Inbox()
            connection = dialer.dial(inbox, 10)
            connection.send(Message(call(), [np.zeros(size)]))
            error = inbox.error()
            assert "the limit is 1000" in error.message
            with pytest.raises(UnavailableError, match="limit is 1000"):
                connection.send(Message(call()))


def test_both_ends_are_local_connections(pair):
    assert isinstance(pair.client, LocalConnection)
    assert isinstance(pair.server, LocalConnection)
