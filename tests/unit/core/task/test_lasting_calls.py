"""Calls with loops take so many threads of a server and no more."""

import itertools

import numpy as np
import pytest

from loop_graphs import LoopBuilder
from paramserve_core.executor.store import VariableStore
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import make_plan
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.host import TaskHost
from paramserve_core.task.lasting import LastingCalls
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.messages import call_envelope
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2
from simulation.cluster import NoCheckpoints

CANCELLED = 1
TASK = "/job:ps/replica:0/task:0"


class Pool(ThreadRuntime):
    """Work that is submitted runs when the test says so."""

    def __init__(self):
        super().__init__("test")
        self.submitted = []

    def submit(self, function):
        self.submitted.append(function)

    def run_next(self):
        self.submitted.pop(0)()


class Client:
    """A session of a host, and the codes that its calls were answered with, by their numbers."""

    def __init__(self, host, name="s"):
        self.codes = {}
        self._numbers = itertools.count(1)
        self._receiver = host.accept(self, "test")
        hello = service_pb2.Hello(session_id=name, kind=service_pb2.SESSION_KIND_TASK)
        self._receiver.received(Message(service_pb2.Envelope(hello=hello)))

    def send(self, message):
        if message.envelope.HasField("reply"):
            self.codes[message.envelope.reply.id] = message.envelope.reply.status.code

    def close(self):
        pass

    def call(self, request, tensors=()):
        number = next(self._numbers)
        self._receiver.received(Message(call_envelope(number, 1, request), tensors))
        return number

    def register(self, plan, nodes, **stage):
        message = service_pb2.PlanStages()
        added = message.stages.add(is_last=True, **stage)
        added.nodes.node.extend(nodes)
        body = np.frombuffer(message.SerializeToString(), np.uint8)
        self.call(service_pb2.RegisterPlan(plan=plan), [body])

    def run(self, plan):
        return self.call(service_pb2.RunStage(plan=plan, step=next(self._numbers), stage=0))

    def cancel(self, number):
        cancel = service_pb2.Cancel(id=number)
        self._receiver.received(Message(service_pb2.Envelope(cancel=cancel)))


@pytest.fixture
def pool():
    pool = Pool()
    yield pool
    pool.close()


@pytest.fixture
def host(pool):
    host = TaskHost(
        task=service_pb2.Task(name=TASK, incarnation=1),
        store=VariableStore(),
        runtime=pool,
        limits=TaskLimits(max_loops=2),
        checkpoints=NoCheckpoints(),
    )
    yield host
    host.close()


def connected(host, pool, name="s"):
    """A client with two plans: 1 has a loop, 2 has none."""
    client = Client(host, name)
    nodes = LoopBuilder().whole().graph.node
    client.register(1, nodes, returned=["exit:0"])
    client.register(2, [node for node in nodes if node.name == "one"], returned=["one:0"])
    while pool.submitted:
        pool.run_next()
    return client


@pytest.fixture
def client(host, pool):
    return connected(host, pool)


def test_loops_of_a_session_beyond_the_limit_wait_for_its_own_to_end(client, pool):
    numbers = [client.run(1) for _ in range(5)]
    assert len(pool.submitted) == 2
    for done in range(1, 6):
        pool.run_next()
        assert [client.codes.get(number) for number in numbers] == [0] * done + [None] * (5 - done)
        assert len(pool.submitted) == min(2, 5 - done)


def test_calls_without_loops_and_loops_of_others_do_not_wait_for_them(host, client, pool):
    for _ in range(5):
        client.run(1)
    plain = client.run(2)
    other = connected_beside(host, pool)
    assert len(pool.submitted) == 3
    pool.submitted.pop()()
    assert client.codes[plain] == 0
    other.run(1)
    assert len(pool.submitted) == 3


def connected_beside(host, pool):
    """Another client, without running what the first one has submitted."""
    waiting, pool.submitted = pool.submitted, []
    other = connected(host, pool, "other")
    pool.submitted = waiting
    return other


def test_one_that_is_cancelled_while_it_waits_is_answered_at_once(client, pool):
    running, waiting = [client.run(1), client.run(1)], client.run(1)
    client.cancel(waiting)
    assert len(pool.submitted) == 3
    pool.submitted.pop()()
    assert client.codes[waiting] == CANCELLED
    client.cancel(waiting)
    while pool.submitted:
        pool.run_next()
    assert [client.codes[number] for number in running] == [0, 0]


def test_whatever_waits_when_a_session_ends_ends_too(host, client, pool):
    for _ in range(5):
        client.run(1)
    client.call(service_pb2.CloseSession())
    assert len(pool.submitted) == 5
    while pool.submitted:
        pool.run_next()
    assert host.running_count == 0


def test_a_call_that_is_cancelled_before_it_begins_does_not_wait(pool):
    calls = LastingCalls(pool, 1)
    done = []
    first, second = calls.new(lambda: done.append(1)), calls.new(lambda: done.append(2))
    first.begin()
    second.hurry()
    second.begin()
    assert len(pool.submitted) == 2
    pool.submitted.pop()()
    assert done == [2]
    third = calls.new(lambda: done.append(3))
    third.begin()
    assert len(pool.submitted) == 1
    pool.run_next()
    pool.run_next()
    assert done == [2, 1, 3]


class Interrupted:
    """A lock, behind which something happens once, before anything else."""

    def __init__(self, lock, then):
        self._lock = lock
        self._then = then

    def __enter__(self):
        self._lock.__enter__()

    def __exit__(self, *failure):
        self._lock.__exit__(*failure)
        then, self._then = self._then, None
        if then is not None:
            then()


def test_a_call_that_is_cancelled_as_it_begins_gives_its_place_back(pool):
    calls = LastingCalls(pool, 1)
    ran = []
    first = calls.new(lambda: ran.append("first"))
    calls._lock = Interrupted(calls._lock, first.hurry)
    first.begin()
    second = calls.new(lambda: ran.append("second"))
    second.begin()
    while pool.submitted:
        pool.run_next()
    assert ran == ["first", "second"]


def test_a_call_that_fails_lets_the_next_one_begin(pool):
    calls = LastingCalls(pool, 1)
    done = []
    calls.new(lambda: 1 / 0).begin()
    calls.new(lambda: done.append(2)).begin()
    with pytest.raises(ZeroDivisionError):
        pool.run_next()
    pool.run_next()
    assert done == [2]


def test_a_plan_knows_whether_it_has_loops():
    graph = StepGraph()
    graph.extend(LoopBuilder().whole().graph)
    placer = Placer([TASK], TASK)
    assert make_plan(graph, placer, ["exit:0"], [], []).has_loops
    assert not make_plan(graph, placer, ["one:0"], [], []).has_loops
