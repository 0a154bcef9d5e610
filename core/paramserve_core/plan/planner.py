"""From a graph and what is wanted of it to stages: prune, place, order, cut.

*Prune*: what the fetches and targets need, going no further than a fed tensor. *Read again* what
was updated: see `plan.rereading`. *Order*: see `plan.ordering`. *Place*: see `plan.placement`.
*Cut*: ``level(op) = max over its inputs of (level(input), + 1 when the input is on another task)``;
all ops of one task and level are one stage and cost one request. A loop has one level, because it
runs as one.

Two kinds of node are *copied*, so that they neither cost a stage nor order any: a constant goes
into every stage that uses it, on any task, since copying it once beats sending it in every step; a
variable op, which only names its variable, goes into every stage of its task that uses it.

Stages of one task run in the order of their levels. A stage starts when the stages that it needs
are done; its inputs ride on the request, so there is no rendezvous.

Planning happens once for each set of fetches and feeds and may be slow; running a plan may not.

Thread rule: pure functions of a graph that is not being extended.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from paramserve_core.errors import InvalidArgumentError
from paramserve_core.frames import LOOP_OPS, Frame
from paramserve_core.plan.graph import GraphNode, StepGraph
from paramserve_core.plan.ordering import StepOrder, dependencies, in_order, is_fed, prune
from paramserve_core.plan.placement import VARIABLE_OPS, Placer
from paramserve_core.plan.rereading import read_after_updates
from paramserve_protos.v1 import node_def_pb2, service_pb2


@dataclass(frozen=True, slots=True)
class Source:
    """Where a tensor comes from: output `index` of stage `stage`, or feed `index` if that is -1."""

    stage: int
    index: int


FEEDS = -1
"""The `Source.stage` of a fed tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One request's worth of work on one task; see `service.proto` for the lists of names.

    Attributes:
        number: position among the stages of the same task.
        sources: where each of `received` comes from.
        needs: the stages that must be done before this one starts.
        changes_variables: some op changes a variable.
    """

    task: str
    number: int
    nodes: Sequence[node_def_pb2.NodeDef]
    received: tuple[str, ...]
    kept: tuple[str, ...]
    returned: tuple[str, ...]
    retained: tuple[str, ...]
    is_last: bool
    sources: tuple[Source, ...]
    needs: tuple[int, ...]
    changes_variables: bool

    def message(self) -> service_pb2.Stage:
        """The stage as it is sent to its task."""
        stage = service_pb2.Stage(
            received=self.received,
            kept=self.kept,
            returned=self.returned,
            retained=self.retained,
            is_last=self.is_last,
        )
        stage.nodes.node.extend(self.nodes)
        return stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A step that can be run any number of times.

    Attributes:
        feeds: names of the fed tensors.
        fetches: where each fetched tensor comes from.
        stages: in an order in which they could run one after another.
        is_direct: there is one stage, and it returns the fetches, in their order.
        has_loops: there is a loop in one of them.
    """

    feeds: tuple[str, ...]
    fetches: tuple[Source, ...]
    stages: tuple[PlannedStage, ...]
    is_direct: bool
    has_loops: bool


def make_plan(
    graph: StepGraph,
    placer: Placer,
    fetches: Sequence[str],
    feeds: Sequence[str],
    targets: Sequence[str],
) -> Plan:
    """Plans the step that answers `fetches` and runs `targets`, given `feeds`.

    Raises:
        InvalidArgumentError: a placeholder is needed and not fed, the graph has a cycle, a tensor
            is fed twice, or a device is not among the session's tasks.
        NotFoundError: a name that is not in the graph.
    """
    fed = [str(graph.tensor(name)) for name in feeds]
    if len(set(fed)) != len(fed):
        twice = next(name for name in fed if fed.count(name) > 1)
        raise InvalidArgumentError(None, None, f"{twice} is fed twice in one step")
    fetched = [str(graph.tensor(name)) for name in fetches]
    wanted = [name.rpartition(":")[0] for name in fetched if name not in set(fed)]
    needed = prune(graph, [*wanted, *targets], set(fed))
    needed = read_after_updates(graph, needed, set(fed))
    order = in_order(needed, set(fed))
    return _Cutter(graph, placer, order, fed, fetched).plan()


class _Draft:
    """A stage that is being put together; lists without repeats, in order of first use."""

    def __init__(self, task: str, level: int) -> None:
        self.task = task
        self.level = level
        self.nodes: list[GraphNode] = []
        self.copies: dict[str, GraphNode] = {}
        self.received: dict[str, Source] = {}
        self.kept: dict[str, None] = {}
        self.returned: dict[str, int] = {}
        self.retained: dict[str, None] = {}
        self.needs: set[int] = set()

    def answer(self, name: str, number: int) -> Source:
        """Where the answer of this stage, which has that number, holds the tensor `name`."""
        return Source(number, self.returned.setdefault(name, len(self.returned)))


