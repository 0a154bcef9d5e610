"""A loop in a plan: one thing, on one task, in one stage."""

import numpy as np
import pytest

from loop_graphs import FLOAT, LoopBuilder, damaged_loop
from paramserve_core import dtypes
from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import make_plan

WORKER = "/job:worker/replica:0/task:0"
PS0 = "/job:ps/replica:0/task:0"
PS1 = "/job:ps/replica:0/task:1"

LOOP = [
    "enter",
    "limit_in",
    "one_in",
    "merge",
    "less",
    "condition",
    "switch",
    "sum",
    "next",
    "exit",
]


def plan_of(graph, fetches=(), feeds=(), targets=()):
    steps = StepGraph()
    steps.extend(graph)
    return make_plan(steps, Placer([PS0, PS1, WORKER], WORKER), fetches, feeds, targets)


def names(stage):
    return [node.name for node in stage.nodes]


def test_the_nodes_of_a_loop_stand_side_by_side_whatever_order_they_come_in():
    g = LoopBuilder().whole()
    g.placeholder("x")
    g.add("last", "exit", "x")
    g.replace("one_in", "x")  # which was created after the loop
    nodes = list(g.graph.node)
    for order in (nodes, nodes[::-1]):
        del g.graph.node[:]
        g.graph.node.extend(order)
        (stage,) = plan_of(g.graph, ["last:0"], ["x:0"]).stages
        found = [name for name in names(stage) if name in LOOP]
        assert sorted(found) == sorted(LOOP)
        start = names(stage).index(found[0])
        assert names(stage)[start : start + len(found)] == found
        assert names(stage)[-1] == "last"


def test_a_loop_is_one_stage_although_it_takes_values_of_several():
    g = LoopBuilder()
    g.variable("a", device="/job:ps/task:0")
    g.variable("b", device="/job:ps/task:1")
    g.identity("a/read", "a", device="/job:ps/task:0")
    g.identity("b/read", "b", device="/job:ps/task:1")
    g.add("late", "a/read", "b/read")  # on the worker
    with_ps = g.add("later", "late", "a/read", device="/job:ps/task:0")
    g.whole()
    g.replace("enter", "b/read")
    g.replace("limit_in", with_ps)
    plan = plan_of(g.graph, ["exit:0"])
    (stage,) = [stage for stage in plan.stages if set(LOOP) & set(names(stage))]
    assert set(LOOP) <= set(names(stage))
    assert stage.task == WORKER
    assert plan.stages[-1] is stage


def test_a_loop_goes_where_the_variable_is_that_it_updates():
    g = LoopBuilder()
    g.variable("w", device="/job:ps/task:1")
    g.head()
    g.node("RefEnter", "w_in", "w", frame_name="loop", is_constant=True, **FLOAT)
    g.assign("update", "w_in", "switch:1", op="AssignAdd")
    g.rest()
    g.replace("next", "sum", "^update")
    (stage,) = plan_of(g.graph, ["exit:0"]).stages
    assert stage.task == PS1
    assert stage.changes_variables


def test_what_takes_a_loop_s_result_may_be_elsewhere():
    g = LoopBuilder().whole()
    g.variable("w", device="/job:ps/task:1")
    g.assign("store", "w", "exit")
    plan = plan_of(g.graph, targets=["store"])
    assert [stage.task for stage in plan.stages] == [WORKER, PS1]


def test_a_stack_is_where_the_loop_is_that_pushes_onto_it():
    g = LoopBuilder()
    g.constant("size", np.array(-1, np.int32))
    g.node("StackV2", "stack", "size", elem_type=dtypes.float32, device="/job:ps/task:1")
    g.head()
    resource = {"T": dtypes.resource, "frame_name": "loop", "is_constant": True}
    g.node("Enter", "stack_in", "stack", **resource)
    g.rest()
    g.node("StackPushV2", "push", "stack_in", "sum", **FLOAT)
    g.replace("next", "sum", "^push")
    (stage,) = plan_of(g.graph, ["exit:0"]).stages
    assert stage.task == PS1


def test_a_loop_that_needs_its_own_result_is_refused():
    g = LoopBuilder().whole()
    g.add("more", "exit", "one")
    g.replace("one_in", "more")
    with pytest.raises(InvalidArgumentError, match="what leaves the loop 'loop' is needed inside"):
        plan_of(g.graph, ["exit:0"])


def test_a_cycle_that_is_no_loop_is_refused_and_names_a_node():
    g = LoopBuilder().whole()
    g.replace("less", "less_2", "limit_in")
    g.add("less_2", "sum", "sum")
    with pytest.raises(InvalidArgumentError, match="cycle through or before") as caught:
        plan_of(g.graph, ["exit:0"])
    assert caught.value.node_name


def test_a_tensor_of_a_loop_that_is_fed_is_refused():
    with pytest.raises(InvalidArgumentError, match=r"next \(NextIteration\) is in no loop"):
        plan_of(LoopBuilder().whole().graph, ["exit:0"], ["sum:0"])


@pytest.mark.parametrize("seed", range(200))
def test_a_damaged_loop_is_refused_or_planned(seed):
    graph = damaged_loop(seed)
    try:
        plan = plan_of(graph, ["exit:0"])
    except OpError:
        return
    for stage in plan.stages:
        placed = [name for name in names(stage) if name in LOOP]
        assert len(placed) == len(set(placed))
