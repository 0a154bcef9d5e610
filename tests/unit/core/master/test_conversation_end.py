"""How a client's end of a session ends."""

import os

import pytest

from paramserve_core.errors import CancelledError, FailedPreconditionError, UnavailableError
from paramserve_core.master.conversation import Conversation
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.messages import reply_message
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2


class Recording(ThreadRuntime):
    """Keeps the names of the threads that were asked for."""

    def __init__(self):
        super().__init__("test")
        self.spawned = []

    def spawn(self, name, function):
        self.spawned.append(name)
        super().spawn(name, function)


class Server:
    """A dialer, and the connection that it makes: a server that answers everything at once.

    Attributes:
        requests: the kinds of the calls that came.
        drops_first_close: break the connection instead of answering the first CloseSession.
    """

    address = "ps0:2222"
    transport = "test"

    def __init__(self):
        self.requests = []
        self.drops_first_close = False
        self._receiver = None

    def dial(self, receiver, timeout_s):
        self._receiver = receiver
        return self

    def send(self, message):
        kind = message.envelope.WhichOneof("kind")
        receiver = self._receiver
        if kind == "hello":
            welcome = service_pb2.Welcome(incarnation=1)
            receiver.received(Message(service_pb2.Envelope(welcome=welcome)))
        elif kind == "call":
            call = message.envelope.call
            request = call.WhichOneof("request")
            self.requests.append(request)
            if request == "close_session" and self.drops_first_close:
                self.drops_first_close = False
                receiver.lost(UnavailableError(None, None, "broken"))
                raise UnavailableError(None, None, "broken")
            receiver.received(reply_message(call.id, None))
            if request == "close_session":
                receiver.lost(UnavailableError(None, None, "the session is over"))

    def close(self):
        pass


@pytest.fixture
def runtime():
    runtime = Recording()
    yield runtime
    runtime.close()


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def conversation(runtime, server):
    kind = service_pb2.SESSION_KIND_TASK
    conversation = Conversation("ps0", server, runtime, session_id="s", kind=kind)
    conversation.call(service_pb2.EndSteps())
    return conversation


def test_a_session_that_was_closed_does_not_return(conversation, runtime, server):
    conversation.close()
    assert server.requests == ["end_steps", "close_session"]
    assert runtime.spawned == ["connect"]
    with pytest.raises(CancelledError, match="the session was closed"):
        conversation.call(service_pb2.EndSteps())


def test_a_connection_that_breaks_as_the_session_is_closed_is_made_again(
    conversation, runtime, server
):
    server.drops_first_close = True
    conversation.close()
    assert server.requests == ["end_steps", "close_session", "close_session"]
    assert runtime.spawned == ["connect", "connect"]


def test_a_forked_process_is_told_to_open_a_session_of_its_own(conversation, server, monkeypatch):
    opener = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: opener + 1)
    with pytest.raises(FailedPreconditionError, match=f"opened in process {opener}.*of its own"):
        conversation.call(service_pb2.EndSteps())
    conversation.close()
    monkeypatch.undo()
    conversation.call(service_pb2.EndSteps())
    assert server.requests == ["end_steps", "end_steps"]
