"""A program: the nodes of one stage, compiled to a flat list of instructions.

Running is one loop over the instructions: take the inputs from their slots, call the kernel, put
the outputs into theirs. What can be known beforehand was settled when the program was compiled, see
`executor.compiler`.

Three things the loop is careful about:

- A slot is cleared after the last instruction that uses it. That bounds memory, and it drops the
  lease on a variable that was read, so that an update later in the step writes in place.
- Equal updates of many variables, side by side, run as a batch (`executor.batches`).
- A conditional leaves `DEAD` in the slots of the branch that was not taken, and a node with a dead
  input is skipped. A loop is one instruction, which runs rows of its own (`executor.loops`).
  Programs without conditionals and loops do not pay for this.

Instructions run one after another in the order of the nodes, which the planner makes the order in
which the user created them: what has no dependency still has an order, and a test of it repeats.
Only variables are looked up before anything runs, and not again until the store has dropped some.

Thread rule: a program is immutable once made, but for the variables that it found last, which any
thread may replace; `run` may be called by several threads at once.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import nullcontext
from typing import Any, Final, NamedTuple, NoReturn

from numpy.typing import NDArray

from paramserve_core.errors import FailedPreconditionError, InvalidArgumentError
from paramserve_core.executor.batches import with_batches
from paramserve_core.executor.compiler import Block, StageNodes
from paramserve_core.executor.host_functions import CALLING_OPS
from paramserve_core.executor.instruction import Instruction, execute, run_branching, straight
from paramserve_core.executor.loop_compiler import add_nodes
from paramserve_core.executor.loops import Loop
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.tracing import StageRecorder
from paramserve_core.executor.updating import Ref
from paramserve_core.graphdef import split_input
from paramserve_core.kernels.numerics import quietly
from paramserve_core.kernels.registry import DEAD
from paramserve_core.kernels.stacks import Stack
from paramserve_protos.v1 import node_def_pb2

Array = NDArray[Any]

_MANY: Final = 8
"""So many instructions are worth preparing the thread for all of them."""

_VARIABLE_OPS: Final = frozenset({"VariableV2", "Variable"})


class Program:
    """The compiled form of one stage.

    Args:
        nodes: the stage's nodes, each after those that it needs.
        received: names of the tensors that `run` is given.
        kept: names of the tensors that an earlier stage of the step retained.
        returned: names of the tensors that `run` answers.
        retained: names of the tensors that are put where a later stage finds them.

    Attributes:
        changes_variables: whether an op of it does.
        has_loops: whether there is a loop in it, which may go on for any time.

    Raises:
        InvalidArgumentError: a malformed node, or one whose input is nowhere to be found.
        NotFoundError: an op that is not in the registry.
    """

    def __init__(
        self,
        nodes: Iterable[node_def_pb2.NodeDef],
        *,
        received: Sequence[str] = (),
        kept: Sequence[str] = (),
        returned: Sequence[str] = (),
        retained: Sequence[str] = (),
    ) -> None:
        outside = [*returned, *retained]
        stage = StageNodes(nodes, outside)
        block = Block(stage, received, kept)
        add_nodes(block, stage)
        slots = block.slots
        for name in outside:
            if name not in slots:
                raise InvalidArgumentError(
                    None,
                    None,
                    f"{name} is not computed by this stage, or only inside of a loop, whose "
                    "results alone are seen from outside",
                )
        block.free_after_last_use(block.row, {slots[name] for name in outside})
        self._row = block.row
        self._template = block.template
        self._received = [slots[name] for name in received]
        self._kept = [(name, slots[name]) for name in kept]
        self._returned = [(name, slots[name]) for name in returned]
        self._retained = [(name, slots[name]) for name in retained]
        self._straight = straight(block.row, block.may_be_dead)
        self._variables, self._others = _apart(self._straight or ())
        self._batched = with_batches(self._others)
        self._found: _Found | None = None
        # A Python function of the user's is not to lose its warnings.
        self._is_long = len(self._others) >= _MANY and not any(
            instruction.node.op in CALLING_OPS for instruction in self._others
        )
        self.changes_variables = stage.changes_variables
        self.has_loops = any(isinstance(runnable, Loop) for runnable in block.row)

    def run(
        self,
        step: StepContext,
        received: Sequence[Array],
        kept: MutableMapping[str, Any],
        recorder: StageRecorder | None = None,
    ) -> list[Array]:
        """Runs the stage once.

        Args:
            step: the running step.
            received: one array per name in `received`; read, never written to. An array that owns
                writable memory may be kept by a variable.
            kept: what earlier stages of the step retained; what this one retains is added.
            recorder: records each op.

        Returns:
            One array per name in `returned`. They may be views of variables' buffers (then they
            are read-only) or be shared with each other.

        Raises:
            OpError: the error of the first kernel that failed, with its node named.
            CancelledError: the step was cancelled meanwhile.
        """
        instructions, values, batched = self._straight, self._template, None
        if instructions is not None and recorder is None:
            instructions, values = self._others, self._with_variables(step)
            batched = self._batched
        values = values.copy()
        for slot, array in zip(self._received, received, strict=True):
            values[slot] = array
        for name, slot in self._kept:
            values[slot] = kept[name]
        run_one = execute if recorder is None else recorder.recording(execute)
        if instructions is None:
            run_branching(self._row, step, values, run_one, set())
        else:
            with quietly() if self._is_long else nullcontext():
                if batched is None:
                    for instruction in instructions:
                        run_one(instruction, step, values)
                else:
                    for runnable in batched:
                        runnable.run(step, values, run_one)
        for name, slot in self._retained:
            kept[name] = values[slot]
        return self._results(values)

    def _results(self, values: Sequence[Any]) -> list[Array]:
        results: list[Array] = []
        name = ""
        try:
            for name, slot in self._returned:
                value = values[slot]
                if value.__class__ is Ref:
                    stored = value.stored
                    results.append(value.variable.read() if stored is None else stored)
                elif value is DEAD or value.__class__ is Stack:
                    _refuse(name, value)
                else:
                    results.append(value)
        except FailedPreconditionError as error:
            error.node_name = error.node_name or split_input(name).node
            raise
        return results

    def _with_variables(self, step: StepContext) -> list[Any]:
        """The template with the step's variables in their slots; not to be changed."""
        if not self._variables:
            return self._template
        store, found = step.store, self._found
        if found is None or found.store is not store or found.resets != store.resets:
            found = _Found(store, store.resets, self._template.copy())
            for instruction in self._variables:
                execute(instruction, step, found.values)
            self._found = found
        return found.values


class _Found(NamedTuple):
    """Values beforehand: the template, and the variables that a store had."""

    store: VariableStore
    resets: int
    values: list[Any]


def _apart(
    instructions: Sequence[Instruction],
) -> tuple[Sequence[Instruction], Sequence[Instruction]]:
    """The instructions that look up a variable which the rest of the row needs, and the others."""
    variables = [
        instruction
        for instruction in instructions
        if instruction.node.op in _VARIABLE_OPS and not instruction.controls
    ]
    found = {instruction.index for instruction in variables}
    return variables, [other for other in instructions if other.index not in found]


def _refuse(name: str, value: object) -> NoReturn:
    if value is DEAD:
        raise InvalidArgumentError(
            None,
            None,
            f"{name} has no value in this step: it is on the branch of a conditional that was not "
            "taken; fetch the conditional's result, or place the whole conditional on one task",
        )
    raise InvalidArgumentError(
        None, None, f"{name} is a handle on a stack, which cannot leave its task"
    )
