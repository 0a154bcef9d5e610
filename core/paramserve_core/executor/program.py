"""A program: the nodes of one stage, compiled to a flat list of instructions.

Compiling gives every tensor of the stage a slot in a list, decodes every attribute, and settles
what can be known beforehand: which values are constants, which instruction uses a value last, who
is the only consumer of a value. Running is then one loop over the instructions: take the inputs
from their slots, call the kernel, put the outputs into theirs.

Two things the loop is careful about:

- A slot is cleared after the last instruction that uses it. That bounds memory, and it drops the
  lease on a variable that was read, so that an update later in the step writes in place.
- A conditional leaves `DEAD` in the slots of the branch that was not taken, and a node with a dead
  input is skipped. Programs without conditionals do not pay for this.

Instructions run one after another in the order of the nodes, which the planner makes the order in
which the user created them: what has no dependency still has an order, and a test of it repeats.

Thread rule: a program is immutable once made; `run` may be called by several threads at once.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    ResourceExhaustedError,
    UnimplementedError,
)
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import Ref
from paramserve_core.executor.tracing import Execute, StageRecorder
from paramserve_core.graphdef import decode_attrs, split_input
from paramserve_core.kernels import KernelNode, find_kernel
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.registry import DEAD
from paramserve_core.opdefs import OpDef, find_op
from paramserve_protos.v1 import node_def_pb2

Array = NDArray[Any]

_BRANCHING: Final = frozenset({"Switch", "RefSwitch"})
_MERGING: Final = frozenset({"Merge", "RefMerge"})

_log = logging.getLogger(__name__)


class _Instruction:
    """One kernel call with its slots."""

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
        "wants_ref",
    )

    def __init__(
        self,
        index: int,
        node: KernelNode,
        inputs: tuple[int, ...],
        first_output: int,
        controls: tuple[int, ...],
        wants_ref: tuple[bool, ...],
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
        self.inputs = tuple(zip(inputs, wants_ref, strict=True))
        self.first_output = first_output
        self.output_count = len(node.output_dtypes)
        self.controls = controls
        self.is_merge = node.op in _MERGING
        self.freed: tuple[int, ...] = ()


class Program:
    """The compiled form of one stage.

    Args:
        nodes: the stage's nodes, each after those that it needs.
        received: names of the tensors that `run` is given.
        kept: names of the tensors that an earlier stage of the step retained.
        returned: names of the tensors that `run` answers.
        retained: names of the tensors that are put where a later stage finds them.

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
        compiler = _Compiler(list(nodes), received, kept, returned, retained)
        self._instructions = compiler.instructions
        self._template = compiler.template
        self._received = [compiler.slots[name] for name in received]
        self._kept = [(name, compiler.slots[name]) for name in kept]
        self._returned = [(name, compiler.slots[name]) for name in returned]
        self._retained = [(name, compiler.slots[name]) for name in retained]
        self._may_be_dead = compiler.may_be_dead
        self.changes_variables = compiler.changes_variables

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
        values = self._template.copy()
        for slot, array in zip(self._received, received, strict=True):
            values[slot] = array
        for name, slot in self._kept:
            values[slot] = kept[name]
        execute = _execute if recorder is None else recorder.recording(_execute)
        if self._may_be_dead:
            self._run_with_branches(step, values, execute)
        else:
            for instruction in self._instructions:
                execute(instruction, step, values)
        for name, slot in self._retained:
            kept[name] = values[slot]
        return [_result(name, values[slot]) for name, slot in self._returned]

    def _run_with_branches(self, step: StepContext, values: list[Any], execute: Execute) -> None:
        dead: set[int] = set()
        for instruction in self._instructions:
            alive = [values[slot] is not DEAD for slot, _ in instruction.inputs]
            skip = any(control in dead for control in instruction.controls) or (
                not any(alive) if instruction.is_merge else not all(alive)
            )
            if not skip:
                execute(instruction, step, values)
                continue
            dead.add(instruction.index)
            first = instruction.first_output
            values[first : first + instruction.output_count] = [DEAD] * instruction.output_count
            for slot in instruction.freed:
                values[slot] = None


def _execute(instruction: _Instruction, step: StepContext, values: list[Any]) -> None:
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
    except OpError as error:
        raise _named(error, instruction.node) from None
    except MemoryError as error:
        raise _named(
            ResourceExhaustedError(None, None, f"out of memory: {error}"), instruction.node
        ) from None
    except Exception as error:
        _log.exception("kernel of %s (%s) failed", instruction.node.name, instruction.node.op)
        raise _named(
            InternalError(None, None, f"{type(error).__name__}: {error}"), instruction.node
        ) from error
    count = instruction.output_count
    if count == 1:
        values[instruction.first_output] = _as_value(outputs)
    elif count:
        first = instruction.first_output
        values[first : first + count] = [_as_value(output) for output in outputs]


def _as_value(output: Any) -> Any:
    if output.__class__ is np.ndarray or output.__class__ is Ref or output is DEAD:
        return output
    return np.asarray(output)


def _result(name: str, value: Any) -> Array:
    if value.__class__ is Ref:
        try:
            array: Array = value.read()
        except OpError as error:
            error.node_name = error.node_name or split_input(name).node
            raise
        return array
    if value is DEAD:
        raise InvalidArgumentError(
            None,
            None,
            f"{name} has no value in this step: it is on the branch of a conditional that was not "
            "taken; fetch the conditional's result, or place the whole conditional on one task",
        )
    result: Array = value
    return result


