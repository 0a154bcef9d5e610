"""A stage with loops: what runs how often, and what is refused."""

import itertools

import numpy as np
import pytest

from graph_builder import GraphBuilder
from loop_graphs import FLOAT, LoopBuilder, damaged_loop
from paramserve_core import dtypes
from paramserve_core.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    OpError,
    ResourceExhaustedError,
)
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.tracing import StageRecorder
from paramserve_core.kernels import limits
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.shapes import TensorShape

SCALAR = TensorShape([])


class ImpatientStep(StepContext):
    """A step that is cancelled once somebody has asked so many times whether it was."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        super().__init__(VariableStore(), RandomStreams())

    @property
    def is_cancelled(self):
        self._patience -= 1
        return self._patience < 0

    @is_cancelled.setter
    def is_cancelled(self, value):
        pass


@pytest.fixture
def step():
    return StepContext(VariableStore(), RandomStreams())


def run(builder, step, *returned):
    return [
        value.tolist() for value in Program(builder.graph.node, returned=returned).run(step, [], {})
    ]


def test_a_loop_runs_until_its_condition_is_false(step):
    assert run(LoopBuilder().whole(), step, "exit:0") == [5]


def test_a_loop_whose_condition_is_false_at_once_gives_what_entered(step):
    assert run(LoopBuilder(-1.0).whole(), step, "exit:0") == [0]


def test_a_program_with_a_loop_may_run_again(step):
    program = Program(LoopBuilder().whole().graph.node, returned=["exit:0"])
    assert [program.run(step, [], {})[0] for _ in range(3)] == [5, 5, 5]


def test_an_op_of_the_body_runs_once_in_each_iteration_and_one_of_the_head_once_more(step):
    g = LoopBuilder(3.0)
    for name in ("in_head", "in_body"):
        g.variable(name)
        step.store.get_or_create(name, "", dtypes.float32, SCALAR).assign(np.zeros([], "f4"))
        ref = {**FLOAT, "frame_name": "loop", "is_constant": True}
        g.node("RefEnter", f"{name}_ref", name, **ref)
    g.head()
    g.identity("pivot", "switch:1")
    g.assign("head", "in_head_ref", "one_in", "AssignAdd")
    g.replace("head", "in_head_ref", "one_in", "^merge")
    g.assign("body", "in_body_ref", "one_in", "AssignAdd")
    g.replace("body", "in_body_ref", "one_in", "^pivot")
    g.rest()
    assert run(g, step, "exit:0", "in_head:0", "in_body:0") == [3, 4, 3]


def test_a_merge_says_whether_the_iteration_is_the_first(step):
    g = LoopBuilder(3.0)
    g.head()
    g.node("Cast", "not_first", "merge:1", SrcT=dtypes.int32, DstT=dtypes.float32)
    g.add("sum", "switch:1", "not_first")
    g.add("again", "sum", "one_in")
    g.node("NextIteration", "next", "again", **FLOAT)
    g.node("Exit", "exit", "switch", **FLOAT)
    assert run(g, step, "exit:0") == [3]


def test_a_loop_in_a_branch_that_is_not_taken_does_not_run(step):
    g = LoopBuilder(1e30)  # it would run for ever
    g.constant("no", np.array(False))
    g.node("Switch", "branch", "first", "no", **FLOAT)
    g.whole()
    g.replace("enter", "branch:1")
    g.identity("other", "branch:0")
    g.node("Merge", "result", "exit", "other", N=2, **FLOAT)
    g.replace("result", "exit", "other")
    assert run(g, step, "result:0", "result:1") == [0, 1]


def test_a_trigger_fires_in_an_iteration_whose_branch_is_not_taken(step):
    g = LoopBuilder(3.0)
    g.head()
    g.node("Less", "is_small", "switch:1", "one_in", **FLOAT)
    g.node("Switch", "branch", "switch:1", "is_small", **FLOAT)
    g.identity("only_then", "branch:1")
    g.node("ControlTrigger", "trigger", "^only_then")
    g.rest()
    g.replace("next", "sum", "^trigger")
    assert run(g, step, "exit:0") == [3]


def test_a_loop_that_never_ends_ends_when_the_step_is_cancelled():
    program = Program(LoopBuilder(np.inf).whole().graph.node, returned=["exit:0"])
    with pytest.raises(CancelledError):
        program.run(ImpatientStep(1000), [], {})


def test_an_empty_loop_that_never_ends_ends_when_the_step_is_cancelled():
    g = LoopBuilder(np.inf)
    g.head()
    g.node("NextIteration", "next", "switch:1", **FLOAT)
    g.node("Exit", "exit", "switch", **FLOAT)
    with pytest.raises(CancelledError):
        Program(g.graph.node, returned=["exit:0"]).run(ImpatientStep(1000), [], {})


def test_an_error_in_a_loop_names_its_node(step):
    g = LoopBuilder(2.0).whole()
    g.constant("two", [1.0, 2.0])
    g.enter("two_in", "two", is_constant=True)
    g.constant("three", [1.0, 2.0, 3.0])
    g.enter("three_in", "three", is_constant=True)
    nodes = list(g.graph.node)
    del g.graph.node[:]
    g.graph.node.extend([*nodes[:3], *nodes[-4:], *nodes[3:-4]])
    g.replace("sum", "two_in", "three_in")
    with pytest.raises(InvalidArgumentError) as caught:
        run(g, step, "exit:0")
    assert caught.value.node_name == "sum"


def test_every_op_that_a_loop_runs_is_recorded(step):
    ticks = itertools.count()
    recorder = StageRecorder(lambda: float(next(ticks)))
    program = Program(LoopBuilder(2.0).whole().graph.node, returned=["exit:0"])
    program.run(step, [], {}, recorder)
    names = [node.node_name for node in recorder.trace().nodes]
    assert names == ["less", "sum", "less", "sum", "less"]


# What is no loop.


def refused(builder, text, returned="exit:0"):
    with pytest.raises(InvalidArgumentError, match=text) as caught:
        Program(builder.graph.node, returned=[returned])
    return caught.value


def test_a_loop_without_a_condition_is_refused():
    g = LoopBuilder().whole()
    g.remove("condition")
    g.replace("switch", "merge", "less")
    refused(g, "no LoopCond|does not wait for the end")


def test_an_enter_without_an_exit_is_refused_when_it_is_asked_for():
    g = LoopBuilder()
    g.enter("enter", "first")
    refused(g, "no LoopCond", "enter:0")


def test_a_tensor_inside_of_a_loop_is_not_seen_from_outside():
    refused(LoopBuilder().whole(), "only inside of a loop", "sum:0")


def test_frames_that_cross_are_refused():
    g = LoopBuilder().whole()
    g.enter("other", "first", frame="another loop")
    g.graph.node.insert(3, g.graph.node[-1])
    del g.graph.node[-1]
    g.replace("less", "merge", "other")
    refused(g, "different frames.*another loop")


def test_a_value_that_enters_without_an_enter_is_refused():
    g = LoopBuilder().whole()
    g.replace("less", "merge", "limit")
    refused(g, "different frames")


def test_two_loops_of_one_name_are_refused():
    g = LoopBuilder().whole()
    first = [node for node in g.graph.node if node.name not in ("first", "limit", "one")]
    names = {node.name for node in first}
    for node in first:
        copy = g.graph.node.add()
        copy.CopyFrom(node)
        copy.name += "_2"
        for i, source in enumerate(node.input):
            name, colon, index = source.partition(":")
            copy.input[i] = f"{name}_2{colon}{index}" if name in names else source
    refused(g, "two conditions, condition and condition_2.*different frame names")


def test_a_merge_of_two_enters_is_refused():
    g = LoopBuilder().whole()
    g.enter("enter_2", "first")
    g.graph.node.insert(3, g.graph.node[-1])
    del g.graph.node[-1]
    g.replace("merge", "enter", "enter_2")
    refused(g, "takes an Enter and then a NextIteration")


def test_a_merge_of_another_loop_s_end_is_refused():
    g = LoopBuilder().whole()
    g.replace("next", "one")
    refused(g, "is in no loop|different frames")


def test_an_enter_that_is_not_constant_and_has_no_merge_is_refused():
    g = LoopBuilder().whole()
    g.graph.node[4].attr["is_constant"].b = False
    refused(g, "in the first iteration only")


def test_an_exit_that_does_not_wait_for_the_end_is_refused():
    g = LoopBuilder().whole()
    g.replace("exit", "merge")
    refused(g, "does not wait for the end of the loop")


def test_what_takes_the_end_of_an_iteration_without_a_merge_is_refused():
    g = LoopBuilder().whole()
    g.replace("exit", "next")
    refused(g, "NextIteration; only a Merge may")


def test_an_end_of_a_loop_outside_of_loops_is_refused():
    g = GraphBuilder()
    g.constant("one", 1.0)
    g.node("Exit", "exit", "one", **FLOAT)
    refused(g, "is in no loop")


def test_a_condition_that_depends_on_its_outcome_is_refused():
    g = LoopBuilder()
    g.head()
    g.node("Less", "again", "switch:1", "one_in", **FLOAT)
    g.node("LoopCond", "condition_2", "again")
    g.rest()
    refused(g, "two conditions")


def test_a_condition_that_is_no_scalar_is_refused_when_it_is_known(step):
    g = LoopBuilder().whole()
    g.replace("limit")
    g.remove("limit")
    g.constant("limit", [5.0, 6.0])
    g.graph.node.insert(0, g.graph.node[-1])
    del g.graph.node[-1]
    with pytest.raises(InvalidArgumentError, match=r"condition.*shape \[2\]"):
        run(g, step, "exit:0")


def test_loops_that_nest_without_end_are_refused():
    g = LoopBuilder()
    source = "first"
    for depth in range(100):
        source = g.enter(f"enter_{depth}", source, frame=f"frame_{depth}")
    refused(g, "nest more than 64 deep", "first:0")


def test_a_loop_variable_without_a_value_ends_the_step(step):
    g = LoopBuilder()
    g.head()
    g.node("Less", "is_small", "switch:1", "one_in", **FLOAT)
    g.node("Switch", "branch", "switch:1", "is_small", **FLOAT)
    g.add("sum", "branch:1", "one_in")
    g.node("NextIteration", "next", "sum", **FLOAT)
    g.node("Exit", "exit", "switch", **FLOAT)
    with pytest.raises(InvalidArgumentError, match="a loop variable has no value"):
        run(g, step, "exit:0")


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_loop_is_refused_or_runs_and_never_hangs(seed):
    graph = damaged_loop(seed)
    errors = []
    try:
        Program(graph.node, returned=["exit:0"]).run(ImpatientStep(500), [], {})
    except OpError as error:
        errors.append(error)
    assert not any(isinstance(error, InternalError) for error in errors)


# Stacks.


def stack(step, *ops, elem_type=dtypes.float32, max_size=-1):
    """Runs pushes of numbers and pops, one after another; answers what was popped."""
    g = GraphBuilder()
    g.constant("size", np.array(max_size, np.int32))
    last = g.node("StackV2", "stack", "size", elem_type=elem_type)
    popped = []
    for i, op in enumerate(ops):
        if op is None:
            g.node("StackPopV2", f"op{i}", "stack", f"^{last}", elem_type=elem_type)
            popped.append(f"op{i}:0")
        elif op == "close":
            g.node("StackCloseV2", f"op{i}", "stack", f"^{last}")
        else:
            g.constant(f"value{i}", op)
            g.node("StackPushV2", f"op{i}", "stack", f"value{i}", f"^{last}", **FLOAT)
        last = f"op{i}"
    return run(g, step, *popped)


def test_what_was_pushed_last_is_popped_first(step):
    assert stack(step, 1.0, 2.0, None, 3.0, None, None) == [2, 3, 1]


def test_popping_more_than_was_pushed_is_refused(step):
    with pytest.raises(InvalidArgumentError, match=r"Stack\[stack\] is empty when calling Pop"):
        stack(step, 1.0, None, None)


def test_a_stack_holds_no_more_than_its_size(step):
    with pytest.raises(InvalidArgumentError, match=r"overflowed its max_size \(2\)"):
        stack(step, 1.0, 2.0, 3.0, max_size=2)


def test_a_closed_stack_is_refused(step):
    with pytest.raises(InvalidArgumentError, match="has already been closed"):
        stack(step, 1.0, "close", None)


def test_an_element_of_another_type_is_refused(step):
    with pytest.raises(InvalidArgumentError, match="holds float32, elem_type says int32"):
        stack(step, 1.0, None, elem_type=dtypes.int32)


def test_the_stacks_of_a_step_together_have_a_limit(step, monkeypatch):
    monkeypatch.setattr(limits, "_max_tensor_bytes", 1000)
    with pytest.raises(ResourceExhaustedError, match=r"stacks of this step to 1.*limit is 1000"):
        stack(step, *[1.0] * 20)
    assert stack(StepContext(step.store, RandomStreams()), *[1.0, None] * 20) == [1] * 20


def test_an_element_does_not_keep_what_it_is_a_small_part_of():
    from paramserve_core.kernels.stacks import Stack, StackBudget

    budget = StackBudget()
    held = Stack("stack", -1, budget)
    held.push(np.zeros([1000])[:1])
    assert held.pop().base is None


def test_a_handle_cannot_leave_its_task(step):
    g = GraphBuilder()
    g.constant("size", np.array(-1, np.int32))
    g.node("StackV2", "stack", "size", elem_type=dtypes.float32)
    with pytest.raises(InvalidArgumentError, match="stack:0 is a handle on a stack"):
        run(g, step, "stack:0")


def test_what_is_no_handle_is_refused(step):
    g = GraphBuilder()
    g.node("StackPopV2", "pop", "fed", elem_type=dtypes.float32)
    program = Program(g.graph.node, received=["fed:0"], returned=["pop:0"])
    with pytest.raises(InvalidArgumentError, match="none of a stack"):
        program.run(step, [np.array([b"x"], object)], {})
