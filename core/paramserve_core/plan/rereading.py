"""Reads that come after an update: who waits for an update of a variable sees the new value.

A graph reads a variable in one place, an identity that takes its reference, and whatever computes
with the variable takes the output of that. Within a step it is read once, so that everything that
computes with it computes with the same value, however other sessions update it meanwhile. But an op
that was made to wait for an update, by a control dependency, is meant to see what the update did:

    with ps.control_dependencies([v.assign_add(1.0)]):
        after = v + 10.0

In TensorFlow it does, because an identity of a reference copies nothing. Here such an op gets a
read of its own, which waits as it does; ops that wait for the same share one.

Thread rule: pure functions of a graph that is not being extended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from paramserve_core.graphdef import split_input
from paramserve_core.plan.graph import GraphNode, StepGraph, output_dtype
from paramserve_core.plan.ordering import is_fed
from paramserve_core.plan.placement import VARIABLE_OPS
from paramserve_protos.v1 import node_def_pb2

_READING_OPS: Final = frozenset({"Identity"})


def read_after_updates(
    graph: StepGraph, needed: Mapping[str, GraphNode], fed: set[str]
) -> dict[str, GraphNode]:
    """The nodes of a step, with a read of its own for each op that waits for an update.

    Args:
        graph: the graph; the names of new reads are none of its nodes'.
        needed: the nodes that the step needs, by name.
        fed: names of the fed tensors; what is fed is not read.

    Returns:
        The nodes by name: reads were added, and ops replaced by those that take them.
    """
    changed = dict(needed)
    if not any(node.controls for node in needed.values()):
        return changed
    updates = _Updates(needed, fed)
    for node in needed.values():
        for position, tensor in enumerate(node.inputs):
            read = needed.get(tensor.node)
            if read is None or not _is_read(read, needed) or str(tensor) in fed:
                continue
            waits_for = updates.awaited_by(node, updates.variable(read.inputs[0].node))
            if waits_for:
                again = _read_again(graph, changed, read, waits_for)
                changed[node.name] = _with_input(changed[node.name], position, again)
    return changed


def _is_read(node: GraphNode, needed: Mapping[str, GraphNode]) -> bool:
    if node.message.op not in _READING_OPS or node.controls:
        return False
    source = node.inputs[0]
    return source.node in needed and output_dtype(needed[source.node], source).is_ref


def _read_again(
    graph: StepGraph, nodes: dict[str, GraphNode], read: GraphNode, waits_for: Iterable[str]
) -> str:
    """The name of the read that waits, which is added to `nodes` unless it is there."""
    wanted = node_def_pb2.NodeDef()
    wanted.CopyFrom(read.message)
    wanted.input.extend(f"^{name}" for name in sorted(waits_for))
    number = 1
    while True:
        wanted.name = f"{read.name}/again_{number}"
        if wanted.name not in graph:
            found = nodes.get(wanted.name)
            if found is None:
                nodes[wanted.name] = GraphNode(read.index, wanted)
            if found is None or found.message == wanted:
                return wanted.name
        number += 1


def _with_input(node: GraphNode, position: int, source: str) -> GraphNode:
    message = node_def_pb2.NodeDef()
    message.CopyFrom(node.message)
    numbers = [i for i, text in enumerate(message.input) if split_input(text).index is not None]
    message.input[numbers[position]] = source
    return GraphNode(node.index, message)


class _Updates:
    """Which variables are updated by the time that a node has run.

    A set of variables is an integer, with a bit for each. Nodes with equal sets share one integer,
    which is why one is made only where it differs.
    """

    def __init__(self, needed: Mapping[str, GraphNode], fed: set[str]) -> None:
        self._needed = needed
        self._fed = fed
        self._bits: dict[str, int] = {}
        # By node: what it or anything before it updates; and what it was made to wait for.
        self._reached: dict[str, int] = {}
        self._awaited: dict[str, int] = {}

    def variable(self, name: str) -> str:
        """The variable of which the node of that name gives a reference."""
        while (node := self._needed.get(name)) is not None and node.message.op not in VARIABLE_OPS:
            references = [
                tensor.node
                for tensor, dtype in zip(node.inputs, node.input_dtypes, strict=True)
                if dtype.is_ref
            ]
            if not references:
                break
            name = references[0]
        return name

    def awaited_by(self, node: GraphNode, variable: str) -> set[str]:
        """The nodes just before `node` by way of which it waits for updates of the variable.

        What it takes as a value counts only if that waits, somewhere on the way, by a control
        dependency: the value of an update says by itself that it is the new one.
        """
        data, controls = self._before(node)
        for name in (*data, *controls):
            self._visit(name)
        bit = self._bits.get(variable, 0)
        found = {name for name in data if self._awaited[name] & bit}
        return found | {name for name in controls if self._reached[name] & bit}

    def _before(self, node: GraphNode) -> tuple[list[str], list[str]]:
        fed = self._fed
        data = [tensor.node for tensor in node.inputs if not fed or str(tensor) not in fed]
        return data, [name for name in node.controls if not is_fed(name, fed)]

    def _visit(self, name: str) -> None:
        """Looks at what comes before a node; an edge back in a loop adds nothing."""
        waiting = [name]
        entered: set[str] = set()
        while waiting:
            current = waiting[-1]
            node = self._needed.get(current)
            if current in self._reached or node is None:
                self._reached.setdefault(current, 0)
                self._awaited.setdefault(current, 0)
                waiting.pop()
                continue
            data, controls = self._before(node)
            if current not in entered:
                entered.add(current)
                waiting += [
                    n for n in (*data, *controls) if n not in self._reached and n not in entered
                ]
                continue
            reached, awaited = self._updated_by(node), 0
            for other in data:
                reached = _union(reached, self._reached.get(other, 0))
                awaited = _union(awaited, self._awaited.get(other, 0))
            for other in controls:
                reached = _union(reached, self._reached.get(other, 0))
                awaited = _union(awaited, self._reached.get(other, 0))
            self._reached[current], self._awaited[current] = reached, awaited
            waiting.pop()

    def _updated_by(self, node: GraphNode) -> int:
        if not node.definition.has_effect:
            return 0
        found = 0
        for tensor, dtype in zip(node.inputs, node.input_dtypes, strict=True):
            if dtype.is_ref:
                variable = self.variable(tensor.node)
                found |= self._bits.setdefault(variable, 1 << len(self._bits))
        return found


def _union(one: int, other: int) -> int:
    """Both sets together; one of the two where it has all of the other."""
    if other & ~one == 0:
        return one
    return other if one & ~other == 0 else one | other
