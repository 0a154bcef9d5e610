"""Loops as a graph has them: which nodes are inside which loop.

A loop is data flow, as a conditional is. `Enter` brings a tensor into the loop's *frame*, which it
names; `Merge` takes it in the first iteration, and what `NextIteration` gives in the later ones;
`Switch`, by what went through `LoopCond`, sends it into the body or to `Exit`, which brings it out.
So a graph with loops has cycles, and all of them go through an edge from a `NextIteration` to a
`Merge`, a *back edge*. Without those it is an order, and that order says where each node is: where
its inputs are, one frame further in behind an `Enter` and one further out behind an `Exit`. The
form is TensorFlow's; see Yu et al., "Dynamic Control Flow in Large-Scale Machine Learning",
EuroSys 2018.

Planner, executor, importer and gradients all ask here, and none of them trusts the graph.

Thread rule: a `Frames` belongs to whoever made it.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from paramserve_core.errors import InvalidArgumentError

ENTER_OPS: Final = frozenset({"Enter", "RefEnter"})
EXIT_OPS: Final = frozenset({"Exit", "RefExit"})
MERGE_OPS: Final = frozenset({"Merge", "RefMerge"})
NEXT_OPS: Final = frozenset({"NextIteration", "RefNextIteration"})
SWITCH_OPS: Final = frozenset({"Switch", "RefSwitch"})
FRAME_NAME: Final = "frame_name"

_INSIDE_ONLY: Final = EXIT_OPS | NEXT_OPS | {"LoopCond"}
LOOP_OPS: Final = _INSIDE_ONLY | ENTER_OPS
"""Where none of these is, there is no loop."""

_MAX_DEPTH: Final = 64

Unit = TypeVar("Unit", bound=Hashable)


def is_back_edge(producer_op: str, consumer_op: str) -> bool:
    """Whether a tensor from an op to another one goes from one iteration to the next."""
    return producer_op in NEXT_OPS and consumer_op in MERGE_OPS


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One loop.

    Attributes:
        name: the `frame_name` of its `Enter` nodes.
        parent: the loop around it.
        depth: 1 for a loop in no other.
    """

    name: str
    parent: Frame | None
    depth: int

    @property
    def outermost(self) -> Frame:
        """The loop around all loops around this one, or itself."""
        return self.at_depth(1)

    def at_depth(self, depth: int) -> Frame:
        """The loop of that depth around this one, or itself."""
        frame = self
        while frame.depth > depth and frame.parent is not None:
            frame = frame.parent
        return frame

    def is_in(self, other: Frame | None) -> bool:
        """Whether this is `other` or a loop in it; None is what is outside of all loops."""
        return other is None or (self.depth >= other.depth and self.at_depth(other.depth) is other)


class Frames:
    """The frames of nodes that are added each after those that it needs, back edges excepted.

    Attributes:
        runs_in: node name to the frame that the node is part of, None outside of all loops. An
            `Enter` and an `Exit` are part of the loop that they lead into and out of.
        gives_to: node name to the frame that the node's outputs are in.
    """

    def __init__(self) -> None:
        self.runs_in: dict[str, Frame | None] = {}
        self.gives_to: dict[str, Frame | None] = {}
        self._ops: dict[str, str] = {}
        self._known: dict[tuple[Frame | None, str], Frame] = {}

    def add(self, name: str, op: str, sources: Iterable[str], frame_name: str) -> Frame | None:
        """Places one node.

        Args:
            name: the node's name.
            op: its op.
            sources: the names of the nodes whose tensors it takes or that it waits for, without
                back edges; a name that was not added counts as outside of all loops.
            frame_name: the attribute, of an `Enter`.

        Returns:
            The frame that it is part of.

        Raises:
            InvalidArgumentError: its inputs are in different frames, it makes sense inside a loop
                only and is in none, or loops nest too deep.
        """
        at, is_first = None, True
        for source in sources:
            if self._ops.get(source) in NEXT_OPS:
                raise _invalid(
                    f"{name} ({op}) takes {source}, a NextIteration; only a Merge may", name
                )
            frame = self.gives_to.get(source)
            if not is_first and frame is not at:
                raise _invalid(
                    f"{name} ({op}) takes inputs from different frames: {source} is in "
                    f"{_text(frame)}, another one in {_text(at)}; an Enter brings a tensor into a "
                    "loop, and an Exit out of it",
                    name,
                )
            at, is_first = frame, False
        if op in ENTER_OPS:
            at = self._inner(at, frame_name, name)
        elif at is None and op in _INSIDE_ONLY:
            raise _invalid(f"{name} ({op}) is in no loop: no Enter leads to it", name)
        self._ops[name] = op
        self.runs_in[name] = at
        self.gives_to[name] = at.parent if at is not None and op in EXIT_OPS else at
        return at

    def _inner(self, parent: Frame | None, frame_name: str, node: str) -> Frame:
        frame = self._known.get((parent, frame_name))
        if frame is None:
            depth = 1 if parent is None else parent.depth + 1
            if depth > _MAX_DEPTH:
                raise _invalid(f"{node}: loops nest more than {_MAX_DEPTH} deep", node)
            frame = self._known[parent, frame_name] = Frame(frame_name, parent, depth)
        return frame

    def check_back_edge(self, source: str, merge: str) -> None:
        """Raises InvalidArgumentError unless both ends of a back edge are part of one loop."""
        frame = self.runs_in.get(source)
        if frame is None or frame is not self.runs_in.get(merge):
            raise _invalid(
                f"{merge} takes {source}, a NextIteration of {_text(frame)}, but is in "
                f"{_text(self.runs_in.get(merge))}",
                merge,
            )


