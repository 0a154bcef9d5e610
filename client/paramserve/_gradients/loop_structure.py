"""The loops between some tensors and what they were computed from, read off the graph.

Nothing here remembers how a loop was built, so a loop of an imported graph is as good as one that
`while_loop` has just made. Two things are read: which loop each operation is part of, and under
which *conditions* it runs within an iteration, the predicates of the conditionals around it.

Thread rule: reads the graph; operations that are in it do not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve_core import frames
from paramserve_core.errors import InvalidArgumentError

_MAX_CONDITIONALS: Final = 256

Conditions = tuple[tuple[Tensor, int], ...]
"""Predicates, outermost first, and what each of them must be: 1 for true."""


@dataclass(frozen=True, slots=True)
class LoopVariable:
    """One loop variable.

    Attributes:
        start: its first value, outside of the loop.
        merge: its value at the beginning of an iteration.
        following: what an iteration makes of it.
        exit: its last value, outside of the loop; None where nobody takes it.
    """

    start: Tensor
    merge: Tensor
    following: Tensor
    exit: Tensor | None


class ForwardLoop:
    """A loop of the graph, inner loops included.

    Attributes:
        frame: its frame.
        ops: its operations, each after those that it needs, those of an inner loop side by side.
        variables: the loop variables.
        constants: the `Enter` of each tensor from outside that stays what it is.
        condition: the `LoopCond`.
        conditions: when the loop runs, within an iteration of the loop around it.
    """

    def __init__(self, frame: frames.Frame) -> None:
        self.frame = frame
        self.ops: dict[Operation, None] = {}
        self.variables: list[LoopVariable] = []
        self.constants: list[Operation] = []
        self.condition: Operation | None = None
        self.conditions: Conditions = ()

    @property
    def name(self) -> str:
        """The name of the scope that the loop was built in."""
        return self.frame.name.rpartition("/")[0] or self.frame.name

    @property
    def parallel_iterations(self) -> int:
        """What its `Enter`s say."""
        for op in self.ops:
            if op.type in frames.ENTER_OPS and op.attrs[frames.FRAME_NAME] == self.frame.name:
                found: int = op.attrs["parallel_iterations"]
                return found
        return 1


class LoopStructure:
    """The loops among the operations that some tensors are computed from.

    Args:
        ys: the tensors.

    Attributes:
        order: the operations, each after those that it needs, those of a loop side by side.
        loops: the loops by their frames.

    Raises:
        ValueError: a malformed loop.
    """

    def __init__(self, ys: Iterable[Tensor]) -> None:
        found = _ancestors(ys)
        self._ops = {op.name: op for op in found}
        position = {op: i for i, op in enumerate(next(iter(found)).graph.get_operations())}
        priority = {op.name: position[op] for op in found}
        before = {op.name: _sources(op) for op in found}
        self._frames = frames.Frames()
        inside: dict[str, frames.Frame] = {}
        try:
            order = frames.in_order(before, priority)
            for name in order:
                op = self._ops[name]
                frame_name = op.attrs.get(frames.FRAME_NAME, "")
                frame = self._frames.add(name, op.type, sorted(before[name]), frame_name)
                if frame is not None:
                    inside[name] = frame
            order = frames.in_loop_order(order, before, priority, inside)
        except InvalidArgumentError as error:
            raise ValueError(f"{error.node_name}: {error.message}") from None
        self.order = [self._ops[name] for name in order]
        self.loops: dict[frames.Frame, ForwardLoop] = {}
        self._conditions: dict[Tensor | Operation, Conditions] = {}
        for op in self.order:
            self._read(op)
        for loop in self.loops.values():
            _find_variables(loop, self)

    def frame_of(self, op: Operation) -> frames.Frame | None:
        """The loop that an operation is part of."""
        return self._frames.runs_in.get(op.name)

    def frame_around(self, op: Operation) -> frames.Frame | None:
        """The loop that an operation's outputs are in."""
        return self._frames.gives_to.get(op.name)

    def add(self, op: Operation) -> None:
        """Takes in an operation that was added since, and what it needs."""
        waiting = [op]
        while waiting:
            at = waiting[-1]
            missing = [t.op for t in at.inputs if not frames.is_back_edge(t.op.type, at.type)]
            missing = [o for o in (*missing, *at.control_inputs) if o.name not in self._ops]
            waiting += missing
            if not missing:
                waiting.pop()
                if at.name not in self._ops:
                    self._ops[at.name] = at
                    frame_name = at.attrs.get(frames.FRAME_NAME, "")
                    self._frames.add(at.name, at.type, sorted(_sources(at)), frame_name)
                    self._read(at)

    def _read(self, op: Operation) -> None:
        frame = around = self.frame_of(op)
        while around is not None:
            self.loops.setdefault(around, ForwardLoop(around)).ops[op] = None
            around = around.parent
        if frame is None:
            return
        found = self._common(op) if op.type in frames.MERGE_OPS else self._longest(op)
        if len(found) > _MAX_CONDITIONALS:
            raise ValueError(f"{op.name}: conditionals nest more than {_MAX_CONDITIONALS} deep")
        loop = self.loops[frame]
        if op.type in frames.ENTER_OPS:
            loop.conditions = max(loop.conditions, found, key=len)
            found = ()
        elif op.type in frames.EXIT_OPS:
            found = loop.conditions
        elif op.type == "LoopCond":
            loop.condition = op
        self._add_conditions(op, found)

    def conditions_of(self, tensor: Tensor) -> Conditions:
        """When a tensor is there, within an iteration of the loop that it is in."""
        found = self._conditions.get(tensor)
        return self._conditions.get(tensor.op, ()) if found is None else found

    def _longest(self, op: Operation) -> Conditions:
        found = [self.conditions_of(tensor) for tensor in op.inputs]
        found += [self._conditions.get(other, ()) for other in op.control_inputs]
        return max(found, key=len, default=())

    def _common(self, op: Operation) -> Conditions:
        """What all inputs of a merge have in common; the end of an iteration is not known yet."""
        first, *others = [
            self.conditions_of(tensor)
            for tensor in op.inputs
            if not frames.is_back_edge(tensor.op.type, op.type)
        ] or [()]
        count = 0
        while count < len(first) and all(o[: count + 1] == first[: count + 1] for o in others):
            count += 1
        return first[:count] if others else first

    def _add_conditions(self, op: Operation, found: Conditions) -> None:
        self._conditions[op] = found
        if op.type in frames.SWITCH_OPS:
            pred = op.inputs[1]
            while pred.op.type == "Identity":
                pred = pred.op.inputs[0]
            if pred.op.type != "LoopCond":
                for side, tensor in enumerate(op.outputs):
                    self._conditions[tensor] = (*found, (pred, side))


