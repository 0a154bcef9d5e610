"""What a connection promises to callers that receive their answers themselves."""

import contextlib
import gc
import os
import select
import signal
import threading
import weakref

import numpy as np
import pytest

from local_fakes import local_server, until
from paramserve_core.errors import UnavailableError
from paramserve_core.transport import local_reception, segments
from paramserve_core.transport.interface import HostingConnection, Message
from transport_fakes import WAIT_S, call

SETTLED = 20
"""Round trips after which a caller that waits alone has the turn to receive."""

HUGE = 1 << 18
"""Elements of float64 that are lent, 2 MiB."""


class Server:
    """A `Host` that sends back what it gets, but for calls with a number in `silent`."""

    def __init__(self):
        self.silent = set()
        self.connection = None

    def accept(self, connection, peer):
        self.connection = connection
        return self

    def admit(self, message_bytes):
        return None

    def received(self, message):
        if message.envelope.call.id not in self.silent:
            self.connection.send(Message(message.envelope))

    def lost(self, error):
        if self.connection is not None:
            self.connection.close()


class Caller:
    """A client: calls with numbers, each answered into the mailbox of whoever waits for it.

    Attributes:
        receivers: the threads that received an answer.
        interrupts: raised when the next answer arrives.
    """

    def __init__(self, dialer):
        self.boxes = {}
        self.receivers = []
        self.interrupts = None
        self.losses = threading.Semaphore(0)
        self.connection = dialer.dial(self, 10)

    def admit(self, message_bytes):
        return None

    def received(self, message):
        self.receivers.append(threading.get_ident())
        if self.interrupts is not None:
            raise self.interrupts
        self.boxes.pop(message.envelope.call.id).put(message)

    def lost(self, error):
        self.losses.release()
        for box in list(self.boxes.values()):
            box.put(error)

    def start(self, number, *tensors):
        box = self.boxes[number] = self.connection.mailbox(self.boxes)
        self.connection.send(Message(call(number), tensors))
        return box

    def ask(self, number, *tensors, timeout_s=WAIT_S):
        return self.start(number, *tensors).get(timeout_s)

    def settle(self):
        """Goes on until this thread receives what it waits for."""
        for number in range(SETTLED):
            self.ask(number)
        assert self.receivers[-1] == threading.get_ident()
        self.receivers.clear()


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def caller(server):
    with local_server(server) as (_, dialer):
        caller = Caller(dialer)
        yield caller
        caller.connection.close()


@pytest.fixture
def nobody_looks(monkeypatch):
    """The connection's own thread comes back only when it is called."""
    monkeypatch.setattr(local_reception, "_LOOK_S", 10 * WAIT_S)


