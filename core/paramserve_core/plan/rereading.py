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

from collections.abc import Mapping
from typing import Final

from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.frames import is_back_edge
from paramserve_core.graphdef import split_input
from paramserve_core.plan.graph import GraphNode, StepGraph, output_dtype
from paramserve_core.plan.ordering import is_fed
from paramserve_core.plan.placement import VARIABLE_OPS
from paramserve_protos.v1 import node_def_pb2

_READING_OPS: Final = frozenset({"Identity"})

_MAX_COST: Final = 1 << 25
"""In words of the sets that `_Updates` keeps: 256 MiB."""
_EDGE_COST: Final = 32
"""What a control dependency of a new read costs, in the same unit."""


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

    Raises:
        ResourceExhaustedError: so many ops take so many variables after so many updates that the
            graph would grow out of proportion.
    """
    changed = dict(needed)
    if not any(node.controls for node in needed.values()):
        return changed
    updates = _Updates(needed, fed)
    again = _ReadsAgain(graph, changed)
    for node in needed.values():
        replaced: dict[int, str] = {}
        before: dict[int, set[str]] | None = None
        for position, tensor in enumerate(node.inputs):
            read = needed.get(tensor.node)
            if read is None or not _is_read(read, needed) or str(tensor) in fed:
                continue
            if before is None:
                before = updates.before(node)
            variable = updates.variable(read.inputs[0].node)
            waits_for = updates.awaited(node, before, variable)
            if waits_for:
                replaced[position] = again.read(read, waits_for)
        if replaced:
            changed[node.name] = _with_inputs(node, replaced)
    return changed


def _is_read(node: GraphNode, needed: Mapping[str, GraphNode]) -> bool:
    if node.message.op not in _READING_OPS or node.controls:
        return False
    source = node.inputs[0]
    return source.node in needed and output_dtype(needed[source.node], source).is_ref


class _ReadsAgain:
    """The reads that wait, which are added to the nodes of the step."""

    def __init__(self, graph: StepGraph, nodes: dict[str, GraphNode]) -> None:
        self._graph = graph
        self._nodes = nodes
        self._names: dict[tuple[str, frozenset[str]], str] = {}
        self._numbers: dict[str, int] = {}

    def read(self, read: GraphNode, waits_for: frozenset[str]) -> str:
        """The name of the read that waits for those nodes."""
        name = self._names.get((read.name, waits_for))
        if name is None:
            name = self._names[read.name, waits_for] = self._new_name(read.name)
            message = node_def_pb2.NodeDef()
            message.CopyFrom(read.message)
            message.name = name
            message.input.extend(f"^{other}" for other in sorted(waits_for))
            self._nodes[name] = GraphNode(read.index, message)
        return name

    def _new_name(self, read: str) -> str:
        while True:
            number = self._numbers[read] = self._numbers.get(read, 0) + 1
            name = f"{read}/again_{number}"
            if name not in self._graph:
                return name


def _with_inputs(node: GraphNode, replaced: Mapping[int, str]) -> GraphNode:
    """The node with other inputs at some positions, control dependencies not counted."""
    message = node_def_pb2.NodeDef()
    message.CopyFrom(node.message)
    numbers = [i for i, text in enumerate(message.input) if split_input(text).index is not None]
    for position, source in replaced.items():
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
        self._variables: dict[str, str] = {}
        self._cost = 0
        # By node: what it or anything before it updates; and what it was made to wait for.
        self._reached: dict[str, int] = {}
        self._awaited: dict[str, int] = {}

    def variable(self, name: str) -> str:
        """The variable of which the node of that name gives a reference."""
        passed: list[str] = []
        while name not in self._variables:
            self._variables[name] = name  # Stays where a malformed graph leads back to it.
            passed.append(name)
            name = self._referred(name)
        found = self._variables[name]
        for other in passed:
            self._variables[other] = found
        return found

    def _referred(self, name: str) -> str:
        """The node that a node has its reference from, or itself."""
        node = self._needed.get(name)
        if node is None or node.message.op in VARIABLE_OPS:
            return name
        for tensor, dtype in zip(node.inputs, node.input_dtypes, strict=True):
            source = self._needed.get(tensor.node)
            if dtype.is_ref and not (
                source is not None and is_back_edge(source.message.op, node.message.op)
            ):
                return tensor.node
        return name

    def before(self, node: GraphNode) -> dict[int, set[str]]:
        """Sets of variables to the nodes just before `node` by way of which it waits for updates.

        What it takes as a value counts only if that waits, somewhere on the way, by a control
        dependency: the value of an update says by itself that it is the new one.
        """
        data, controls = self._before(node)
        for name in (*data, *controls):
            self._visit(name, node)
        found: dict[int, set[str]] = {}
        for name in data:
            found.setdefault(self._awaited[name], set()).add(name)
        for name in controls:
            found.setdefault(self._reached[name], set()).add(name)
        found.pop(0, None)
        return found

    def awaited(
        self, node: GraphNode, before: Mapping[int, set[str]], variable: str
    ) -> frozenset[str]:
        """Those of what is `before` a node by way of which it waits for updates of a variable."""
        bit = self._bits.get(variable, 0)
        found: set[str] = set()
        for variables, names in before.items():
            if variables & bit:
                found |= names
        self._spend(len(before) + _EDGE_COST * len(found), node)
        return frozenset(found)

    def _spend(self, cost: int, node: GraphNode) -> None:
        self._cost += cost
        if self._cost > _MAX_COST:
            raise ResourceExhaustedError(
                node.message,
                None,
                f"{node.name} waits for more updates of variables than a step may keep track of: "
                f"{len(node.controls)} control dependencies here, and so on before it; wait for "
                "one group() of the updates, or take more than one step",
            )

    def _before(self, node: GraphNode) -> tuple[list[str], list[str]]:
        fed = self._fed
        data = [tensor.node for tensor in node.inputs if not fed or str(tensor) not in fed]
        return data, [name for name in node.controls if not is_fed(name, fed)]

    def _visit(self, name: str, user: GraphNode) -> None:
        """Looks at what comes before `user`; an edge back in a loop adds nothing."""
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
                reached = self._union(reached, self._reached.get(other, 0))
                awaited = self._union(awaited, self._awaited.get(other, 0))
            for other in controls:
                reached = self._union(reached, self._reached.get(other, 0))
                awaited = self._union(awaited, self._reached.get(other, 0))
            self._reached[current], self._awaited[current] = reached, awaited
            self._spend(0, user)
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

    def _union(self, one: int, other: int) -> int:
        """Both sets together; one of the two where it has all of the other."""
        if other & ~one == 0:
            return one
        if one & ~other == 0:
            return other
        both = one | other
        self._cost += both.bit_length() >> 6
        return both
