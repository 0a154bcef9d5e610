"""Stages that are run by the thread that receives them, because they were brief."""

import threading

import numpy as np
import pytest

import paramserve as ps
from graph_builder import GraphBuilder
from paramserve_core.executor.program import Program
from paramserve_core.executor.store import VariableStore
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import make_plan
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.host import TaskHost
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.messages import call_envelope
from paramserve_core.task.session import Pace
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2
from simulation.cluster import NoCheckpoints


class Clock(ThreadRuntime):
    """Time that the test sets; work that is submitted runs when the test says so."""

    def __init__(self):
        super().__init__("test")
        self.stage_s = 0.0
        self.submitted = []
        self._now = 0.0

    def now(self):
        self._now += self.stage_s
        return self._now

    def submit(self, function):
        self.submitted.append(function)

    def run_submitted(self):
        while self.submitted:
            self.submitted.pop(0)()


class Client:
    """Talks to a host, and keeps what it is answered."""

    def __init__(self, host):
        self.answers = []
        self._receiver = host.accept(self, "test")
        hello = service_pb2.Hello(session_id="s", kind=service_pb2.SESSION_KIND_TASK)
        self._receiver.received(Message(service_pb2.Envelope(hello=hello)))
        self._numbers = iter(range(1, 1000))

    def send(self, message):
        self.answers.append(message)

    def close(self):
        pass

    def call(self, request, tensors=()):
        number = next(self._numbers)
        self._receiver.received(Message(call_envelope(number, number, request), tensors))

    def register(self, plan, nodes, **stage):
        message = service_pb2.PlanStages(changing_stages=1)
        added = message.stages.add(is_last=True, **stage)
        added.nodes.node.extend(nodes)
        body = np.frombuffer(message.SerializeToString(), np.uint8)
        self.call(service_pb2.RegisterPlan(plan=plan), [body])

    def run(self, plan, *tensors):
        step = next(self._numbers)
        self.call(service_pb2.RunStage(plan=plan, step=step, stage=0), tensors)


@pytest.fixture
def clock():
    clock = Clock()
    yield clock
    clock.close()


@pytest.fixture
def host(clock):
    host = TaskHost(
        task=service_pb2.Task(name="/job:ps/task:0", incarnation=1),
        store=VariableStore(),
        runtime=clock,
        limits=TaskLimits(),
        checkpoints=NoCheckpoints(),
    )
    yield host
    host.close()


@pytest.fixture
def client(clock, host):
    """A client whose plan 1 adds what it is given to a variable, and has become brief."""
    g = GraphBuilder()
    g.variable("w", [])
    g.placeholder("x")
    g.assign("set", "w", "x")
    g.assign("add", "w", "x", op="AssignAdd")
    nodes = {node.name: node for node in g.graph.node}
    client = Client(host)
    client.register(1, [nodes["w"], nodes["add"]], received=["x:0"], returned=["add:0"])
    client.register(2, [nodes["w"], nodes["set"]], received=["x:0"])
    clock.run_submitted()
    client.run(2, np.float32(0))
    for _ in range(20):
        client.run(1, np.float32(1))
        clock.run_submitted()
    client.answers.clear()
    return client


def test_a_stage_that_was_brief_runs_where_it_is_received(client, clock):
    client.run(1, np.float32(1))
    assert not clock.submitted
    (answer,) = client.answers
    assert answer.tensors[0] == 21


def test_a_stage_that_was_long_goes_back_to_the_pool(client, clock):
    clock.stage_s = 1.0
    for _ in range(3):
        client.run(1, np.float32(1))
        clock.run_submitted()
    client.run(1, np.float32(1))
    assert len(clock.submitted) == 1


def test_a_large_input_goes_to_the_pool(client, clock):
    client.run(1, np.zeros(100_000, np.float32))
    assert len(clock.submitted) == 1


def test_a_stage_that_a_checkpoint_holds_goes_to_the_pool(client, clock, host):
    host.gate.hold("save")
    client.run(1, np.float32(1))
    assert len(clock.submitted) == 1
    assert not client.answers
    host.gate.release("save")
    clock.run_submitted()
    assert client.answers[0].tensors[0] == 21


def test_a_brief_stage_leaves_the_gate_also_when_it_fails(client, host):
    client.run(1, np.zeros(3, np.float32))
    assert client.answers[0].envelope.reply.status.code
    held = threading.Event()
    threading.Thread(target=lambda: (host.gate.hold("save"), held.set()), daemon=True).start()
    assert held.wait(10)


def test_a_request_with_too_few_tensors_passes_no_gate(client, clock, host):
    client.run(1)
    clock.run_submitted()
    assert client.answers[0].envelope.reply.status.code
    host.gate.hold("save")  # would wait for a stage inside


def test_one_long_run_among_many_brief_ones_costs_little_trust():
    pace = Pace()
    for _ in range(100):
        pace.took(1e-5)
    pace.took(1.0)
    assert pace.is_brief
    pace.took(1.0)
    assert not pace.is_brief


def test_a_program_knows_whether_it_has_a_loop():
    with ps.Graph().as_default() as message:
        looped = ps.while_loop(lambda i: i < 3, lambda i: i + 1, [ps.constant(0)])
        straight = ps.constant(0) + 1
    graph = StepGraph()
    graph.extend(message.as_graph_def())
    for fetch, has_loops in ((looped, True), (straight, False)):
        (stage,) = make_plan(graph, Placer(["/job:a"], "/job:a"), [fetch.name], [], []).stages
        assert Program(stage.nodes, returned=stage.returned).has_loops is has_loops


def test_a_loop_is_never_trusted_to_be_brief():
    pace = Pace(may_last=True)
    for _ in range(100):
        pace.took(1e-5)
    assert not pace.is_brief


def test_the_gate_lets_in_without_waiting_or_not_at_all():
    gate = StepGate(ThreadRuntime("test"))
    assert gate.try_enter(("s", 1), 1)
    gate.leave(("s", 1), 1, is_done=True)
    gate.hold("save")
    assert not gate.try_enter(("s", 2), 1)
    gate.let("save", [("s", 2)])
    assert gate.try_enter(("s", 2), 1)
