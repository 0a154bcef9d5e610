"""Instructions of one op side by side, run without a kernel call for each.

A model with a thousand variables is updated by a thousand instructions that are the same but for a
variable and its gradient. A *batch* takes their place in the row: what they share is looked at
once, and each is done by the op's short form (see `BatchKernel`). They still run one after the
other in their order, each is atomic by itself, and cancelling takes effect between them. One for
which the short form is too short runs as if there were no batch.

A run that is traced does without batches, so that each op has its time.

Thread rule: a batch is immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from paramserve_core.dtypes import DType
from paramserve_core.errors import OpError
from paramserve_core.executor.instruction import Instruction, failure
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.tracing import Execute
from paramserve_core.executor.updating import Ref
from paramserve_core.kernels.numerics import quietly
from paramserve_core.kernels.registry import BatchKernel, ShortForm, find_batch_kernel

_FEW: Final = 4
"""Fewer are not worth looking at what they share first."""


class _Member(NamedTuple):
    """One instruction of a batch, and where the values that vary are, the reference first."""

    instruction: Instruction
    inputs: Callable[[list[Any]], tuple[Any, ...]]
    ref: int
    output: int
    freed: tuple[int, ...]


def _member(instruction: Instruction, kernel: BatchKernel) -> _Member:
    slots = [instruction.inputs[number][0] for number in kernel.varying]
    return _Member(
        instruction, itemgetter(*slots), slots[0], instruction.first_output, instruction.freed
    )


class Batch:
    """What takes the place of several instructions in a row.

    Args:
        instructions: alike, but for the inputs that vary.
        kernel: of their op.
    """

    def __init__(self, instructions: Sequence[Instruction], kernel: BatchKernel) -> None:
        self._prepare = kernel.prepare
        self._node = instructions[0].node
        self._shared = _shared_slots(instructions[0], kernel)
        self._members = [_member(instruction, kernel) for instruction in instructions]
        self._refs = [slot for each in instructions for slot, wants_ref in each.inputs if wants_ref]

    def run(self, step: StepContext, values: list[Any], execute: Execute) -> None:
        """Runs the instructions on the values in their slots; raises as `execute` does."""
        with quietly():
            short = self._short_form(values)
            if short is not None:
                self._run(step, values, execute, short)
                return
            for member in self._members:
                execute(member.instruction, step, values)

    def _run(
        self, step: StepContext, values: list[Any], execute: Execute, short: ShortForm
    ) -> None:
        for instruction, inputs, ref, output, freed in self._members:
            if step.is_cancelled:
                step.check_cancelled()
            try:
                is_done = short(*inputs(values))
            except Exception as error:
                found = failure(error, instruction.node)
                raise found from found.__cause__
            if is_done:
                values[output] = values[ref]
                for slot in freed:
                    values[slot] = None
            else:
                execute(instruction, step, values)

    def _short_form(self, values: list[Any]) -> ShortForm | None:
        """What does them in this run; None: each is to be run by itself."""
        shared: list[Any] = [None if slot is None else values[slot] for slot in self._shared]
        try:
            for number, value in enumerate(shared):
                if value.__class__ is Ref:
                    if self._changes(value, values):
                        return None
                    shared[number] = value.read()
            return self._prepare(self._node, shared)
        except OpError:
            return None  # The first of them raises it, and says that it does.

    def _changes(self, ref: Ref, values: list[Any]) -> bool:
        """Whether one of them changes a variable that they share."""
        others = (values[slot] for slot in self._refs)
        return any(o.__class__ is Ref and o.variable is ref.variable for o in others)


def with_batches(instructions: Sequence[Instruction]) -> Sequence[Instruction | Batch] | None:
    """The row with batches in place of instructions; None if there are none to be made."""
    row: list[Instruction | Batch] = []
    for likeness, group in groupby(instructions, _likeness):
        some = list(group)
        if likeness is None or len(some) < _FEW:
            row += some
        else:
            row.append(Batch(some, likeness.kernel))
    return row if len(row) < len(instructions) else None


class _Likeness(NamedTuple):
    """What an instruction has in common with the others of its batch."""

    kernel: BatchKernel
    op: str
    shared: list[int | None]
    input_dtypes: Sequence[DType]
    attrs: Mapping[str, Any]


def _likeness(instruction: Instruction) -> _Likeness | None:
    """None: it cannot be in a batch."""
    node = instruction.node
    kernel = find_batch_kernel(node.op)
    if kernel is None or node.reads_output:
        return None
    return _Likeness(
        kernel, node.op, _shared_slots(instruction, kernel), node.input_dtypes, node.attrs
    )


def _shared_slots(instruction: Instruction, kernel: BatchKernel) -> list[int | None]:
    """The slots of its inputs; None for those that vary."""
    return [
        None if number in kernel.varying else slot
        for number, (slot, _) in enumerate(instruction.inputs)
    ]