class _Cutter:
    """Cuts one ordered step into stages; lives for the length of `make_plan`."""

    def __init__(
        self,
        graph: StepGraph,
        placer: Placer,
        order: StepOrder,
        fed: Sequence[str],
        fetched: Sequence[str],
    ) -> None:
        self._feeds = {name: i for i, name in enumerate(fed)}
        self._fetched = fetched
        self._tasks = placer.place(graph, order.nodes, order.loops)
        self._copied = self._find_copied(order.nodes)
        self._order = [n for n in order.nodes if n.name not in self._copied]
        self._loops = order.loops
        self._levels: dict[str, int] = {}
        self._drafts: list[_Draft] = []
        self._stage_of: dict[str, int] = {}

    def plan(self) -> Plan:
        """Does the cutting."""
        self._assign_levels()
        self._place_fetched_copies()
        for number in range(len(self._drafts)):
            self._wire(number)
        fetches = tuple(self._fetch(name) for name in self._fetched)
        stages = self._finish()
        return Plan(
            feeds=tuple(self._feeds),
            fetches=fetches,
            stages=stages,
            is_direct=len(stages) == 1
            and list(fetches) == [Source(0, i) for i in range(len(stages[0].returned))],
            has_loops=any(node.op in LOOP_OPS for stage in stages for node in stage.nodes),
        )

    def _find_copied(self, order: Sequence[GraphNode]) -> dict[str, GraphNode]:
        """The nodes that go into every stage that uses them."""
        copied = {
            n.name: n
            for n in order
            if not n.controls and (n.message.op == "Const" or n.message.op in VARIABLE_OPS)
        }
        for node in order:
            for tensor in node.inputs:
                producer = copied.get(tensor.node)
                if producer is None or producer.message.op == "Const":
                    continue
                # Its value is read on another task, so some stage of its own must answer it.
                if self._tasks[node.name] != self._tasks[producer.name]:
                    del copied[producer.name]
        return copied

    def _fed_set(self) -> set[str]:
        return set(self._feeds)

    def _assign_levels(self) -> None:
        fed = self._fed_set()
        found: dict[tuple[int, str], _Draft] = {}
        for _, unit in itertools.groupby(self._order, self._unit):
            nodes = list(unit)
            task = self._tasks[nodes[0].name]
            level = 0
            for name in {name for node in nodes for name in dependencies(node, fed)}:
                if name in self._levels:
                    crossing = self._tasks[name] != task
                    level = max(level, self._levels[name] + crossing)
            self._levels.update((node.name, level) for node in nodes)
            draft = found.setdefault((level, task), _Draft(task, level))
            draft.nodes += nodes
        # By level, then by first use: an order in which they could run one after another.
        self._drafts = sorted(found.values(), key=lambda d: (d.level, d.nodes[0].index))
        for number, draft in enumerate(self._drafts):
            self._stage_of.update((node.name, number) for node in draft.nodes)

    def _unit(self, node: GraphNode) -> Frame | str:
        """What has one level: a loop, or a node outside of all loops."""
        loop = self._loops.get(node.name)
        return node.name if loop is None else loop

    def _place_fetched_copies(self) -> None:
        """A fetched constant or variable is answered by some stage of its task."""
        for name in self._fetched:
            node = self._copied.get(name.rpartition(":")[0])
            if node is None or name in self._feeds or node.name in self._stage_of:
                continue
            task = self._tasks[node.name]
            tasks = [draft.task for draft in self._drafts]
            number = tasks.index(task) if task in tasks else len(tasks)
            if number == len(tasks):
                self._drafts.append(_Draft(task, number))
            self._drafts[number].copies[node.name] = node
            self._stage_of[node.name] = number

    def _wire(self, number: int) -> None:
        draft = self._drafts[number]
        fed = self._fed_set()
        for node in draft.nodes:
            for tensor in node.inputs:
                name = str(tensor)
                if name in self._feeds:
                    self._receive(number, name, Source(FEEDS, self._feeds[name]))
                elif tensor.node in self._copied:
                    draft.copies[tensor.node] = self._copied[tensor.node]
                else:
                    self._bring(number, tensor.node, name)
            for control in node.controls:
                if control in self._stage_of and not is_fed(control, fed):
                    draft.needs.add(self._stage_of[control])
        earlier = [i for i in range(number) if self._drafts[i].task == draft.task]
        if earlier:
            draft.needs.add(earlier[-1])
        draft.needs.discard(number)

    def _bring(self, number: int, producer: str, name: str) -> None:
        """Makes the tensor `name` of node `producer` known to stage `number`."""
        stage = self._stage_of[producer]
        if stage == number:
            return
        draft, source = self._drafts[number], self._drafts[stage]
        draft.needs.add(stage)
        if source.task == draft.task:
            source.retained[name] = None
            draft.kept[name] = None
        else:
            self._receive(number, name, source.answer(name, stage))

    def _receive(self, number: int, name: str, source: Source) -> None:
        """A tensor that comes with the request is sent to a task once, and kept there."""
        draft = self._drafts[number]
        for i in range(number):
            other = self._drafts[i]
            if other.task == draft.task and name in other.received:
                other.retained[name] = None
                draft.kept[name] = None
                return
        draft.received[name] = source

    def _fetch(self, name: str) -> Source:
        if name in self._feeds:
            return Source(FEEDS, self._feeds[name])
        stage = self._stage_of[name.rpartition(":")[0]]
        return self._drafts[stage].answer(name, stage)

    def _finish(self) -> tuple[PlannedStage, ...]:
        last = {draft.task: number for number, draft in enumerate(self._drafts)}
        numbers: dict[str, int] = {}
        stages = []
        for number, draft in enumerate(self._drafts):
            index = numbers[draft.task] = numbers.get(draft.task, -1) + 1
            stages.append(
                PlannedStage(
                    task=draft.task,
                    number=index,
                    nodes=[n.message for n in (*draft.copies.values(), *draft.nodes)],
                    received=tuple(draft.received),
                    kept=tuple(draft.kept),
                    returned=tuple(draft.returned),
                    retained=tuple(draft.retained),
                    is_last=last[draft.task] == number,
                    sources=tuple(draft.received.values()),
                    needs=tuple(sorted(draft.needs)),
                    changes_variables=any(_changes_variable(n) for n in draft.nodes),
                )
            )
        return tuple(stages)


def _changes_variable(node: GraphNode) -> bool:
    return node.definition.has_effect and any(dtype.is_ref for dtype in node.input_dtypes)
