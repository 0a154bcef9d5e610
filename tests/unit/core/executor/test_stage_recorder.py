"""What a recorder sees of a stage: every op that ran, when, and what it put out."""

import itertools

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.executor import tracing
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.tracing import StageRecorder
from paramserve_core.kernels.random_streams import RandomStreams


class Ticks:
    """A clock on which a millisecond passes each time that somebody looks at it."""

    def __init__(self) -> None:
        self._ticks = itertools.count(50_000)

    def __call__(self) -> float:
        return next(self._ticks) / 1000


@pytest.fixture
def step():
    return StepContext(VariableStore(), RandomStreams())


def traced(graph: GraphBuilder, step: StepContext, *, received=(), returned=(), feeds=()):
    recorder = StageRecorder(Ticks())
    program = Program(graph.graph.node, received=received, returned=returned)
    program.run(step, [np.asarray(feed, np.float32) for feed in feeds], {}, recorder)
    return recorder.trace()


def test_each_op_is_recorded_with_its_times_since_the_request_arrived(step):
    g = GraphBuilder()
    g.placeholder("x", [2])
    g.add("a", "x", "x")
    g.add("b", "a", "x")
    del g.graph.node[0]
    trace = traced(g, step, received=["x:0"], returned=["b:0"], feeds=[[1, 2]])
    # Looks at the clock: arrival 0, the stage 1, a 2 to 3, b 4 to 5, the answer 6.
    times = [(n.node_name, n.all_start_nanos, n.all_end_rel_nanos) for n in trace.nodes]
    assert times == [("a", 2_000_000, 1_000_000), ("b", 4_000_000, 1_000_000)]
    assert (trace.began_nanos, trace.ended_nanos) == (1_000_000, 5_000_000)
    assert trace.answered_nanos == 6_000_000
    assert trace.ops_left_out == 0


def test_an_output_is_described_by_type_shape_and_bytes(step):
    g = GraphBuilder()
    g.placeholder("x", [2, 3])
    g.add("a", "x", "x")
    del g.graph.node[0]
    trace = traced(g, step, received=["x:0"], returned=["a:0"], feeds=[np.ones([2, 3])])
    (output,) = trace.nodes[0].output
    tensor = output.tensor_description
    assert tensor.dtype == dtypes.float32.as_datatype_enum
    assert [d.size for d in tensor.shape.dim] == [2, 3]
    assert tensor.allocation_description.requested_bytes == 24
    assert tensor.allocation_description.allocated_bytes == 24
    assert trace.nodes[0].memory[0].total_bytes == 24


def test_memory_that_an_op_only_passes_on_is_not_counted_again(step):
    g = GraphBuilder()
    g.placeholder("x", [2])
    g.variable("v", [2])
    g.assign("set", "v", "x")
    g.identity("read", "v")
    g.identity("again", "read")
    del g.graph.node[0]
    trace = traced(g, step, received=["x:0"], returned=["again:0", "set:0"], feeds=[[1, 2]])
    found = {
        n.node_name: n.output[0].tensor_description.allocation_description for n in trace.nodes
    }
    assert found.keys() == {"v", "set", "read", "again"}
    assert {name: d.allocated_bytes for name, d in found.items()} == dict.fromkeys(found, 0)
    assert found["read"].requested_bytes == 8
    assert not any(n.memory for n in trace.nodes)
    (assign,) = [n for n in trace.nodes if n.node_name == "set"]
    assert assign.memory_stats.persistent_memory_size == 8


def test_a_variable_without_a_value_has_the_shape_it_was_declared_with(step):
    g = GraphBuilder()
    g.variable("v", [7])
    g.node("IsVariableInitialized", "is", "v", dtype=dtypes.float32)
    trace = traced(g, step, returned=["is:0"])
    (v,) = [n for n in trace.nodes if n.node_name == "v"]
    assert [d.size for d in v.output[0].tensor_description.shape.dim] == [7]
    assert v.output[0].tensor_description.allocation_description.requested_bytes == 0


def test_a_recorder_holds_no_lease_so_that_updates_stay_in_place(step):
    g = GraphBuilder()
    g.placeholder("x", [1000])
    g.variable("v", [1000])
    g.assign("set", "v", "x")
    del g.graph.node[0]
    traced(g, step, received=["x:0"], returned=["set:0"], feeds=[np.zeros(1000)])
    (variable,) = step.store.variables()
    before = variable.read().__array_interface__["data"]
    more = GraphBuilder()
    more.variable("v", [1000])
    more.constant("one", [1.0] * 1000)
    more.identity("read", "v")
    more.add("next", "read", "one")
    more.assign("add", "v", "one", op="AssignAdd")
    recorder = StageRecorder(Ticks())
    Program(more.graph.node).run(step, [], {}, recorder)
    assert variable.read().__array_interface__["data"] == before
    assert {n.node_name for n in recorder.trace().nodes} == {"v", "read", "next", "add"}


def test_strings_are_measured_by_their_bytes(step):
    g = GraphBuilder()
    g.node("Const", "s", value=np.array([b"abc", b"d"], object), dtype=dtypes.string)
    g.node("Identity", "copy", "s", T=dtypes.string)
    trace = traced(g, step, returned=["copy:0"])
    assert trace.nodes[0].output[0].tensor_description.allocation_description.requested_bytes == 4


def test_only_the_branch_that_was_taken_is_recorded(step):
    g = GraphBuilder()
    g.constant("x", 1.0)
    g.constant("yes", np.array(True))
    g.node("Switch", "switch", "x", "yes", T=dtypes.float32)
    g.identity("no_branch", "switch:0")
    g.identity("yes_branch", "switch:1")
    g.node("Merge", "merge", "no_branch", "yes_branch", T=dtypes.float32, N=2)
    trace = traced(g, step, returned=["merge:0"])
    assert [n.node_name for n in trace.nodes] == ["switch", "yes_branch", "merge"]
    switch = trace.nodes[0]
    assert [output.slot for output in switch.output] == [1]


def test_a_trace_has_a_limit_and_says_what_it_left_out(step, monkeypatch):
    monkeypatch.setattr(tracing, "_MAX_OPS", 2)
    g = GraphBuilder()
    g.constant("x", 1.0)
    for i in range(5):
        g.add(f"a{i}", "x", "x")
    trace = traced(g, step, returned=["a4:0"])
    assert [n.node_name for n in trace.nodes] == ["a0", "a1"]
    assert trace.ops_left_out == 3
    # Looks at the clock: arrival, the stage, twice for each of two, once for each of three.
    assert trace.ended_nanos == 8_000_000


def test_an_op_that_fails_ends_the_run_as_without_a_recorder(step):
    g = GraphBuilder()
    g.placeholder("x", [2])
    g.placeholder("y", [3])
    g.add("a", "x", "y")
    del g.graph.node[:2]
    with pytest.raises(InvalidArgumentError) as info:
        traced(
            g,
            step,
            received=["x:0", "y:0"],
            returned=["a:0"],
            feeds=[np.zeros(2), np.zeros(3)],
        )
    assert info.value.node_name == "a"
