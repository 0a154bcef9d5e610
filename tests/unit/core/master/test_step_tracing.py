"""How reports of tasks, each with its own clock, become the report of a step."""

from types import SimpleNamespace

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core.errors import AbortedError, InternalError
from paramserve_core.master.outstanding import Outcome
from paramserve_core.master.tracing import (
    Exchange,
    ServedStepTracer,
    StepReport,
    StepTracer,
    fill_micros,
    place,
    with_trace,
)
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import make_plan
from paramserve_protos.v1 import service_pb2
from simulation.cluster import Cluster
from simulation.network import Weather

PS = "/job:ps/replica:0/task:0"
MS = 1_000_000


class Clock:
    """Seconds, as a test says; far from 0, as clocks are."""

    def __init__(self) -> None:
        self.at_ms = 0

    def __call__(self) -> float:
        return 70_000 + self.at_ms / 1000


class Wire:
    """A link on which a tensor has the bytes that it has."""

    transport = "wire"

    def wire_bytes(self, tensors) -> int:
        return sum(tensor.nbytes for tensor in tensors)


@pytest.fixture
def clock():
    return Clock()


def plan():
    g = GraphBuilder()
    g.variable("w", [2], device="/job:ps/task:0")
    g.placeholder("x", [2])
    g.assign("add", "w", "x", op="AssignAdd", device="/job:ps/task:0")
    graph = StepGraph()
    graph.extend(g.graph)
    return make_plan(graph, Placer([PS], PS), ["add:0"], ["x:0"], [])


def stage_trace(*, began=1 * MS, ended=3 * MS, answered=4 * MS, **node):
    trace = service_pb2.StageTrace(
        began_nanos=began, ended_nanos=ended, answered_nanos=answered, ops_left_out=5
    )
    trace.nodes.add(
        node_name="add", **{"all_start_nanos": 1 * MS, "all_end_rel_nanos": 2 * MS, **node}
    )
    return trace


def traced(clock, outcome):
    """A step of one stage: sent after 10 ms, answered 10 ms later."""
    tracer = StepTracer(plan(), clock)
    reported = []
    clock.at_ms = 10
    report = tracer.reporting(0, Wire(), [np.zeros(2, np.float32)], reported.append)
    clock.at_ms = 20
    report(outcome)
    metadata = StepReport().metadata
    return tracer, reported[0], metadata


def test_what_a_task_does_not_account_for_was_spent_on_the_way_both_ways_alike():
    exchange = Exchange(1.0, 2.0, "wire", 0, 0)
    assert exchange.lead_s(0.6) == pytest.approx(0.2)


def test_the_way_of_more_bytes_takes_longer():
    large = Exchange(1.0, 2.0, "wire", 100 << 20, 0)
    assert 0.39 < large.lead_s(0.6) < 0.4
    assert 0 < Exchange(1.0, 2.0, "wire", 0, 100 << 20).lead_s(0.6) < 0.01


def test_a_task_whose_clock_is_faster_is_not_placed_before_its_request():
    assert Exchange(1.0, 2.0, "wire", 0, 0).lead_s(1.5) == 0.0


def test_ops_are_placed_between_the_request_and_its_answer(clock):
    answer = np.ones(2, np.float32)
    outcome = Outcome(tensors=with_trace([answer], stage_trace()))
    tracer, reported, metadata = traced(clock, outcome)
    assert reported.tensors == [answer]
    tracer.fill(metadata)
    ops, requests = metadata.step_stats.dev_stats
    # 10 ms from sent to answered, 4 of them on the task: it began 3 ms after sending.
    (add,) = ops.node_stats
    assert ops.device == f"{PS}/device:CPU:0"
    assert add.timeline_label == "add = AssignAdd(w, x)"
    assert add.scheduled_nanos == pytest.approx(13 * MS, abs=10)
    assert add.all_start_nanos == pytest.approx(14 * MS, abs=10)
    assert add.all_end_rel_nanos == add.op_end_rel_nanos == 2 * MS
    (request,) = requests.node_stats
    assert requests.device == f"{PS}/transport:wire"
    assert request.all_start_nanos == pytest.approx(10 * MS, abs=10)
    assert request.all_end_rel_nanos == pytest.approx(10 * MS, abs=10)
    (stage,) = metadata.stage_stats
    assert (stage.task, stage.stage, stage.transport) == (PS, 0, "wire")
    assert (stage.request_bytes, stage.response_bytes) == (8, 8)
    assert (stage.wait_nanos, stage.apply_nanos, stage.ops_left_out) == (1 * MS, 2 * MS, 5)


