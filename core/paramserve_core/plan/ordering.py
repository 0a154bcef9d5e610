"""Prune and order: the nodes that a step needs, each after those that it needs.

The order is that of creation as far as dependencies allow, so that what no dependency orders still
happens in an order that a reader of the program expects, and always in the same one.

A loop is one thing here: its nodes stand together, after everything that any of them needs from
outside and before everything that needs what leaves it. Only within it are there edges back, from
one iteration to the next, and they order nothing.

Thread rule: pure functions of a graph that is not being extended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paramserve_core import frames
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.graphdef import decode_attrs
from paramserve_core.plan.graph import GraphNode, StepGraph

_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})


@dataclass(frozen=True, slots=True)
class StepOrder:
    """The nodes of a step in order.

    Attributes:
        nodes: each after those that it needs, those of a loop side by side.
        loops: the name of each node inside a loop to its outermost loop.
    """

    nodes: Sequence[GraphNode]
    loops: Mapping[str, frames.Frame]


def is_fed(name: str, fed: set[str]) -> bool:
    """Whether a node's first output is fed, which also stands for the node's having run."""
    return bool(fed) and f"{name}:0" in fed


def prune(graph: StepGraph, wanted: Sequence[str], fed: set[str]) -> dict[str, GraphNode]:
    """The nodes that the nodes `wanted` need, no further than a fed tensor.

    Raises:
        InvalidArgumentError: a placeholder is needed and not fed.
        NotFoundError: a name that is not in the graph.
    """
    needed: dict[str, GraphNode] = {}
    waiting = list(wanted)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        node = graph.node(name)
        if node.message.op in _PLACEHOLDERS:
            if is_fed(name, fed):
                continue
            attrs = decode_attrs(node.message, node.definition)
            raise InvalidArgumentError(
                node.message,
                None,
                f"You must feed a value for placeholder tensor '{name}' with dtype "
                f"{attrs['dtype'].name} and shape {attrs['shape']}: pass it to run() in feed_dict",
            )
        needed[name] = node
        waiting += dependencies(node, fed)
    return needed


def dependencies(node: GraphNode, fed: set[str]) -> set[str]:
    """The names of the nodes that a node needs, those at the other end of a back edge too."""
    names = {t.node for t in node.inputs if not fed or str(t) not in fed}
    names.update(c for c in node.controls if not is_fed(c, fed))
    return names


def in_order(needed: Mapping[str, GraphNode], fed: set[str]) -> StepOrder:
    """Orders the nodes of a step.

    Raises:
        InvalidArgumentError: the graph has a cycle that is no loop, or a malformed loop.
    """
    before = {name: _without_back_edges(node, needed, fed) for name, node in needed.items()}
    priority = {name: node.index for name, node in needed.items()}
    try:
        order = frames.in_order(before, priority)
        if not any(node.message.op in frames.LOOP_OPS for node in needed.values()):
            return StepOrder([needed[name] for name in order], {})
        inside = _inside([needed[name] for name in order], before, fed)
        order = frames.in_loop_order(order, before, priority, inside)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            needed[error.node_name].message if error.node_name else None, None, error.message
        ) from None
    loops = {name: frame.outermost for name, frame in inside.items()}
    return StepOrder([needed[name] for name in order], loops)


def _without_back_edges(
    node: GraphNode, needed: Mapping[str, GraphNode], fed: set[str]
) -> set[str]:
    names = dependencies(node, fed)
    if node.message.op in frames.MERGE_OPS:
        names = {n for n in names if not frames.is_back_edge(needed[n].message.op, node.message.op)}
    return names


def _inside(
    nodes: Sequence[GraphNode], before: Mapping[str, set[str]], fed: set[str]
) -> dict[str, frames.Frame]:
    """The innermost loop of each node that is in one."""
    found = frames.Frames()
    inside: dict[str, frames.Frame] = {}
    for node in nodes:
        op = node.message.op
        name = ""
        if op in frames.ENTER_OPS:
            name = decode_attrs(node.message, node.definition)[frames.FRAME_NAME]
        # Sorted, so that a message names the same node every time.
        frame = found.add(node.name, op, sorted(before[node.name]), name)
        if frame is not None:
            inside[node.name] = frame
    for node in nodes:
        for source in dependencies(node, fed) - before[node.name]:
            found.check_back_edge(source, node.name)
    return inside
