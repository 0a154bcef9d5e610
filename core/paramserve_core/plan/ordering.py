"""Prune and order: the nodes that a step needs, each after those that it needs.

The order is that of creation as far as dependencies allow, so that what no dependency orders still
happens in an order that a reader of the program expects, and always in the same one.

A loop is one thing here: its nodes stand together, after everything that any of them needs from
outside and before everything that needs what leaves it. Only within it are there edges back, from
one iteration to the next, and they order nothing.

Thread rule: pure functions of a graph that is not being extended.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.frames import FRAME_NAME, LOOP_OPS, MERGE_OPS, Frame, Frames, is_back_edge
from paramserve_core.graphdef import decode_attrs
from paramserve_core.plan.graph import GraphNode, StepGraph

_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})

Unit = TypeVar("Unit", bound=Hashable)


@dataclass(frozen=True, slots=True)
class StepOrder:
    """The nodes of a step in order.

    Attributes:
        nodes: each after those that it needs, those of a loop side by side.
        loops: the name of each node inside a loop to its outermost loop.
    """

    nodes: Sequence[GraphNode]
    loops: Mapping[str, Frame]


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
    index_of = {name: node.index for name, node in needed.items()}
    nodes = [needed[name] for name in _sorted(before, index_of, lambda name: needed[name])]
    if not any(node.message.op in LOOP_OPS for node in nodes):
        return StepOrder(nodes, {})
    frames = _frames(nodes, before, fed)
    loops = {name: frame.outermost for name, frame in frames.items()}
    return StepOrder(_collected(nodes, frames, before, 0), loops)


def _collected(
    nodes: Sequence[GraphNode],
    frames: Mapping[str, Frame],
    before: Mapping[str, set[str]],
    depth: int,
) -> Sequence[GraphNode]:
    """The nodes of one frame of that depth, those of each loop in it side by side, and so on."""
    unit_of: dict[str, Frame | str] = {}
    members: dict[Frame | str, list[GraphNode]] = {}
    for node in nodes:
        frame = frames.get(node.name)
        is_inner = frame is not None and frame.depth > depth
        unit = frame.at_depth(depth + 1) if frame is not None and is_inner else node.name
        unit_of[node.name] = unit
        members.setdefault(unit, []).append(node)
    if len(members) == len(nodes):
        return nodes
    before_unit: dict[Frame | str, set[Frame | str]] = {}
    for unit, group in members.items():
        sources = {unit_of[s] for node in group for s in before[node.name] if s in unit_of}
        before_unit[unit] = sources - {unit}
    first = {unit: min(node.index for node in group) for unit, group in members.items()}
    units = _sorted(before_unit, first, lambda unit: members[unit][0])
    return [
        node
        for unit in units
        for node in (
            members[unit]
            if isinstance(unit, str)
            else _collected(members[unit], frames, before, depth + 1)
        )
    ]


def _without_back_edges(
    node: GraphNode, needed: Mapping[str, GraphNode], fed: set[str]
) -> set[str]:
    names = dependencies(node, fed)
    if node.message.op in MERGE_OPS:
        names = {n for n in names if not is_back_edge(needed[n].message.op, node.message.op)}
    return names


def _frames(
    nodes: Sequence[GraphNode], before: Mapping[str, set[str]], fed: set[str]
) -> dict[str, Frame]:
    frames = Frames()
    inside: dict[str, Frame] = {}
    for node in nodes:
        attrs = decode_attrs(node.message, node.definition)
        # In the order of the graph, so that a message names the same node every time.
        sources = sorted(before[node.name])
        try:
            frame = frames.add(node.name, node.message.op, sources, attrs.get(FRAME_NAME, ""))
        except OpError as error:
            raise InvalidArgumentError(node.message, None, error.message) from None
        if frame is not None:
            inside[node.name] = frame
    for node in nodes:
        for source in dependencies(node, fed) - before[node.name]:
            try:
                frames.check_back_edge(source, node.name)
            except OpError as error:
                raise InvalidArgumentError(node.message, None, error.message) from None
    return inside


def _sorted(
    before: Mapping[Unit, set[Unit]],
    priority: Mapping[Unit, int],
    node_of: Callable[[Unit], GraphNode],
) -> list[Unit]:
    """By priority, each after those before it (Kahn's algorithm with a heap)."""
    missing: dict[Unit, int] = {}
    users: dict[Unit, list[Unit]] = {}
    ready: list[tuple[int, Unit]] = []
    for unit, sources in before.items():
        missing[unit] = len(sources)
        for source in sources:
            users.setdefault(source, []).append(unit)
        if not sources:
            ready.append((priority[unit], unit))
    heapq.heapify(ready)
    order: list[Unit] = []
    while ready:
        _, unit = heapq.heappop(ready)
        order.append(unit)
        for user in users.get(unit, ()):
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (priority[user], user))
    if len(order) != len(before):
        stuck = min((node_of(u) for u, count in missing.items() if count), key=lambda n: n.index)
        raise InvalidArgumentError(
            stuck.message, None, f"the graph has a cycle through or before {stuck.name!r}"
        )
    return order
