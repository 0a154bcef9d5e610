"""What every transport promises, tried on each of them."""

import socket
import threading

import grpc
import numpy as np
import psutil
import pytest

from local_fakes import local_server
from paramserve_core.errors import (
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.transport.grpc_client import GrpcDialer, error_of
from paramserve_core.transport.in_process import InProcessDialer
from paramserve_core.transport.interface import Message
from paramserve_core.transport.ownership import is_exclusive
from transport_fakes import Echo, Inbox, call, grpc_server


@pytest.fixture(params=["gRPC", "in process", "same host"])
def echo(request):
    """A server that sends everything back, with a dialer to it."""
    acceptor = Echo()
    if request.param == "in process":
        acceptor.dialer = InProcessDialer(acceptor, "here", ThreadRuntime())
        yield acceptor
        return
    if request.param == "same host":
        with local_server(acceptor) as (_, acceptor.dialer):
            yield acceptor
        return
    with grpc_server(acceptor) as (_, address):
        acceptor.dialer = GrpcDialer(address)
        yield acceptor


@pytest.fixture
def inbox():
    return Inbox()


@pytest.fixture
def silent_address():
    """Where somebody listens who never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def connection(echo, inbox):
    connection = echo.dialer.dial(inbox, 10)
    yield connection
    connection.close()


def test_messages_arrive_in_order_with_their_tensors(connection, inbox):
    for number in range(20):
        connection.send(Message(call(number), [np.full(number, number, np.float32)]))
    for number in range(20):
        message = inbox.next()
        assert message.envelope.call.id == number
        assert message.tensors[0].tolist() == [number] * number


def test_a_large_tensor_arrives_whole(connection, inbox):
    sent = np.arange(3_000_000, dtype=np.int32)
    connection.send(Message(call(), [sent, np.ones(2)]))
    first, second = inbox.next().tensors
    np.testing.assert_array_equal(first, sent)
    assert second.tolist() == [1, 1]


def test_the_sender_may_change_its_arrays_as_soon_as_send_returns(connection, inbox):
    sent = np.zeros(3_000_000, np.int32)
    connection.send(Message(call(), [sent]))
    sent[:] = 1
    assert not inbox.next().tensors[0].any()


def test_what_arrives_belongs_to_the_receiver(connection, inbox):
    connection.send(Message(call(), [np.zeros(10), np.zeros(1_000_000)]))
    for tensor in inbox.next().tensors:
        assert is_exclusive(tensor)


def test_an_array_that_cannot_be_written_may_be_sent(connection, inbox):
    sent = np.arange(10)
    sent.flags.writeable = False
    connection.send(Message(call(), [sent]))
    arrived = inbox.next().tensors[0]
    arrived += 1
    assert sent.tolist() == list(range(10))


def test_closing_here_is_told_there_and_not_here(echo, connection, inbox):
    connection.send(Message(call(1)))
    inbox.next()
    connection.close()
    connection.close()
    assert isinstance(echo.lost.get(timeout=10), UnavailableError)
    with pytest.raises(UnavailableError, match="closed"):
        connection.send(Message(call(2)))
    assert inbox.is_empty()


def test_closing_there_is_told_here_after_what_was_sent(echo, connection, inbox):
    echo.closes_after_answer = True
    connection.send(Message(call(5)))
    assert inbox.next().envelope.call.id == 5
    assert isinstance(inbox.error(), UnavailableError)
    with pytest.raises(UnavailableError, match="connection"):
        connection.send(Message(call(6)))


def test_several_connections_do_not_meet(echo):
    inboxes = [Inbox() for _ in range(5)]
    connections = [echo.dialer.dial(inbox, 10) for inbox in inboxes]
    for number, connection in enumerate(connections):
        connection.send(Message(call(number)))
    assert [inbox.next().envelope.call.id for inbox in inboxes] == list(range(5))
    for connection in connections:
        connection.close()


def test_threads_may_send_at_the_same_time(connection, inbox):
    def send(number: int) -> None:
        for _ in range(5):
            connection.send(Message(call(number), [np.full(300_000, number)]))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        message = inbox.next()
        assert (message.tensors[0] == message.envelope.call.id).all()
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_50_connections_leave_threads_and_descriptors_as_they_were(echo):
    def resources() -> tuple[int, int]:
        return threading.active_count(), psutil.Process().num_fds()

    def connect_and_close() -> None:
        inbox = Inbox()
        connection = echo.dialer.dial(inbox, 10)
        connection.send(Message(call(1), [np.zeros(10)]))
        inbox.next()
        connection.close()
        echo.lost.get(timeout=10)

    for _ in range(3):
        connect_and_close()
    before = resources()
    for _ in range(50):
        connect_and_close()
    settled = threading.Event()
    # The last threads end a moment after the last connection. Pools may still have grown by a few.
    while any(now > then + 5 for now, then in zip(resources(), before, strict=True)):
        settled.wait(0.01)


def test_a_message_that_is_too_large_leaves_the_connection_in_use(inbox):
    with grpc_server(Echo(), max_message_bytes=1 << 20) as (_, address):
        connection = GrpcDialer(address, max_message_bytes=1000).dial(inbox, 10)
        with pytest.raises(ResourceExhaustedError, match="limit is 1000"):
            connection.send(Message(call(), [np.zeros(1000)]))
        connection.send(Message(call(3)))
        assert inbox.next().envelope.call.id == 3
        connection.close()


def test_the_server_refuses_a_message_above_its_own_limit(inbox):
    with grpc_server(Echo(), max_message_bytes=1000) as (_, address):
        connection = GrpcDialer(address).dial(inbox, 10)
        connection.send(Message(call(), [np.zeros(1000)]))
        error = inbox.error()
    assert isinstance(error, ResourceExhaustedError)
    assert "the limit is 1000" in error.message
    assert address in error.message


@pytest.mark.slow
def test_a_slow_receiver_slows_the_sender_down(inbox):
    echo = Echo()
    echo.may_receive.clear()
    with grpc_server(echo) as (_, address):
        connection = GrpcDialer(address).dial(inbox, 10)
        sent = []

        def send() -> None:
            for number in range(100):
                connection.send(Message(call(number), [np.zeros(1 << 20, np.uint8)]))
                sent.append(number)

        sender = threading.Thread(target=send)
        sender.start()
        sender.join(0.2)  # Time enough to send everything, if nothing held it.
        # What fits into the outbox, gRPC's window and the sockets' buffers.
        assert len(sent) < 50
        echo.may_receive.set()
        for number in range(100):
            assert inbox.next().envelope.call.id == number
        sender.join()
        connection.close()


def test_nobody_there_is_said_with_the_address(inbox):
    with grpc_server(Echo()) as (server, address):
        server.stop(0)
        with pytest.raises(UnavailableError, match=address):
            GrpcDialer(address).dial(inbox, 10)


def test_a_server_that_does_not_answer_is_given_up_in_time(inbox, silent_address):
    with pytest.raises(UnavailableError, match=f"{silent_address} did not answer within 0.05 s"):
        GrpcDialer(silent_address).dial(inbox, 0.05)
    assert inbox.is_empty()


def test_a_server_has_no_more_connections_than_it_may(inbox):
    with grpc_server(Echo(), max_conversations=2) as (_, address):
        dialer = GrpcDialer(address)
        first, second = dialer.dial(Inbox(), 10), dialer.dial(Inbox(), 10)
        with pytest.raises(ResourceExhaustedError, match="2 connections, its limit"):
            dialer.dial(inbox, 10)
        first.close()
        second.close()


def test_a_server_that_stops_ends_its_conversations(inbox):
    with grpc_server(Echo()) as (server, address):
        connection = GrpcDialer(address).dial(inbox, 10)
        server.stop(0)
        assert isinstance(inbox.error(), UnavailableError)
        connection.close()


def test_who_is_asked_without_a_session_answers():
    with grpc_server(Echo()) as (_, address):
        dialer = GrpcDialer(address)
        assert dialer.describe(10).task.name == "/job:ps/replica:0/task:0"
        assert [v.name for v in dialer.list_variables(10)] == ["v"]
    with pytest.raises(UnavailableError, match=address):
        dialer.describe(10)


def test_a_receiver_that_fails_ends_its_connection_only(inbox):
    class Broken(Inbox):
        def received(self, message: Message) -> None:
            raise RuntimeError("a bug")

    with grpc_server(Echo()) as (_, address):
        broken = Broken()
        connection = GrpcDialer(address).dial(broken, 10)
        healthy = GrpcDialer(address).dial(inbox, 10)
        connection.send(Message(call(1)))
        assert "a bug" in broken.error().message
        healthy.send(Message(call(2)))
        assert inbox.next().envelope.call.id == 2
        healthy.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("CANCELLED", UnavailableError),
        ("UNKNOWN", UnavailableError),
        ("INTERNAL", UnavailableError),
        ("UNAVAILABLE", UnavailableError),
        ("RESOURCE_EXHAUSTED", ResourceExhaustedError),
        ("UNAUTHENTICATED", UnauthenticatedError),
    ],
)
def test_a_connection_that_broke_may_be_tried_again_and_a_refusal_not(code, kind):
    class Failure(grpc.RpcError):
        def code(self):
            return grpc.StatusCode[code]

        def details(self):
            return "stream removed"

    error = error_of(Failure(), "ps0:2222")
    assert type(error) is kind
    assert error.message == "ps0:2222: stream removed"
