"""Messages wait outside until there is room for them, and nobody waits for ever."""

import threading

import numpy as np
import pytest

from local_fakes import local_server, until
from paramserve_core.dtypes import float32
from paramserve_core.transport.frames import Assembler, encode
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_core.transport.interface import Message
from paramserve_core.transport.room import COUNTED_BYTES, Admission, Room, admitted
from transport_fakes import Echo, Inbox, call, grpc_server

MIB = 1 << 20
WAIT_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Visitor(threading.Thread):
    """Asks for room on a thread of its own."""

    def __init__(self, room: Room, message_bytes: int) -> None:
        super().__init__(daemon=True)
        self._room = room
        self._message_bytes = message_bytes
        self.admission: Admission | None = None
        self.start()

    def run(self) -> None:
        self.admission = self._room.admit(self._message_bytes)

    def is_in(self) -> bool:
        self.join(WAIT_S)
        return not self.is_alive()


def test_what_fits_is_let_in_and_what_does_not_waits_until_it_does():
    room = Room(10 * MIB)
    first, second = room.admit(4 * MIB), room.admit(4 * MIB)
    third = Visitor(room, 4 * MIB)
    until(lambda: room.waiting_count == 1)
    assert room.used_bytes == 8 * MIB
    del second
    assert third.is_in()
    assert room.used_bytes == 8 * MIB
    del first, third
    until(lambda: room.used_bytes == 0)


def test_messages_are_let_in_in_the_order_of_arrival():
    room = Room(10 * MIB)
    first = room.admit(8 * MIB)
    large = Visitor(room, 9 * MIB)
    until(lambda: room.waiting_count == 1)
    small = Visitor(room, 1 * MIB)  # It would fit.
    until(lambda: room.waiting_count == 2)
    assert room.used_bytes == 8 * MIB
    del first
    assert large.is_in()
    assert small.is_in()
    assert room.used_bytes == 10 * MIB


def test_a_message_larger_than_the_limit_is_let_in_alone():
    room = Room(10 * MIB)
    first = room.admit(1 * MIB)
    huge = Visitor(room, 100 * MIB)
    until(lambda: room.waiting_count == 1)
    del first
    assert huge.is_in()
    other = Visitor(room, 1 * MIB)
    until(lambda: room.waiting_count == 1)
    huge.admission = None
    assert other.is_in()


def test_an_annex_has_no_room_beyond_the_limit():
    room = Room(10 * MIB)
    annex = room.annex()
    first, second = room.admit(4 * MIB), annex.admit(4 * MIB)
    waiting = Visitor(annex, 4 * MIB)
    until(lambda: annex.waiting_count == 1)
    assert (room.waiting_count, room.used_bytes, annex.used_bytes) == (0, 4 * MIB, 4 * MIB)
    del first  # Of the other room.
    assert waiting.is_in()
    late = Visitor(room, 1 * MIB)
    assert late.is_in()
    later = Visitor(room, 2 * MIB)
    until(lambda: room.waiting_count == 1)
    del second
    assert later.is_in()


def test_one_message_is_let_in_whatever_is_in_the_annex():
    room = Room(10 * MIB)
    annex = room.annex()
    steps = annex.admit(10 * MIB)
    stage = room.admit(9 * MIB)
    other = Visitor(room, 1 * MIB)
    until(lambda: room.waiting_count == 1)
    del stage
    assert other.is_in()
    assert annex.used_bytes == 10 * MIB
    del steps


def test_what_stopped_in_the_middle_keeps_nobody_out_of_the_annex():
    clock = Clock()
    room = Room(10 * MIB, now=clock)
    annex = room.annex()
    announced, whole = room.admit(8 * MIB), annex.admit(1 * MIB)
    assert whole is not None
    whole.has_arrived()
    waiting = Visitor(annex, 8 * MIB)
    until(lambda: annex.waiting_count == 1)
    clock.now += 6
    assert waiting.is_in()
    del announced, whole


def test_small_messages_are_not_counted():
    room = Room(1)
    assert room.admit(COUNTED_BYTES - 1) is None
    assert room.used_bytes == 0


def test_while_it_is_suspended_everybody_is_let_in():
    is_suspended = threading.Event()
    room = Room(1 * MIB, is_suspended.is_set)
    first = room.admit(1 * MIB)
    other = Visitor(room, 1 * MIB)
    until(lambda: room.waiting_count == 1)
    is_suspended.set()
    assert other.is_in()
    assert room.used_bytes == 2 * MIB
    del first


