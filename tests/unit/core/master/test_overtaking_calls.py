"""Calls beside one that takes long, as a save does beside the steps of a training."""

import pytest

from paramserve_core.errors import UnavailableError
from paramserve_core.master.conversation import Conversation
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.calls import CallTable, Verdict
from paramserve_core.task.messages import reply_message
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import checkpoint_service_pb2, service_pb2

MAX_CALLS = 1000


class Server:
    """A dialer, and its connection: a task that answers all calls but those to write a shard.

    Attributes:
        breaks: break the connection instead of taking the next acknowledgement.
    """

    address = "ps0:2222"
    transport = "test"

    def __init__(self):
        self.calls = CallTable(MAX_CALLS)
        self.breaks = False
        self._receiver = None

    def dial(self, receiver, timeout_s):
        self._receiver = receiver
        return self

    def send(self, message):
        envelope, receiver = message.envelope, self._receiver
        match envelope.WhichOneof("kind"):
            case "hello":
                welcome = service_pb2.Welcome(incarnation=1)
                receiver.received(Message(service_pb2.Envelope(welcome=welcome)))
            case "acknowledge" if self.breaks:
                self.breaks = False
                receiver.lost(UnavailableError(None, None, "broken"))
                raise UnavailableError(None, None, "broken")
            case "acknowledge":
                self.calls.acknowledge(envelope.acknowledge.ids)
            case "call":
                self._call(envelope.call)

    def _call(self, call):
        verdict = self.calls.begin(call.id, call.completed_below)
        if verdict is Verdict.NEW and call.WhichOneof("request") != "write_shard":
            answer = reply_message(call.id, None)
            self.calls.finish(call.id, answer)
            self._receiver.received(answer)

    def close(self):
        pass


@pytest.fixture
def runtime():
    runtime = ThreadRuntime("test")
    yield runtime
    runtime.close()


@pytest.mark.parametrize("breaks", [False, True])
def test_any_number_of_steps_may_pass_while_one_call_runs(runtime, breaks):
    server = Server()
    kind = service_pb2.SESSION_KIND_TASK
    conversation = Conversation("ps0", server, runtime, session_id="s", kind=kind)
    conversation.call(service_pb2.EndSteps())
    outcomes = []
    conversation.start(checkpoint_service_pb2.WriteShardRequest(), (), outcomes.append)
    server.breaks = breaks
    for _ in range(5 * MAX_CALLS):
        conversation.call(service_pb2.EndSteps(), timeout_s=10)
    assert outcomes == []
    conversation.close()
    assert len(outcomes) == 1