@contextlib.contextmanager
def on_signal(handler):
    """Calls `handler` when the test's thread gets SIGUSR1."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def when_asleep(box, do):
    """Does something on another thread as soon as somebody sleeps for `box`."""

    def wait():
        until(lambda: box.is_slept_for)
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def has_arrived(connection):
    """Whether there is something that nobody has received."""
    readable, _, _ = select.select([connection._socket], [], [], 0)
    return bool(readable) or connection._reader.has_bytes


def signal_here():
    thread = threading.get_ident()
    return lambda: signal.pthread_kill(thread, signal.SIGUSR1)


def test_a_local_connection_lets_callers_receive(caller):
    assert isinstance(caller.connection, HostingConnection)


def test_a_caller_that_waits_alone_receives_itself(caller):
    caller.settle()
    for number in range(50):
        assert caller.ask(number).envelope.call.id == number
    assert set(caller.receivers) == {threading.get_ident()}


def test_what_nobody_waits_for_is_received_all_the_same(caller, server):
    caller.settle()
    caller.boxes[7] = box = caller.connection.mailbox({})
    server.connection.send(Message(call(7)))
    until(lambda: not box.is_empty())
    assert caller.receivers != [threading.get_ident()]


def test_the_own_thread_receives_at_once_when_it_is_called(caller, server, nobody_looks):
    caller.settle()
    caller.boxes[7] = box = caller.connection.mailbox({})
    caller.connection.attend()
    server.connection.send(Message(call(7)))
    until(lambda: not box.is_empty())


def test_a_guest_that_leaves_calls_the_own_thread_for_those_who_wait(caller, server, nobody_looks):
    caller.settle()
    server.silent = {1, 2}
    box = caller.start(1)
    other = caller.start(2)
    answer = when_asleep(box, lambda: server.connection.send(Message(call(1))))
    assert box.get(WAIT_S).envelope.call.id == 1
    answer.join()
    server.connection.send(Message(call(2)))
    until(lambda: not other.is_empty())


def test_a_guest_hands_others_what_is_theirs(caller, server, nobody_looks):
    caller.settle()
    server.silent = {1}
    box, other = caller.start(1), caller.start(2)

    def answer():
        assert other.get(WAIT_S).envelope.call.id == 2
        server.connection.send(Message(call(1)))

    thread = when_asleep(box, answer)
    assert box.get(WAIT_S).envelope.call.id == 1
    thread.join()


def test_many_callers_get_an_answer_each(caller):
    caller.settle()
    wrong = []

    def step(first):
        for number in range(first, first + 40):
            if caller.ask(number).envelope.call.id != number:
                wrong.append(number)

    threads = [threading.Thread(target=step, args=(1000 * n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not wrong
    assert len(caller.receivers) == 8 * 40


# What else ends a wait.


def test_an_item_of_another_thread_ends_a_wait(caller, server, nobody_looks):
    caller.settle()
    server.silent = {1}
    box = caller.start(1)
    thread = when_asleep(box, lambda: box.put("cancelled"))
    assert box.get(WAIT_S) == "cancelled"
    thread.join()
    assert caller.ask(2).envelope.call.id == 2


def test_a_wake_that_came_late_does_not_make_a_guest_read(caller, server, nobody_looks):
    caller.settle()
    server.silent = {1}
    caller.connection._reception.wake()
    box = caller.start(1)
    thread = when_asleep(box, lambda: box.put("cancelled"))
    assert box.get(WAIT_S) == "cancelled"
    thread.join()


@pytest.mark.parametrize("timeout_s", [0.0, 0.01])
def test_a_wait_ends_at_its_deadline(caller, server, timeout_s):
    caller.settle()
    server.silent = {1}
    with pytest.raises(TimeoutError):
        caller.ask(1, timeout_s=timeout_s)
    assert caller.ask(2).envelope.call.id == 2


@pytest.mark.parametrize("ends", ["client", "server"])
def test_a_wait_ends_with_the_connection(caller, server, nobody_looks, ends):
    caller.settle()
    server.silent = {1}
    box = caller.start(1)
    if ends == "server":
        thread = when_asleep(box, server.connection.close)
        assert isinstance(box.get(WAIT_S), UnavailableError)
    else:

        def close():
            caller.connection.close()
            box.put("closed")

        thread = when_asleep(box, close)
        assert box.get(WAIT_S) == "closed"
    thread.join()


def test_a_signal_ends_a_wait_and_not_the_connection(caller, server):
    caller.settle()
    server.silent = {1}

    def interrupt(*_):
        raise KeyboardInterrupt

    box = caller.start(1)
    with on_signal(interrupt):
        thread = when_asleep(box, signal_here())
        with pytest.raises(KeyboardInterrupt):
            box.get(WAIT_S)
        thread.join()
    assert caller.ask(2).envelope.call.id == 2
    server.connection.send(Message(call(1)))
    until(lambda: not box.is_empty())


def test_a_handler_may_call_while_its_thread_waits(caller, server, nobody_looks):
    caller.settle()
    server.silent = {1}
    answers = []

    def ask(*_):
        answers.append(caller.ask(2).envelope.call.id)
        server.silent = {3}
        server.connection.send(Message(call(1)))
        with contextlib.suppress(TimeoutError):
            caller.ask(3, timeout_s=0.05)  # It receives what is for the wait that it interrupts.

    box = caller.start(1)
    with on_signal(ask):
        thread = when_asleep(box, signal_here())
        assert box.get(WAIT_S).envelope.call.id == 1
        thread.join()
    assert answers == [2]


def test_a_packet_that_is_interrupted_ends_the_connection(caller, nobody_looks):
    caller.settle()
    caller.interrupts = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        caller.ask(1)
    assert caller.losses.acquire(timeout=WAIT_S)


def test_a_call_amid_a_packet_ends_the_connection_and_not_the_wait(caller, nobody_looks):
    caller.settle()

    class Asks(list):
        def append(self, thread):
            super().append(thread)
            if len(self) == 1:
                answers.append(caller.ask(2))

    answers = []
    caller.receivers = Asks()
    box = caller.start(1)
    box.get(WAIT_S)
    assert isinstance(answers[0], UnavailableError)
    assert caller.losses.acquire(timeout=WAIT_S)


# What is kept.


def test_no_descriptor_is_left(server):
    with local_server(server) as (_, dialer):
        first = Caller(dialer)
        first.settle()
        before = len(os.listdir("/proc/self/fd"))
        second = Caller(dialer)
        second.settle()
        second.connection.close()
        until(lambda: len(os.listdir("/proc/self/fd")) == before)
        first.connection.close()


def test_memory_whose_lease_has_ended_is_lent_again(caller, server, nobody_looks):
    caller.settle()
    sent = np.ones(HUGE)
    counts = set()
    for number in range(5):
        caller.ask(number, sent)
        # The end of the lease follows the answer, and nobody receives it.
        until(lambda: has_arrived(caller.connection))
        assert caller.connection.lease_count == 1
        counts.add(segments.POOL.segment_count)
    assert len(counts) == 1


def test_both_ends_of_a_connection_are_gone_when_it_has_ended(server):
    """What they lent and borrowed must not wait for the collector of cycles."""
    gc.disable()
    try:
        with local_server(server) as (_, dialer):
            caller = Caller(dialer)
            caller.settle()
            ends = [weakref.ref(caller.connection), weakref.ref(server.connection)]
            caller.connection.close()
            server.connection = caller = None
            until(lambda: [end() for end in ends] == [None, None])
    finally:
        gc.enable()