def in_order(before: Mapping[str, set[str]], priority: Mapping[str, int]) -> list[str]:
    """Names by priority, each after those before it, which are names too.

    Raises:
        InvalidArgumentError: there is a cycle; the error has the name of a node in or behind it.
    """
    order = _sorted(before, priority)
    if len(order) != len(before):
        stuck = min(set(before).difference(order), key=priority.__getitem__)
        raise _invalid(f"the graph has a cycle through or before {stuck!r}", stuck)
    return order


def in_loop_order(
    order: Sequence[str],
    before: Mapping[str, set[str]],
    priority: Mapping[str, int],
    frames: Mapping[str, Frame],
    depth: int = 0,
) -> list[str]:
    """Names in an order in which those of one loop, and of each loop in it, stand side by side.

    Args:
        order: names in an order without back edges, all of one loop of that depth.
        before: name to the names before it.
        priority: name to priority.
        frames: the loop that each name is part of, if any.
        depth: the depth of that loop; 0 for what is outside of all loops.

    Raises:
        InvalidArgumentError: what leaves a loop is needed inside of it.
    """
    unit_of: dict[str, Frame | str] = {}
    members: dict[Frame | str, list[str]] = {}
    for name in order:
        frame = frames.get(name)
        inner = None if frame is None or frame.depth == depth else frame.at_depth(depth + 1)
        unit_of[name] = unit = name if inner is None else inner
        members.setdefault(unit, []).append(name)
    before_unit: dict[Frame | str, set[Frame | str]] = {}
    for unit, names in members.items():
        sources = {unit_of[other] for name in names for other in before[name] if other in unit_of}
        before_unit[unit] = sources - {unit}
    first = {unit: min(priority[name] for name in names) for unit, names in members.items()}
    units = _sorted(before_unit, first)
    if len(units) != len(members):
        stuck = min(set(members).difference(units), key=first.__getitem__)
        text = (
            f"what leaves the loop {stuck.name!r} is needed inside of it"
            if isinstance(stuck, Frame)
            else f"{stuck} needs what leaves a loop, and that loop needs it"
        )
        raise _invalid(text, members[stuck][0])
    result: list[str] = []
    for unit in units:
        if isinstance(unit, str):
            result.append(unit)
        else:
            result += in_loop_order(members[unit], before, priority, frames, depth + 1)
    return result


def _sorted(before: Mapping[Unit, set[Unit]], priority: Mapping[Unit, int]) -> list[Unit]:
    """By priority, each after those before it (Kahn's algorithm with a heap), short of a cycle."""
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
    return order


def _text(frame: Frame | None) -> str:
    return "no loop" if frame is None else f"the loop {frame.name!r}"


def _invalid(text: str, node: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, text, node_name=node)
