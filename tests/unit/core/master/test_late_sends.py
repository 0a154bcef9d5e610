"""A task that takes nothing for a while keeps nobody longer than a deadline says."""

import threading

import numpy as np
import pytest

from local_fakes import until
from paramserve_core.errors import DeadlineExceededError, UnavailableError
from paramserve_core.master.conversation import Conversation
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.messages import reply_message
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2

WAIT_S = 30.0


class Link:
    """A connection; while the server is busy, whoever sends a call with tensors waits."""

    transport = "test"

    def __init__(self, server, receiver):
        self._server = server
        self._receiver = receiver
        self.is_closed = False
        self.sent = []

    def send(self, message):
        envelope, server = message.envelope, self._server
        kind = envelope.WhichOneof("kind")
        if kind == "hello":
            welcome = service_pb2.Welcome(incarnation=1)
            self._receiver.received(Message(service_pb2.Envelope(welcome=welcome)))
            return
        if kind == "call" and message.tensors:
            with server.changed:
                server.blocked += 1
                server.changed.wait_for(lambda: server.is_free or self.is_closed)
                server.blocked -= 1
        if self.is_closed:
            raise UnavailableError(None, None, "closed")
        self.sent.append((kind, getattr(envelope, kind).id))
        if kind == "call" and server.is_free:
            self._receiver.received(reply_message(envelope.call.id, None))

    def close(self):
        with self._server.changed:
            self.is_closed = True
            self._server.changed.notify_all()


class Server:
    """A dialer to a server that is free, or busy."""

    address = "ps0:2222"

    def __init__(self):
        self.changed = threading.Condition()
        self.is_free = True
        self.blocked = 0
        self.links = []

    def dial(self, receiver, timeout_s):
        self.links.append(Link(self, receiver))
        return self.links[-1]

    def become(self, is_free):
        with self.changed:
            self.is_free = is_free
            self.changed.notify_all()

    def close(self):
        pass


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def conversation(server):
    """One that is connected, and has made call 1 to a server that is busy since."""
    runtime = ThreadRuntime("test")
    kind = service_pb2.SESSION_KIND_TASK
    conversation = Conversation("ps0", server, runtime, session_id="s", kind=kind)
    conversation.call(service_pb2.EndSteps())
    until(lambda: conversation.transport)
    server.become(is_free=False)
    yield conversation
    server.become(is_free=True)
    conversation.close()
    runtime.close()


BODY = [np.zeros(3)]


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_a_call_that_cannot_be_sent_in_time_is_late_and_its_rest_is_not_sent(server, conversation):
    with pytest.raises(DeadlineExceededError, match=r"ps0:2222 did not answer within 0\.05 s"):
        conversation.call(service_pb2.RunStage(), BODY, timeout_s=0.05)
    until(lambda: len(server.links) == 2)
    assert server.links[0].is_closed
    server.become(is_free=True)
    conversation.call(service_pb2.RunStage(), BODY)
    # The task is told that the second call, should it have arrived, is not wanted.
    assert server.links[1].sent == [("cancel", 2), ("call", 3)]


def test_what_others_wait_for_goes_out_anew_where_a_connection_was_broken(server, conversation):
    outcomes = []
    conversation.start(service_pb2.EndSteps(), (), outcomes.append)
    with pytest.raises(DeadlineExceededError):
        conversation.call(service_pb2.RunStage(), BODY, timeout_s=0.05)
    until(lambda: len(server.links) == 2)
    server.become(is_free=True)
    conversation.call(service_pb2.EndSteps())
    assert sorted(server.links[1].sent) == [("call", 2), ("call", 4), ("cancel", 3)]


def test_a_call_that_waits_for_anothers_to_be_sent_is_late_and_leaves_that_alone(
    server, conversation
):
    sending = in_thread(lambda: conversation.call(service_pb2.RunStage(), BODY))
    until(lambda: server.blocked)
    with pytest.raises(DeadlineExceededError, match="ps0:2222 did not take the call in time"):
        conversation.call(service_pb2.EndSteps(), timeout_s=0.05)
    server.become(is_free=True)
    sending.join(WAIT_S)
    (link,) = server.links
    assert link.sent == [("call", 1), ("call", 2)]


def test_who_cancels_or_tells_does_not_wait_for_what_is_being_sent(server, conversation):
    waiting = conversation.start(service_pb2.EndSteps(), (), lambda outcome: None)
    sending = in_thread(lambda: conversation.call(service_pb2.RunStage(), BODY))
    until(lambda: server.blocked)
    waiting.cancel()
    conversation.tell(service_pb2.EndSteps(steps=[7]))
    server.become(is_free=True)
    sending.join(WAIT_S)
    (link,) = server.links
    until(lambda: len(link.sent) == 5)
    assert sorted(link.sent[3:]) == [("call", 4), ("cancel", 2)]


def test_a_call_that_goes_out_in_time_breaks_nothing(server, conversation):
    server.become(is_free=True)
    for _ in range(20):
        conversation.call(service_pb2.RunStage(), BODY, timeout_s=WAIT_S)
    assert len(server.links) == 1
