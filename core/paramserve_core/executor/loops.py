"""A loop as an instruction: a block that runs once per iteration.

The block has three parts. The *head* leads to the condition; the *body* runs where that holds; the
*tail*, nearly always empty, runs when the loop has ended. So running a loop is: run the head; while
the condition holds, run the body, carry what the iteration leaves to the next one, and run the head
again; then run the tail.

Thread rule: a compiled loop is immutable; its values belong to the call that runs it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.executor.instruction import Runnable, named, run_branching, straight
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.tracing import Execute
from paramserve_core.executor.updating import Ref
from paramserve_core.kernels.registry import DEAD
from paramserve_protos.v1 import node_def_pb2

HEAD: Final = 0
BODY: Final = 1
TAIL: Final = 2

_SCALARS: Final = tuple(np.array(i, np.int32) for i in range(2))
"""Which input of the merges is alive: the first in the first iteration, the second later."""


class Passage(NamedTuple):
    """A value on its way into a loop or out of it, from slot to slot.

    Attributes:
        source: the slot that it comes from.
        slot: the slot that it goes to.
        as_ref: whether a reference stays one; else it is read.
    """

    source: int
    slot: int
    as_ref: bool


class Carried(NamedTuple):
    """A loop variable.

    Attributes:
        slot: its value at the beginning of an iteration.
        index_slot: which input of its `Merge` that is; None where nothing asks.
        next_slot: what the iteration makes of it.
        as_ref: whether a reference stays one.
    """

    slot: int
    index_slot: int | None
    next_slot: int
    as_ref: bool


class Loop:
    """A whole loop, as an instruction; see `Runnable`.

    Args:
        index: its number in the row.
        name: the node that stands for the loop in messages.
        constants: what every iteration finds.
        starts: what the loop variables are in the first iteration.
        carried: the loop variables.
        exits: what leaves the loop.
        parts: head, body and tail.
        branches: whether a value inside may be dead.
        condition: the slot of the condition.
        template: the values known beforehand.
        controls: the numbers of those that must have run.
    """

    __slots__ = (
        "_carried",
        "_condition",
        "_constants",
        "_exits",
        "_node",
        "_parts",
        "_starts",
        "_straight",
        "_template",
        "controls",
        "freed",
        "index",
        "inputs",
        "is_merge",
    )

    def __init__(
        self,
        index: int,
        *,
        name: node_def_pb2.NodeDef,
        constants: tuple[Passage, ...],
        starts: tuple[Passage, ...],
        carried: tuple[Carried, ...],
        exits: tuple[Passage, ...],
        parts: tuple[list[Runnable], ...],
        branches: bool,
        condition: int,
        template: list[Any],
        controls: tuple[int, ...],
    ) -> None:
        self.index = index
        self.controls = controls
        self.freed: tuple[int, ...] = ()
        self.is_merge = False
        self.inputs = tuple((e.source, e.as_ref) for e in (*constants, *starts))
        self._node = name
        self._constants = constants
        self._starts = starts
        self._carried = carried
        self._exits = exits
        self._parts = parts
        self._straight = [straight(part, branches) for part in parts]
        self._condition = condition
        self._template = template

    def kill(self, values: list[Any]) -> None:
        """See `Runnable`."""
        for exiting in self._exits:
            values[exiting.slot] = DEAD

    def run(self, step: StepContext, values: list[Any], execute: Execute) -> None:
        """See `Runnable`.

        Raises:
            OpError: the error of the first kernel that failed, with its node named.
            CancelledError: the step was cancelled; asked before every iteration.
        """
        try:
            inner = self._template.copy()
            for source, slot, as_ref in (*self._constants, *self._starts):
                inner[slot] = _passed(values[source], as_ref)
            for slot in self.freed:
                values[slot] = None
            self._iterate(step, inner, execute)
            for source, slot, as_ref in self._exits:
                values[slot] = _passed(inner[source], as_ref)
        except OpError as error:
            raise named(error, self._node) from None

    def _iterate(self, step: StepContext, inner: list[Any], execute: Execute) -> None:
        carried, condition, stretch = self._carried, self._condition, step.stretch
        self._count(inner, 0)
        is_first = True
        while True:
            if step.is_cancelled:
                step.check_cancelled()
            if stretch is not None:
                stretch.give_way()
            dead: set[int] = set()
            self._run(HEAD, step, inner, execute, dead)
            if not _truth(inner[condition]):
                break
            self._run(BODY, step, inner, execute, dead)
            following = [_passed(inner[c.next_slot], c.as_ref) for c in carried]
            for variable, value in zip(carried, following, strict=True):
                inner[variable.slot] = value
            if is_first:
                self._count(inner, 1)
                is_first = False
        self._run(TAIL, step, inner, execute, dead)

    def _count(self, inner: list[Any], iteration: int) -> None:
        for variable in self._carried:
            if variable.index_slot is not None:
                inner[variable.index_slot] = _SCALARS[iteration]

    def _run(
        self,
        part: int,
        step: StepContext,
        inner: list[Any],
        execute: Execute,
        dead: set[int],
    ) -> None:
        row = self._straight[part]
        if row is None:
            run_branching(self._parts[part], step, inner, execute, dead)
        else:
            for instruction in row:
                execute(instruction, step, inner)


def _passed(value: Any, as_ref: bool) -> Any:
    """A value that goes into a loop, out of it, or on to the next iteration."""
    if value.__class__ is Ref:
        return value if as_ref else value.read()
    if value is DEAD:
        raise InvalidArgumentError(
            None,
            None,
            "a loop variable has no value in this iteration: it is on the branch of a conditional "
            "that was not taken; take the conditional's result",
        )
    if as_ref:
        raise InvalidArgumentError(
            None, None, "a reference to a variable is needed, and a value was given instead"
        )
    return value


def _truth(condition: Any) -> bool:
    if condition is DEAD or condition.shape != ():
        found = "no value" if condition is DEAD else f"shape {list(condition.shape)}"
        raise InvalidArgumentError(
            None, None, f"the condition of a loop must be a scalar, it has {found}"
        )
    return bool(condition)
