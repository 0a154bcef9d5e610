"""Which task runs which node.

Nodes that must be together form a *group*: an op that takes a reference or a handle and what made
that, an op and what it asks to be colocated with, all of a loop, and everything between the
switches and merges of a conditional (a branch that is not taken is known to the task that skips it
and to no other). A group goes where its variable's device says, else where any member's device
says, else to the default task.

A device may be partial: "/job:ps" is the first task of that job, "" is the default task. The only
device type is CPU; another one is refused, or passed over with soft placement.

Thread rule: pure functions of a graph that is not being extended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from paramserve_core.devices import DeviceSpec
from paramserve_core.dtypes import resource
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.frames import MERGE_OPS, SWITCH_OPS, Frame
from paramserve_core.plan.graph import GraphNode, StepGraph

VARIABLE_OPS = frozenset({"VariableV2", "Variable"})


class Placer:
    """Places nodes on the tasks of one session.

    Args:
        tasks: names of the tasks, such as "/job:ps/replica:0/task:0".
        default: the task of nodes that say nothing.
        soft: run a node on the default task when no task matches the device it names.
        cpus: how many CPU devices each task answers to. They are one: a program that spreads over
            several, as tests of placement do, runs as it is.
    """

    def __init__(
        self, tasks: Sequence[str], default: str, *, soft: bool = False, cpus: int = 1
    ) -> None:
        self._tasks = [(name, DeviceSpec.from_string(name)) for name in tasks]
        self._default = default
        self._soft = soft
        self._cpus = range(cpus)
        self._numbers = "0" if cpus == 1 else f"0 to {cpus - 1}"
        self._task_of = lru_cache(maxsize=4096)(self._find_task)

    def place(
        self,
        graph: StepGraph,
        nodes: Iterable[GraphNode],
        loops: Mapping[str, Frame] = MappingProxyType({}),
    ) -> dict[str, str]:
        """Answers the task of each of `nodes`, by node name.

        Args:
            graph: the graph.
            nodes: the nodes of a step in their order, see `plan.ordering`.
            loops: the name of each node inside a loop to its outermost loop.

        Raises:
            InvalidArgumentError: a device that no task matches or that is malformed, or two
                variables on different tasks in one group.
        """
        chosen = {node.name: node for node in nodes}
        groups = _Groups()
        for node in chosen.values():
            for source, dtype in zip(node.inputs, node.input_dtypes, strict=True):
                if dtype.is_ref or dtype is resource:
                    groups.join(node.name, source.node)
            for name in node.colocated_with:
                groups.join(node.name, name)
        for name, other in (*_loop_pairs(loops), *_conditional_pairs(chosen, loops)):
            groups.join(name, other)
        members: dict[str, list[GraphNode]] = {}
        for name in dict.fromkeys((*chosen, *groups.names())):
            node = chosen.get(name) or graph.node(name)
            members.setdefault(groups.root(name), []).append(node)
        placed: dict[str, str] = {}
        for group in members.values():
            task = self._task_of_group(group)
            placed.update((node.name, task) for node in group if node.name in chosen)
        return placed

    def _task_of_group(self, group: Sequence[GraphNode]) -> str:
        variables = [n for n in group if n.message.op in VARIABLE_OPS]
        deciding = variables or [n for n in group if n.device]
        found: dict[str, GraphNode] = {}
        for node in deciding:
            found.setdefault(self._task(node), node)
        if len(found) > 1:
            (task, node), (other_task, other), *_ = found.items()
            raise InvalidArgumentError(
                node.message,
                None,
                f"{node.name} is on {task} and {other.name} on {other_task}, but they must be on "
                "one task (a reference, a colocation, a loop or a conditional joins them); give "
                "both the same device",
            )
        return next(iter(found), self._default)

    def _task(self, node: GraphNode) -> str:
        try:
            return self._task_of(node.device)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(
                node.message, None, f"Cannot assign a device for operation {node.name}: {error}"
            ) from None

    def _find_task(self, device: str) -> str:
        if not device:
            return self._default
        try:
            wanted = DeviceSpec.from_string(device)
        except ValueError as error:
            raise InvalidArgumentError(None, None, str(error)) from None
        if wanted.device_type in (None, "CPU") and (wanted.device_index or 0) in self._cpus:
            if wanted.job is None and wanted.replica is None and wanted.task is None:
                return self._default
            for name, spec in self._tasks:
                if (
                    wanted.job in (None, spec.job)
                    and wanted.replica in (None, spec.replica)
                    and wanted.task in (None, spec.task)
                ):
                    return name
        if self._soft:
            return self._default
        raise InvalidArgumentError(
            None,
            None,
            f"no task of this session has the device {device!r}; there are: "
            + ", ".join(f"{name}/device:CPU:{self._numbers}" for name, _ in self._tasks)
            + "; name one of these, or set allow_soft_placement in the session's config",
        )


class _Groups:
    """Disjoint sets of names (union-find with path halving)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        parent = self._parent
        while (above := parent.get(name, name)) != name:
            parent[name] = parent.get(above, above)
            name = parent[name]
        return name

    def join(self, name: str, other: str) -> None:
        self._parent.setdefault(name, name)
        self._parent.setdefault(other, other)
        self._parent[self.root(name)] = self.root(other)

    def names(self) -> Iterable[str]:
        return self._parent.keys()


def _loop_pairs(loops: Mapping[str, Frame]) -> list[tuple[str, str]]:
    """Pairs of nodes of one loop: it runs as one."""
    first: dict[Frame, str] = {}
    return [(name, first.setdefault(loop, name)) for name, loop in loops.items()]


def _conditional_pairs(
    chosen: Mapping[str, GraphNode], loops: Mapping[str, Frame]
) -> list[tuple[str, str]]:
    """Pairs of nodes of one conditional: what a branch not taken would leave without a value.

    A loop in a branch is part of it with all its nodes; the conditionals and switches inside of a
    loop are together anyway.
    """
    if not any(node.message.op in SWITCH_OPS for node in chosen.values()):
        return []
    pairs = []
    conditional: set[str | Frame] = set()
    for node in chosen.values():
        unit = loops.get(node.name, node.name)
        is_looping = isinstance(unit, Frame)
        sources = [*(t.node for t in node.inputs), *node.controls]
        inside = [
            name
            for name in sources
            if (other := loops.get(name, name)) in conditional and other != unit
        ]
        pairs += [(node.name, name) for name in inside]
        begins = not is_looping and node.message.op in SWITCH_OPS
        ends = not is_looping and node.message.op in MERGE_OPS
        if begins or (inside and not ends):
            conditional.add(unit)
    return pairs