def test_a_message_that_stopped_in_the_middle_keeps_nobody_out():
    clock = Clock()
    room = Room(10 * MIB, now=clock)
    announced = room.admit(10 * MIB)
    assert announced is not None
    clock.now += 4
    announced.arrives()
    other = Visitor(room, 1 * MIB)
    until(lambda: room.waiting_count == 1)
    clock.now += 4
    assert room.waiting_count == 1
    clock.now += 4
    assert other.is_in()
    # One that is complete is in memory, however long its call takes.
    other.admission = None
    announced.has_arrived()
    late = Visitor(room, 1 * MIB)
    until(lambda: room.waiting_count == 1)
    clock.now += 100
    assert not late.admission
    del announced
    assert late.is_in()


def test_room_lasts_as_long_as_the_list_of_tensors_does_and_no_longer():
    room = Room(10 * MIB)
    tensors = admitted([np.zeros(MIB, np.uint8)], room.admit(MIB))
    kept = tensors[0]
    assert room.used_bytes == MIB
    del tensors
    assert room.used_bytes == 0
    assert not kept.any()


def test_a_message_takes_room_before_any_of_its_bytes_is_kept():
    asked: list[int] = []

    def admit(message_bytes: int) -> None:
        asked.append(message_bytes)

    assembler = Assembler(1 << 30, admit)
    tensors = [np.zeros(MIB, np.float32), np.zeros(3, np.int64)]
    frames = list(encode(Message(call(), tensors), 1 << 30))
    assert assembler.feed(frames[0]) is None
    assert asked == [4 * MIB + 24]
    *earlier, message = [assembler.feed(frame) for frame in frames[1:]]
    assert not any(earlier)
    assert message is not None
    assert asked == [4 * MIB + 24]
    assert assembler.feed(next(encode(Message(call()), 1 << 30))) is not None
    assert len(asked) == 1
    assert message.tensors[0].dtype == float32.as_numpy_dtype


def serve(kind, echo):
    return local_server(echo) if kind == "shm" else grpc_server(echo)


@pytest.mark.parametrize("kind", ["shm", "grpc"])
def test_a_server_reads_no_further_than_it_has_room(kind):
    echo, count = Echo(), 6
    echo.room = Room(4 * MIB)
    echo.may_receive.clear()
    with serve(kind, echo) as (_, place):
        inboxes = [Inbox() for _ in range(count)]
        dialer = place if kind == "shm" else GrpcDialer(place)
        connections = [dialer.dial(inbox, 10) for inbox in inboxes]
        sending = []
        for number, connection in enumerate(connections):
            message = Message(call(number), [np.full(2 * MIB, number, np.uint8)])
            sending.append(threading.Thread(target=connection.send, args=(message,), daemon=True))
            sending[-1].start()
        until(lambda: echo.room.waiting_count == count - 2)
        assert echo.room.used_bytes == 4 * MIB
        # What needs no room, on a connection that waits for none, goes through.
        other = Inbox()
        connections.append(dialer.dial(other, 10))
        echo.may_receive.set()
        connections[-1].send(Message(call(99)))
        assert other.next().envelope.call.id == 99
        for number, inbox in enumerate(inboxes):
            message = inbox.next()
            assert message.envelope.call.id == number
            assert (message.tensors[0] == number).all()
        until(lambda: echo.room.used_bytes == 0)
        for connection in connections:
            connection.close()


@pytest.mark.parametrize("kind", ["shm", "grpc"])
def test_who_leaves_while_waiting_or_halfway_takes_no_room(kind):
    echo = Echo()
    echo.room = Room(4 * MIB)
    echo.may_receive.clear()
    inbox = Inbox()
    with serve(kind, echo) as (_, place):
        dialer = place if kind == "shm" else GrpcDialer(place)
        staying, leaving = dialer.dial(inbox, 10), dialer.dial(Inbox(), 10)
        staying.send(Message(call(1), [np.zeros(3 * MIB, np.uint8)]))
        until(lambda: echo.room.used_bytes == 3 * MIB)
        sending = threading.Thread(
            target=lambda: leaving.send(Message(call(2), [np.zeros(3 * MIB, np.uint8)])),
            daemon=True,
        )
        sending.start()
        until(lambda: echo.room.waiting_count == 1)
        sending.join()
        leaving.close()
        echo.may_receive.set()
        assert inbox.next().envelope.call.id == 1
        until(lambda: echo.room.used_bytes == 0 and echo.room.waiting_count == 0)
        staying.close()