def test_an_error_is_passed_on_as_it_is(clock):
    outcome = Outcome(error=AbortedError(None, None, "gone"))
    assert traced(clock, outcome)[1] is outcome


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [np.zeros(3, np.float32)],
        [np.frombuffer(b"\xff\xff\xff", np.uint8)],
        with_trace([], stage_trace(all_start_nanos=-1)),
        with_trace([], stage_trace(all_start_nanos=4 * MS)),
        with_trace([], stage_trace(all_end_rel_nanos=-1)),
        with_trace([], stage_trace(answered=1 << 62, all_start_nanos=1 << 61)),
        with_trace([], stage_trace(began=-(1 << 63), ended=1 << 62)),
    ],
    ids=["none", "floats", "garbage", "too early", "too late", "backwards", "decades", "stage"],
)
def test_a_report_that_cannot_be_true_is_refused_and_the_task_named(clock, tensors):
    tracer, _, metadata = traced(clock, Outcome(tensors=tensors))
    with pytest.raises(InternalError, match="/job:ps/replica:0/task:0") as info:
        tracer.fill(metadata)
    assert info.value.task == PS


def test_a_stage_here_ends_with_its_last_op_and_not_with_the_step(clock):
    tracer = StepTracer(plan(), clock)
    clock.at_ms = 5
    recorder = tracer.recorder(0)

    def execute(instruction, step, values):
        clock.at_ms += 2

    instruction = SimpleNamespace(
        node=SimpleNamespace(name="add"), inputs=(), first_output=0, output_count=0
    )
    recorder.recording(execute)(instruction, None, [])
    clock.at_ms = 100
    metadata = StepReport().metadata
    tracer.fill(metadata)
    (stage,) = metadata.stage_stats
    assert stage.start_nanos == pytest.approx(5 * MS, abs=10)
    assert stage.round_trip_nanos == stage.apply_nanos == pytest.approx(2 * MS, abs=10)
    assert [d.device for d in metadata.step_stats.dev_stats] == [f"{PS}/device:CPU:0"]


def served_trace():
    trace = service_pb2.StepTrace(answered_nanos=6 * MS, task=PS)
    device = trace.metadata.step_stats.dev_stats.add(device=f"{PS}/device:CPU:0")
    device.node_stats.add(node_name="add", all_start_nanos=2 * MS, all_end_rel_nanos=1 * MS)
    trace.metadata.stage_stats.add(task=PS, transport="in process", start_nanos=2 * MS)
    return trace


def test_the_report_of_a_server_that_plans_is_placed_as_a_whole(clock):
    report = StepReport()
    tracer = ServedStepTracer(report, Wire(), [np.zeros(2, np.float32)], clock)
    clock.at_ms = 10
    answer = np.ones(2, np.float32)
    assert tracer.answered(with_trace([answer], served_trace())) == [answer]
    ops, _ = report.metadata.step_stats.dev_stats
    assert ops.node_stats[0].all_start_nanos == pytest.approx(4 * MS, abs=10)
    inner, whole = report.metadata.stage_stats
    assert inner.start_nanos == pytest.approx(4 * MS, abs=10)
    assert (whole.task, whole.transport, whole.start_nanos) == (PS, "wire", 0)
    assert (whole.wait_nanos, whole.apply_nanos) == (2 * MS, 4 * MS)
    assert whole.round_trip_nanos == pytest.approx(10 * MS, abs=10)


def test_a_server_whose_stages_are_not_within_the_step_is_refused(clock):
    trace = served_trace()
    trace.metadata.stage_stats[0].start_nanos = 7 * MS
    tracer = ServedStepTracer(StepReport(), Wire(), [], clock)
    with pytest.raises(InternalError, match="ran from 7000000 to 7000000 ns"):
        tracer.answered(with_trace([], trace))


@pytest.mark.parametrize("tensors", [[], [np.frombuffer(b"\xff\xff", np.uint8)]])
def test_a_server_that_answers_without_a_report_is_refused(clock, tensors):
    tracer = ServedStepTracer(StepReport(), Wire(), [], clock)
    with pytest.raises(InternalError, match="was asked for a StepTrace"):
        tracer.answered(tensors)


def test_a_report_moves_to_the_time_of_day_and_into_microseconds():
    metadata = served_trace().metadata
    place(metadata, 1_700_000_000_000_000_000)
    fill_micros(metadata)
    (node,) = metadata.step_stats.dev_stats[0].node_stats
    assert node.all_start_micros == 1_700_000_000_002_000
    assert node.all_end_rel_micros == 1000
    assert metadata.stage_stats[0].start_nanos == 1_700_000_000_002_000_000


@pytest.mark.parametrize("seed", range(8))
def test_a_trace_comes_with_the_answer_whatever_happens_to_the_connection(seed):
    weather = Weather(breaks=0.1, doubles=0.3)
    cluster = Cluster(seed, weather, tasks=2)

    def client():
        master = cluster.master()
        plan = master.prepare(["add0:0", "add1:0"], ["delta0:0", "delta1:0"], [])
        for step in range(1, 11):
            report = StepReport()
            feeds = [np.asarray(1, np.int64)] * 2
            values = master.run(plan, feeds, None, report)
            assert [int(value) for value in values] == [step, step]
            assert {s.task for s in report.metadata.stage_stats} == set(cluster.names)
            ops = {n.node_name for d in report.metadata.step_stats.dev_stats for n in d.node_stats}
            assert {"add0", "add1"} <= ops
        cluster.network.calm()
        master.close()

    cluster.scheduler.run(client)
