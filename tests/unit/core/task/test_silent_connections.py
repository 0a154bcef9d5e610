"""A connection on which nobody says whose it is ends, and its place is free."""

import pytest

from local_fakes import RawClient, until
from paramserve_core.executor.store import VariableStore
from paramserve_core.serving import ServingOptions, TaskServer
from paramserve_core.task import host as task_host
from paramserve_core.task.host import TaskHost
from paramserve_core.task.limits import TaskLimits
from paramserve_core.transport import local_socket
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2
from simulation.cluster import NoCheckpoints
from simulation.scheduler import Scheduler, SimulatedRuntime
from transport_fakes import Inbox


class Caller:
    """A connection that a client made."""

    transport = "fake"

    def __init__(self, host):
        self.is_closed = False
        self.receiver = host.accept(self, "a client")

    def send(self, message):
        assert not message.envelope.welcome.status.code

    def close(self):
        self.is_closed = True

    def say_hello(self):
        hello = service_pb2.Hello(session_id="s", kind=service_pb2.SESSION_KIND_TASK)
        self.receiver.received(Message(service_pb2.Envelope(hello=hello)))


def test_who_says_nothing_is_turned_away_and_who_says_hello_stays():
    scheduler = Scheduler(1)
    runtime = SimulatedRuntime(scheduler)

    def main():
        host = TaskHost(
            task=service_pb2.Task(name="/job:ps/task:0", incarnation=1),
            store=VariableStore(),
            runtime=runtime,
            limits=TaskLimits(),
            checkpoints=NoCheckpoints(),
        )
        silent, late, prompt = Caller(host), Caller(host), Caller(host)
        prompt.say_hello()
        runtime.sleep(9)
        assert not silent.is_closed
        late.say_hello()
        runtime.sleep(2)
        assert silent.is_closed
        assert not late.is_closed
        runtime.sleep(100)
        # The second one had the same session, and took it over from the first.
        assert (prompt.is_closed, late.is_closed) == (True, False)
        host.close()

    scheduler.run(main)


@pytest.fixture
def served(monkeypatch):
    """A server that waits for nobody."""
    monkeypatch.setattr(task_host, "_HELLO_S", 0.05)
    monkeypatch.setattr(local_socket, "_LINGER_S", 0.05)
    served = TaskServer(ServingOptions(limits=TaskLimits(max_sessions=1)))
    served.start()
    yield served
    served.stop(0)


def test_silent_connections_over_grpc_leave_their_places(served):
    for _ in range(6):  # There are two places.
        inbox = Inbox()
        connection = GrpcDialer(served.address).dial(inbox, 30)
        inbox.error()
        connection.close()
        until(lambda: served.traffic["grpc"].connections == 0)


def test_silent_connections_over_the_local_socket_leave_their_places(served):
    clients = []
    for _ in range(6):
        clients.append(RawClient(served._local))
        assert clients[-1].next() is None
        # It has been told, and has not closed its end.
        until(lambda: served.traffic["shm"].connections == 0)
    for client in clients:
        client.close()
