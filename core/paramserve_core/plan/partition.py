"""A plan's parts as graphs, one for each task: what `output_partition_graphs` answers.

The stages of a task are put together again, and what reaches it from outside, fed or computed on
another task, is a placeholder beside the op that it stands for. So each graph is whole: it opens in
TensorBoard and imports like any other. What only orders ops across tasks is not in it.

Thread rule: pure functions of a graph that is not being extended.
"""

from __future__ import annotations

from collections.abc import Mapping

from paramserve_core.graphdef import (
    COLOCATION_ATTR,
    COLOCATION_PREFIX,
    colocation_groups,
    split_input,
)
from paramserve_core.plan.graph import GraphNode, StepGraph
from paramserve_core.plan.planner import Plan, PlannedStage
from paramserve_protos.v1 import graph_pb2, node_def_pb2


def partition_graphs(graph: StepGraph, plan: Plan) -> list[graph_pb2.GraphDef]:
    """One graph per task of the plan, in the order in which the tasks are first used.

    Args:
        graph: the graph that the plan was made of.
        plan: the plan.
    """
    stages: dict[str, list[PlannedStage]] = {}
    for stage in plan.stages:
        stages.setdefault(stage.task, []).append(stage)
    computed = {node.name: node for stage in plan.stages for node in stage.nodes}
    return [_partition(graph, computed, task, found) for task, found in stages.items()]


def _partition(
    graph: StepGraph,
    computed: Mapping[str, node_def_pb2.NodeDef],
    task: str,
    stages: list[PlannedStage],
) -> graph_pb2.GraphDef:
    nodes = {node.name: node for stage in stages for node in stage.nodes}
    part = graph_pb2.GraphDef()
    received: dict[str, str] = {}
    for tensor in dict.fromkeys(tensor for stage in stages for tensor in stage.received):
        placeholder = part.node.add(op="Placeholder", device=task)
        source = split_input(tensor)
        placeholder.name = f"{source.node}/received_{source.index}"
        while placeholder.name in nodes:
            placeholder.name += "_"
        # A node of the plan need not be one of the graph, see `plan.rereading`.
        made = computed.get(source.node)
        producer = graph.node(source.node) if made is None else GraphNode(0, made)
        dtype = producer.outputs[source.index or 0]
        placeholder.attr["dtype"].type = dtype.base_dtype.as_datatype_enum
        received[tensor] = placeholder.name
    for node in nodes.values():
        part.node.append(_within(node, task, nodes, received))
    return part


def _within(
    node: node_def_pb2.NodeDef,
    task: str,
    nodes: Mapping[str, node_def_pb2.NodeDef],
    received: Mapping[str, str],
) -> node_def_pb2.NodeDef:
    """A copy of a node that refers to its task's nodes only."""
    copy = node_def_pb2.NodeDef()
    copy.CopyFrom(node)
    copy.device = task
    del copy.input[:]
    for text in node.input:
        tensor = split_input(text)
        if tensor.index is None:
            copy.input.extend([text] if tensor.node in nodes else [])
        else:
            copy.input.append(received.get(str(tensor), text))
    groups = [name for name in colocation_groups(node.attr) if name in nodes]
    copy.attr.pop(COLOCATION_ATTR, None)
    if groups:
        copy.attr[COLOCATION_ATTR].list.s.extend(f"{COLOCATION_PREFIX}{g}".encode() for g in groups)
    return copy
