"""What a task counts of the calls of its sessions."""

import itertools

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core.executor.store import VariableStore
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.host import TaskHost
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.messages import call_envelope
from paramserve_core.task.statistics import CallFigures, Statistics
from paramserve_core.transport.interface import Message
from paramserve_protos.v1 import service_pb2
from simulation.cluster import NoCheckpoints

INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED = 3, 5, 8


class SlowPool(ThreadRuntime):
    """A clock that stands still but for the two seconds before the pool begins a call."""

    time_s = 0.0

    def now(self):
        return self.time_s

    def submit(self, function):
        self.time_s += 2.0
        function()


class Peer:
    """A session of a host, and the codes of what it was answered."""

    def __init__(self, host):
        self._numbers = itertools.count(1)
        self.codes = []
        self._receiver = host.accept(self, "test")
        hello = service_pb2.Hello(session_id="s", kind=service_pb2.SESSION_KIND_TASK)
        self._receiver.received(Message(service_pb2.Envelope(hello=hello)))

    def send(self, message):
        self.codes.append(message.envelope.reply.status.code)

    def close(self):
        pass

    def call(self, request, tensors=()):
        number = next(self._numbers)
        self._receiver.received(Message(call_envelope(number, 1, request), tensors))

    def run_stage(self, step, stage):
        self.call(service_pb2.RunStage(plan=1, step=step, stage=stage))


@pytest.fixture
def runtime():
    runtime = SlowPool("test")
    yield runtime
    runtime.close()


@pytest.fixture
def host(runtime):
    host = TaskHost(
        task=service_pb2.Task(name="/job:ps/task:0", incarnation=1),
        store=VariableStore(),
        runtime=runtime,
        limits=TaskLimits(max_calls=8),
        checkpoints=NoCheckpoints(),
    )
    yield host
    host.close()


@pytest.fixture
def peer(host):
    """A session with plan 1, of two stages."""
    peer = Peer(host)
    graph = GraphBuilder()
    graph.constant("c", np.float32(1))
    plan = service_pb2.PlanStages()
    for is_last in (False, True):
        stage = plan.stages.add(is_last=is_last)
        stage.nodes.node.extend(graph.graph.node)
    peer.call(service_pb2.RegisterPlan(plan=1), [np.frombuffer(plan.SerializeToString(), np.uint8)])
    return peer


def activity(host):
    return host.describe().activity


def test_a_step_of_two_stages_is_one_step_and_two_calls(host, peer):
    for step in (1, 2, 3):
        peer.run_stage(step, 0)
        peer.run_stage(step, 1)
    assert not any(peer.codes)
    found = {call.kind: call.count for call in activity(host).calls}
    assert found == {"register_plan": 1, "run_stage": 6}
    assert activity(host).steps == 3


def test_the_time_before_a_call_begins_is_not_time_that_it_runs(host, peer):
    peer.run_stage(1, 0)
    (stage,) = (call for call in activity(host).calls if call.kind == "run_stage")
    assert (stage.queued_s, stage.run_s) == (2.0, 0.0)


def test_calls_that_are_refused_before_they_run_are_failures(host, peer):
    peer.call(service_pb2.ListTasks())
    peer.call(service_pb2.RunStage(plan=9, step=1))
    for step in range(6):
        peer.run_stage(step, 0)
    assert peer.codes[-1] == RESOURCE_EXHAUSTED
    failures = {failure.code: failure.count for failure in activity(host).failures}
    assert failures == {INVALID_ARGUMENT: 1, NOT_FOUND: 1, RESOURCE_EXHAUSTED: 1}
    assert activity(host).calls_in_flight == 0


def test_figures_that_were_read_do_not_change():
    statistics = Statistics()
    statistics.call_ended("run_step", 1.0, 2.0, begins_step=True)
    before = statistics.calls()
    statistics.call_ended("run_step", 1.0, 2.0, begins_step=False)
    assert before == {"run_step": CallFigures(count=1, steps=1, queued_s=1.0, run_s=2.0)}
    assert statistics.calls() == {
        "run_step": CallFigures(count=2, steps=1, queued_s=2.0, run_s=4.0)
    }
