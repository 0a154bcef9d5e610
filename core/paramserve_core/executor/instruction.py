"""One kernel call of a program, and the two ways to run a row of them.

A row without conditionals and loops is run by calling `execute` for each instruction. In any other
row a value may be `DEAD`, on the branch of a conditional that was not taken; an instruction with a
dead input, or after one that did not run, does not run either, and its outputs are dead.

Thread rule: an instruction is immutable once its program is compiled.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np

from paramserve_core.errors import (
    InternalError,
    InvalidArgumentError,
    OpError,
    ResourceExhaustedError,
    UnimplementedError,
)
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.tracing import Execute
from paramserve_core.executor.updating import Ref
from paramserve_core.frames import MERGE_OPS
from paramserve_core.kernels import KernelNode, find_kernel
from paramserve_core.kernels.registry import DEAD
from paramserve_core.kernels.stacks import Stack
from paramserve_protos.v1 import node_def_pb2

_log: Final = logging.getLogger(__name__)


class Runnable(Protocol):
    """An instruction or a whole loop: what stands in a row.

    Attributes:
        index: its number in the row.
        inputs: the slots that it takes, and whether each is taken as a reference.
        controls: the numbers of those that must have run.
        freed: the slots that nothing uses afterwards.
        is_merge: whether one input that is alive is enough.
    """

    index: int
    inputs: tuple[tuple[int, bool], ...]
    controls: tuple[int, ...]
    freed: tuple[int, ...]
    is_merge: bool

    def run(self, step: StepContext, values: list[Any], execute: Execute) -> None:
        """Runs it on the values in their slots."""

    def kill(self, values: list[Any]) -> None:
        """Makes its outputs dead."""


class Instruction:
    """One kernel call with its slots; see `Runnable`."""

    __slots__ = (
        "controls",
        "first_output",
        "freed",
        "function",
        "index",
        "inputs",
        "is_merge",
        "node",
        "output_count",
        "takes_step",
    )

    def __init__(
        self,
        index: int,
        node: KernelNode,
        inputs: tuple[int, ...],
        first_output: int,
        controls: tuple[int, ...],
    ) -> None:
        kernel = find_kernel(node.op)
        if kernel is None:
            raise UnimplementedError(
                None, None, f"{node.name}: op {node.op!r} is known here but has no kernel"
            )
        self.index = index
        self.node = node
        self.function = kernel.function
        self.takes_step = kernel.takes_step
        wants_ref = [dtype.is_ref for dtype in node.input_dtypes]
        self.inputs = tuple(zip(inputs, wants_ref, strict=True))
        self.first_output = first_output
        self.output_count = len(node.output_dtypes)
        self.controls = controls
        self.is_merge = node.op in MERGE_OPS
        self.freed: tuple[int, ...] = ()

    def run(self, step: StepContext, values: list[Any], execute: Execute) -> None:
        """See `Runnable`."""
        execute(self, step, values)

    def kill(self, values: list[Any]) -> None:
        """See `Runnable`."""
        first = self.first_output
        values[first : first + self.output_count] = [DEAD] * self.output_count


def straight(row: Sequence[Runnable], may_be_dead: bool) -> Sequence[Instruction] | None:
    """The row, if it may be run by calling `execute` for each instruction; else None."""
    found = [runnable for runnable in row if isinstance(runnable, Instruction)]
    return None if may_be_dead or len(found) < len(row) else found


def run_branching(
    row: Sequence[Runnable], step: StepContext, values: list[Any], execute: Execute, dead: set[int]
) -> None:
    """Runs a row that has conditionals or loops.

    Args:
        row: the instructions and loops.
        step: the running step.
        values: the values in their slots.
        execute: runs an instruction.
        dead: the numbers of those that did not run; what this row does not run is added.
    """
    for runnable in row:
        alive = [values[slot] is not DEAD for slot, _ in runnable.inputs]
        skip = any(control in dead for control in runnable.controls) or (
            not any(alive) if runnable.is_merge else not all(alive)
        )
        if not skip:
            runnable.run(step, values, execute)
            continue
        dead.add(runnable.index)
        runnable.kill(values)
        for slot in runnable.freed:
            values[slot] = None


def execute(instruction: Instruction, step: StepContext, values: list[Any]) -> None:
    """Calls the kernel of one instruction.

    Raises:
        OpError: what the kernel raised, with its node named.
        CancelledError: the step was cancelled meanwhile.
    """
    if step.is_cancelled:
        step.check_cancelled()
    try:
        arguments: list[Any] = []
        value: Any = None
        for slot, wants_ref in instruction.inputs:
            value = values[slot]
            if value.__class__ is Ref:
                if not wants_ref:
                    value = value.read()
            elif wants_ref and value is not DEAD:
                raise InvalidArgumentError(
                    None, None, "a reference to a variable is needed, and a value was fed instead"
                )
            arguments.append(value)
        value = None  # or it would hold a lease
        for slot in instruction.freed:
            values[slot] = None
        if instruction.takes_step:
            outputs = instruction.function(instruction.node, step, *arguments)
        else:
            outputs = instruction.function(instruction.node, *arguments)
    except Exception as error:
        found = failure(error, instruction.node)
        raise found from found.__cause__
    count = instruction.output_count
    if count == 1:
        values[instruction.first_output] = _as_value(outputs)
    elif count:
        first = instruction.first_output
        values[first : first + count] = [_as_value(output) for output in outputs]


def _as_value(output: Any) -> Any:
    if output.__class__ is np.ndarray or output.__class__ is Ref or output is DEAD:
        return output
    return output if output.__class__ is Stack else np.asarray(output)


def failure(error: Exception, node: KernelNode) -> OpError:
    """What a step fails with when the kernel of a node raised something."""
    if isinstance(error, OpError):
        return named(error, node)
    if isinstance(error, MemoryError):
        return named(ResourceExhaustedError(None, None, f"out of memory: {error}"), node)
    _log.exception("kernel of %s (%s) failed", node.name, node.op)
    found = InternalError(None, None, f"{type(error).__name__}: {error}")
    found.__cause__ = error
    return named(found, node)


def named(error: OpError, node: KernelNode | node_def_pb2.NodeDef) -> OpError:
    """The error, with its node named if none is."""
    if error.node_name is None:
        error.node_name = node.name
        error.op_type = node.op
    return error