def _named(error: OpError, node: KernelNode | node_def_pb2.NodeDef) -> OpError:
    if error.node_name is None:
        error.node_name = node.name
        error.op_type = node.op
    return error


class _Compiler:
    """Turns nodes into instructions; lives for the length of `Program.__init__`."""

    def __init__(
        self,
        nodes: Sequence[node_def_pb2.NodeDef],
        received: Sequence[str],
        kept: Sequence[str],
        returned: Sequence[str],
        retained: Sequence[str],
    ) -> None:
        self.slots: dict[str, int] = {}
        self.template: list[Any] = []
        self.instructions: list[_Instruction] = []
        self.changes_variables = False
        self.may_be_dead = bool(kept)
        for name in (*received, *kept):
            self._new_slot(name)
        definitions = [_definition(node) for node in nodes]
        outside = [*returned, *retained]
        uses = Counter(
            tensor
            for node in nodes
            for tensor in map(split_input, node.input)
            if tensor.index is not None
        )
        self._consumers = Counter({str(tensor): count for tensor, count in uses.items()})
        self._consumers.update(outside)
        self._read = _read_outputs(nodes, definitions) | set(outside)
        self._made: set[str] = set(received)
        self._index_of: dict[str, int] = {}
        for node, definition in zip(nodes, definitions, strict=True):
            self._add(node, definition)
        for name in outside:
            if name not in self.slots:
                raise InvalidArgumentError(None, None, f"{name} is not computed by this stage")
        self._free_after_last_use({self.slots[name] for name in outside})

    def _new_slot(self, name: str) -> int:
        slot = self.slots.setdefault(name, len(self.template))
        if slot == len(self.template):
            self.template.append(None)
        return slot

    def _add(self, node: node_def_pb2.NodeDef, definition: OpDef) -> None:
        attrs = decode_attrs(node, definition)
        output_dtypes = definition.output_dtypes(attrs)
        if node.op == "Const":
            value = attrs["value"]
            try:  # a message of some bytes may stand for a value of any size
                checked_size(value.shape, value.itemsize)
            except OpError as error:
                raise _named(error, node) from None
            if not (node.input and self.may_be_dead):
                self.template[self._new_slot(f"{node.name}:0")] = value
                return
            # It waits for a branch: where that is not taken, the constant must be missing too.
        names: list[str] = []
        controls: list[int] = []
        for tensor in map(split_input, node.input):
            if tensor.index is None:
                if tensor.node in self._index_of:
                    controls.append(self._index_of[tensor.node])
            elif str(tensor) in self.slots:
                names.append(str(tensor))
            else:
                raise InvalidArgumentError(
                    None, None, f"{node.name}: its input {tensor} is not computed before it"
                )
        input_dtypes = definition.input_dtypes(attrs)
        if len(names) != len(input_dtypes):
            raise InvalidArgumentError(
                None,
                None,
                f"{node.name}: op {node.op!r} takes {len(input_dtypes)} inputs, found {len(names)}",
            )
        outputs = [f"{node.name}:{i}" for i in range(len(output_dtypes))]
        first_output = len(self.template)
        for name in outputs:
            if name in self.slots:  # fed: the slot of the given value stays the one that is read
                self.template.append(None)
            else:
                self._new_slot(name)
        kernel_node = KernelNode(
            name=node.name,
            op=node.op,
            attrs=attrs,
            input_dtypes=input_dtypes,
            output_dtypes=output_dtypes,
            owned=tuple(n in self._made and self._consumers[n] == 1 for n in names),
            reads_output=bool(outputs) and outputs[0] in self._read,
        )
        self._index_of[node.name] = len(self.instructions)
        if node.op != "Const":  # the value of a constant is the graph's
            self._made.update(outputs)
        self.changes_variables |= definition.has_effect and any(t.is_ref for t in input_dtypes)
        self.may_be_dead |= node.op in _BRANCHING
        self.instructions.append(
            _Instruction(
                len(self.instructions),
                kernel_node,
                tuple(self.slots[name] for name in names),
                first_output,
                tuple(controls),
                tuple(t.is_ref for t in input_dtypes),
            )
        )

    def _free_after_last_use(self, needed: set[int]) -> None:
        used_later = set(needed)
        for instruction in reversed(self.instructions):
            slots = {slot for slot, _ in instruction.inputs} - used_later
            constants = {slot for slot in slots if self.template[slot] is not None}
            instruction.freed = tuple(sorted(slots - constants))
            used_later |= slots


def _definition(node: node_def_pb2.NodeDef) -> OpDef:
    definition = find_op(node.op)
    if definition is None:
        raise NotFoundError(
            None,
            None,
            f"Op type not registered {node.op!r}, wanted by node {node.name!r}; there is no such "
            "op here: build the graph from its own functions, or import one that uses known ops",
        )
    return definition


def _read_outputs(nodes: Sequence[node_def_pb2.NodeDef], definitions: Sequence[OpDef]) -> set[str]:
    """Names of the tensors that some node takes as a value, not as a reference."""
    read = set()
    for node, definition in zip(nodes, definitions, strict=True):
        takes_refs = any(arg.is_ref for arg in definition.inputs)
        wants = definition.input_dtypes(decode_attrs(node, definition)) if takes_refs else ()
        for i, tensor in enumerate(t for t in map(split_input, node.input) if t.index is not None):
            if i >= len(wants) or not wants[i].is_ref:
                read.add(str(tensor))
    return read
