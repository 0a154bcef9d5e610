"""From nodes to a row of instructions.

Compiling gives every tensor a slot in a list, decodes every attribute, and settles what can be
known beforehand: which values are constants, which instruction uses a value last, who is the only
consumer of a value.

A *block* is a row with its slots. A stage is one block; the loops in it, which are blocks in
blocks, are in `executor.loop_compiler`.

Thread rule: a compiler lives for the length of `Program.__init__`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from paramserve_core.errors import InvalidArgumentError, NotFoundError, OpError
from paramserve_core.executor.instruction import Instruction, Runnable, named
from paramserve_core.frames import SWITCH_OPS
from paramserve_core.graphdef import InputName, decode_attrs, split_input
from paramserve_core.kernels import KernelNode
from paramserve_core.kernels.limits import checked_size
from paramserve_core.opdefs import OpDef, find_op
from paramserve_protos.v1 import node_def_pb2


class StageNodes:
    """The nodes of a stage, and what is known of them all together.

    Args:
        nodes: the nodes, each after those that it needs.
        outside: names of the tensors that are used after the stage.

    Attributes:
        consumers: how many times each tensor is used.
        read: names of the tensors that something takes as a value, not as a reference.
        changes_variables: some op changes a variable; known once all nodes are compiled.

    Raises:
        InvalidArgumentError: a malformed node.
        NotFoundError: an op that is not in the registry.
    """

    def __init__(self, nodes: Iterable[node_def_pb2.NodeDef], outside: Sequence[str]) -> None:
        self.nodes = list(nodes)
        self.definitions = [_definition(node) for node in self.nodes]
        uses = Counter(
            tensor
            for node in self.nodes
            for tensor in map(split_input, node.input)
            if tensor.index is not None
        )
        self.consumers = Counter({str(tensor): count for tensor, count in uses.items()})
        self.consumers.update(outside)
        self.read = _read_outputs(self.nodes, self.definitions) | set(outside)
        self.changes_variables = False


class Block:
    """A row of instructions that is being put together, and the slots of its values.

    Args:
        stage: the stage that it is part of.
        received: names of tensors whose values are put into their slots before the row runs, and
            which it may keep.
        kept: names of others, which it may not keep, and which may be dead.

    Attributes:
        slots: tensor name to slot.
        template: the values that are known beforehand, None in the other slots.
        row: what runs.
        may_be_dead: some value may be dead.
    """

    def __init__(
        self,
        stage: StageNodes,
        received: Sequence[str] = (),
        kept: Sequence[str] = (),
    ) -> None:
        self.slots: dict[str, int] = {}
        self.template: list[Any] = []
        self.row: list[Runnable] = []
        self.may_be_dead = bool(kept)
        self._stage = stage
        self._made: set[str] = set(received)
        self._index_of: dict[str, int] = {}
        self._count = 0
        for name in (*received, *kept):
            self.new_slot(name)

    def new_slot(self, name: str) -> int:
        """The slot of a tensor, made if there is none."""
        slot = self.slots.setdefault(name, len(self.template))
        if slot == len(self.template):
            self.template.append(None)
        return slot

    def add(self, node: node_def_pb2.NodeDef, definition: OpDef) -> None:
        """Compiles one node.

        Raises:
            InvalidArgumentError: a malformed node, or one whose input was not computed before it.
        """
        attrs = decode_attrs(node, definition)
        output_dtypes = definition.output_dtypes(attrs)
        if node.op == "Const":
            value = attrs["value"]
            try:  # a message of some bytes may stand for a value of any size
                checked_size(value.shape, value.itemsize)
            except OpError as error:
                raise named(error, node) from None
            if not (node.input and self.may_be_dead):
                self.template[self.new_slot(f"{node.name}:0")] = value
                return
            # It waits for a branch: where that is not taken, the constant must be missing too.
        sources = [split_input(text) for text in node.input]
        names = self.tensors(node.name, sources)
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
                self.new_slot(name)
        kernel_node = KernelNode(
            name=node.name,
            op=node.op,
            attrs=attrs,
            input_dtypes=input_dtypes,
            output_dtypes=output_dtypes,
            owned=tuple(n in self._made and self._stage.consumers[n] == 1 for n in names),
            reads_output=bool(outputs) and outputs[0] in self._stage.read,
        )
        if node.op != "Const":  # the value of a constant is the graph's
            self._made.update(outputs)
        if definition.has_effect and any(t.is_ref for t in input_dtypes):
            self._stage.changes_variables = True
        self.may_be_dead |= node.op in SWITCH_OPS
        # A trigger fires when what it waits for is over, also where that did not run.
        controls = () if node.op == "ControlTrigger" else self.controls(sources)
        self.append(
            Instruction(
                self.next_index(node.name),
                kernel_node,
                tuple(self.slots[name] for name in names),
                first_output,
                controls,
            )
        )

    def append(self, runnable: Runnable) -> None:
        """Puts an instruction or a loop at the end of the row."""
        self.row.append(runnable)

    def next_index(self, *names: str) -> int:
        """The number of the next instruction, which runs the nodes of those names."""
        index = self._count
        self._count += 1
        self._index_of.update(dict.fromkeys(names, index))
        return index

    def tensors(self, node: str, sources: Iterable[InputName]) -> list[str]:
        """The names of the tensors among the sources of a node.

        Raises:
            InvalidArgumentError: one of them has no slot yet.
        """
        names = [str(source) for source in sources if source.index is not None]
        for name in names:
            if name not in self.slots:
                raise InvalidArgumentError(
                    None, None, f"{node}: its input {name} is not computed before it"
                )
        return names

    def controls(self, sources: Iterable[InputName]) -> tuple[int, ...]:
        """The numbers of the instructions among the sources that are waited for."""
        return tuple(
            self._index_of[source.node]
            for source in sources
            if source.index is None and source.node in self._index_of
        )

    def free_after_last_use(self, row: Sequence[Runnable], needed: Collection[int]) -> None:
        """Has each instruction clear the slots that nothing uses after it.

        Args:
            row: instructions that run one after another.
            needed: slots that are used after the last one.
        """
        used_later = set(needed)
        for runnable in reversed(row):
            slots = {slot for slot, _ in runnable.inputs} - used_later
            constants = {slot for slot in slots if self.template[slot] is not None}
            runnable.freed = tuple(sorted(slots - constants))
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