def is_start(op: Operation) -> bool:
    """Whether an operation is the `Merge` at the beginning of a loop variable."""
    return (
        op.type in frames.MERGE_OPS
        and op.inputs[0].op.type in frames.ENTER_OPS
        and not op.inputs[0].op.attrs["is_constant"]
    )


def _ancestors(ys: Iterable[Tensor]) -> dict[Operation, None]:
    found: dict[Operation, None] = {}
    waiting = [y.op for y in ys]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found[op] = None
            waiting += [tensor.op for tensor in op.inputs]
            waiting += op.control_inputs
    return found


def _sources(op: Operation) -> set[str]:
    names = {t.op.name for t in op.inputs if not frames.is_back_edge(t.op.type, op.type)}
    return names | {other.name for other in op.control_inputs}


def _find_variables(loop: ForwardLoop, structure: LoopStructure) -> None:
    """Reads the loop variables and constants."""
    own = [op for op in loop.ops if structure.frame_of(op) is loop.frame]
    exits = {
        op.inputs[0].op.inputs[0]: op.outputs[0]
        for op in own
        if op.type in frames.EXIT_OPS and op.inputs[0].op.type in frames.SWITCH_OPS
    }
    loop.constants += [op for op in own if op.type in frames.ENTER_OPS and op.attrs["is_constant"]]
    for op in own:
        if not is_start(op):
            continue
        end: Sequence[Tensor] = op.inputs[1:]
        if len(end) != 1 or end[0].op.type not in frames.NEXT_OPS:
            continue  # the loop is still being built
        merge = op.outputs[0]
        loop.variables.append(
            LoopVariable(op.inputs[0].op.inputs[0], merge, end[0].op.inputs[0], exits.get(merge))
        )
