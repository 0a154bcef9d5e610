"""The graph of each task of a plan: whole, and with nothing of the other tasks."""

import numpy as np

from graph_builder import GraphBuilder
from paramserve_core import dtypes
from paramserve_core.plan.graph import StepGraph
from paramserve_core.plan.partition import partition_graphs
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import make_plan

WORKER = "/job:worker/replica:0/task:0"
PS0 = "/job:ps/replica:0/task:0"
PS1 = "/job:ps/replica:0/task:1"


def partitions(builder, fetches=(), feeds=(), targets=()):
    graph = StepGraph()
    graph.extend(builder.graph)
    plan = make_plan(graph, Placer((PS0, PS1, WORKER), WORKER), fetches, feeds, targets)
    return partition_graphs(graph, plan)


def training_step() -> GraphBuilder:
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:0")
    g.variable("b", device="/job:ps/task:1")
    g.placeholder("x")
    g.identity("w/read", "w", colocate_with=["w"])
    g.identity("b/read", "b", colocate_with=["b"])
    g.add("sum", "w/read", "b/read")
    g.add("loss", "sum", "x", colocate_with=["sum", "x"])
    g.assign("w/update", "w", "loss", op="AssignSub")
    g.identity("b/next", "b", "^w/update", "^b/read", device="/job:ps/task:1")
    return g


def inputs(part):
    return {node.name: list(node.input) for node in part.node}


def test_a_task_has_its_nodes_once_and_a_placeholder_for_each_tensor_from_outside():
    ps0, ps1, worker = partitions(training_step(), ["loss:0"], ["x:0"], ["w/update", "b/next"])
    assert inputs(ps0) == {
        "loss/received_0": [],
        "w": [],
        "w/read": ["w"],
        "w/update": ["w", "loss/received_0"],
    }
    assert inputs(ps1) == {"b": [], "b/read": ["b"], "b/next": ["b", "^b/read"]}
    assert inputs(worker) == {
        "w/read/received_0": [],
        "b/read/received_0": [],
        "x/received_0": [],
        "sum": ["w/read/received_0", "b/read/received_0"],
        "loss": ["sum", "x/received_0"],
    }


def test_every_node_names_its_task_and_is_placed_with_nodes_that_are_there():
    parts = partitions(training_step(), ["loss:0"], ["x:0"], ["w/update"])
    for part, task in zip(parts, [PS0, PS1, WORKER], strict=True):
        assert {node.device for node in part.node} == {task}
    (loss,) = [node for node in parts[2].node if node.name == "loss"]
    assert list(loss.attr["_class"].list.s) == [b"loc:@sum"]


def test_the_graph_of_each_task_can_be_extended_into_an_empty_session():
    for part in partitions(training_step(), ["loss:0"], ["x:0"], ["w/update"]):
        StepGraph().extend(part)


def test_a_placeholder_has_the_type_of_the_value_and_a_name_of_its_own():
    g = GraphBuilder()
    g.variable("w", device="/job:ps/task:0")
    g.constant("w/received_0", 1.0)
    g.add("sum", "w", "w/received_0")
    worker = partitions(g, ["sum:0"])[-1]
    assert inputs(worker)["sum"] == ["w/received_0_", "w/received_0"]
    (placeholder,) = [node for node in worker.node if node.name == "w/received_0_"]
    assert placeholder.op == "Placeholder"
    assert placeholder.attr["dtype"].type == dtypes.float32.as_datatype_enum


def test_constants_are_in_the_graph_of_every_task_that_uses_them():
    g = GraphBuilder()
    g.constant("c", np.float32(2.0))
    g.identity("a", "c", device="/job:ps/task:0")
    g.identity("b", "c", device="/job:ps/task:1")
    for part in partitions(g, [], [], ["a", "b"]):
        assert "c" in inputs(part)
