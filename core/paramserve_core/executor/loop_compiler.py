"""Compiles the loops of a stage.

The nodes of a frame fall into three parts, by the switches that go by its `LoopCond`: the head
does not depend on them, the body depends on what they let through, and the tail on what they send
out. The switches themselves, and the merges at the beginning of an iteration, are only slots. A
loop in a loop is an instruction of its row.

A frame that is not of this form makes no sense, or makes one that nobody writes (a dataflow
machine would run a frame without a condition for ever), and is refused.

Thread rule: see `executor.compiler`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.executor.compiler import Block, StageNodes
from paramserve_core.executor.instruction import Runnable, named
from paramserve_core.executor.loops import BODY, HEAD, TAIL, Carried, Loop, Passage
from paramserve_core.frames import (
    ENTER_OPS,
    EXIT_OPS,
    FRAME_NAME,
    LOOP_OPS,
    MERGE_OPS,
    NEXT_OPS,
    SWITCH_OPS,
    Frame,
    Frames,
    is_back_edge,
)
from paramserve_core.graphdef import InputName, decode_attrs, split_input
from paramserve_core.opdefs import OpDef
from paramserve_protos.v1 import node_def_pb2


class _Placed(NamedTuple):
    """A node and the loop that it is part of."""

    node: node_def_pb2.NodeDef
    definition: OpDef
    frame: Frame | None


def add_nodes(block: Block, stage: StageNodes) -> None:
    """Compiles all nodes of a stage into its block.

    Raises:
        InvalidArgumentError: a malformed node or loop, or a node whose input was not computed
            before it.
    """
    if not any(node.op in LOOP_OPS for node in stage.nodes):
        for node, definition in zip(stage.nodes, stage.definitions, strict=True):
            block.add(node, definition)
        return
    _add_placed(block, stage, _placed(stage), None)


def _placed(stage: StageNodes) -> list[_Placed]:
    """The nodes with their loops."""
    ops = {node.name: node.op for node in stage.nodes}
    frames = Frames()
    result: list[_Placed] = []
    back_edges: list[tuple[str, node_def_pb2.NodeDef]] = []
    for node, definition in zip(stage.nodes, stage.definitions, strict=True):
        sources: list[str] = []
        for source in map(split_input, node.input):
            if source.index is not None and is_back_edge(ops.get(source.node, ""), node.op):
                back_edges.append((source.node, node))
            else:
                sources.append(source.node)
        name = ""
        if node.op in ENTER_OPS:
            name = decode_attrs(node, definition)[FRAME_NAME]
        try:
            frame = frames.add(node.name, node.op, sources, name)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(node, None, error.message) from None
        result.append(_Placed(node, definition, frame))
    for source_name, merge in back_edges:
        try:
            frames.check_back_edge(source_name, merge.name)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(merge, None, error.message) from None
    return result


def _add_placed(
    block: Block, stage: StageNodes, nodes: Sequence[_Placed], at: Frame | None
) -> None:
    """Compiles the nodes of one frame into its block, and those of each inner loop as one."""
    depth = 0 if at is None else at.depth
    inner = [
        None if item.frame is at or item.frame is None else item.frame.at_depth(depth + 1)
        for item in nodes
    ]
    missing = Counter(frame for frame in inner if frame is not None)
    groups: dict[Frame, list[_Placed]] = {}
    for item, frame in zip(nodes, inner, strict=True):
        if frame is None:
            block.add(item.node, item.definition)
            continue
        group = groups.setdefault(frame, [])
        group.append(item)
        if len(group) == missing[frame]:
            try:
                loop = _LoopBlock(block, stage, frame)
                _add_placed(loop, stage, group, frame)
                loop.finish()
            except OpError as error:
                raise named(error, group[0].node) from None


class _LoopBlock(Block):
    """The block of one loop while it is compiled.

    Args:
        outer: the block that the loop stands in.
        stage: the stage.
        frame: the loop.
    """

    def __init__(self, outer: Block, stage: StageNodes, frame: Frame) -> None:
        super().__init__(stage)
        self._outer = outer
        self._frame = frame
        self._parts: tuple[list[Runnable], ...] = ([], [], [])
        self._part_of: dict[str, int] = {}
        self._constants: list[Passage] = []
        self._outer_sources: list[InputName] = []
        self._entering: dict[str, int] = {}
        self._begins: dict[str, tuple[str, str, bool]] = {}
        self._nexts: dict[str, str] = {}
        self._condition: node_def_pb2.NodeDef | None = None
        self._switched: set[int] = set()
        self._exits: list[tuple[node_def_pb2.NodeDef, int]] = []

    def add(self, node: node_def_pb2.NodeDef, definition: OpDef) -> None:
        """See `Block.add`; the ends of the loop become slots."""
        sources = [split_input(text) for text in node.input]
        tensors = [source for source in sources if source.index is not None]
        attrs = decode_attrs(node, definition)
        if len(tensors) != len(definition.input_dtypes(attrs)):
            raise self._invalid(
                f"{node.name}: op {node.op!r} takes {len(definition.input_dtypes(attrs))} inputs, "
                f"found {len(tensors)}"
            )
        if node.op in ENTER_OPS:
            self._add_enter(node, sources, is_constant=attrs["is_constant"])
        elif node.op in MERGE_OPS and any(s.node in self._entering for s in tensors):
            self._add_carried(node, tensors)
        elif node.op == "LoopCond":
            self._add_condition(node, tensors[0])
        elif node.op in SWITCH_OPS and self._is_condition(tensors[1]):
            self._add_switch(node, tensors[0])
        elif node.op in NEXT_OPS:
            (name,) = self.tensors(node.name, tensors)
            self._nexts[node.name] = name
            self._part_of[node.name] = self._part(node.name, sources)
        elif node.op in EXIT_OPS:
            self._add_exit(node, tensors[0])
        else:
            part = self._part_of[node.name] = self._part(node.name, sources)
            self.row = self._parts[part]
            super().add(node, definition)

    def tensors(self, node: str, sources: Iterable[InputName]) -> list[str]:
        """See `Block.tensors`."""
        sources = list(sources)
        for source in sources:
            if source.node in self._entering:
                raise self._invalid(
                    f"{node} takes {source}, which is there in the first iteration only; an Enter "
                    "that is not constant leads to a Merge"
                )
        return super().tensors(node, sources)

    def place(self, names: Iterable[str], sources: Iterable[InputName]) -> None:
        """Chooses the part that an inner loop, whose exits have those names, goes into."""
        names = list(names)
        part = self._part(names[0] if names else self._frame.name, sources)
        self._part_of.update(dict.fromkeys(names, part))
        self.row = self._parts[part]

    def _part(self, node: str, sources: Iterable[InputName]) -> int:
        parts = {
            self._part_of.get(str(source), self._part_of.get(source.node, HEAD))
            for source in sources
        }
        if parts >= {BODY, TAIL}:
            raise self._invalid(
                f"{node} takes what is inside the loop's body and what has left it; only one of "
                "the two is ever there"
            )
        return max(parts, default=HEAD)

    def _add_enter(
        self, node: node_def_pb2.NodeDef, sources: Sequence[InputName], *, is_constant: bool
    ) -> None:
        (name,) = self._outer.tensors(node.name, (s for s in sources if s.index is not None))
        self._outer_sources += sources
        source = self._outer.slots[name]
        if is_constant:
            slot = self.new_slot(f"{node.name}:0")
            self._constants.append(Passage(source, slot, node.op == "RefEnter"))
        else:
            self._entering[node.name] = source

    def _add_carried(self, node: node_def_pb2.NodeDef, tensors: Sequence[InputName]) -> None:
        enters = [source.node for source in tensors if source.node in self._entering]
        others = [source.node for source in tensors if source.node not in self._entering]
        if len(tensors) != 2 or len(enters) != 1 or str(tensors[0]) != f"{enters[0]}:0":
            raise self._invalid(
                f"{node.name}: a Merge of a loop variable takes an Enter and then a "
                f"NextIteration, found {', '.join(map(str, tensors))}"
            )
        self.new_slot(f"{node.name}:0")
        self._begins[node.name] = (enters[0], others[0], node.op == "RefMerge")
        if self._stage.consumers[f"{node.name}:1"]:
            self.new_slot(f"{node.name}:1")

    def _add_condition(self, node: node_def_pb2.NodeDef, source: InputName) -> None:
        if self._condition is not None:
            raise self._invalid(
                f"the loop has two conditions, {self._condition.name} and {node.name}; two loops "
                "beside each other must have different frame names"
            )
        (name,) = self.tensors(node.name, [source])
        if self._part(node.name, [source]) != HEAD:
            raise self._invalid(f"{node.name}: the loop's condition depends on its own outcome")
        self._condition = node
        self.slots[f"{node.name}:0"] = self.slots[name]

    def _is_condition(self, source: InputName) -> bool:
        return self._condition is not None and source.node == self._condition.name

    def _add_switch(self, node: node_def_pb2.NodeDef, source: InputName) -> None:
        (name,) = self.tensors(node.name, [source])
        if self._part(node.name, [source]) != HEAD:
            raise self._invalid(f"{node.name} takes {name}, which is inside the loop's body")
        for side, part in enumerate((TAIL, BODY)):
            self.slots[f"{node.name}:{side}"] = self.slots[name]
            self._part_of[f"{node.name}:{side}"] = part
        self._switched.add(self.slots[name])

    def _add_exit(self, node: node_def_pb2.NodeDef, source: InputName) -> None:
        (name,) = self.tensors(node.name, [source])
        if self._part(node.name, [source]) != TAIL:
            raise self._invalid(
                f"{node.name} takes {name}, which does not wait for the end of the loop: an Exit "
                "takes what a Switch by the LoopCond sends out"
            )
        self._exits.append((node, self.slots[name]))

    def finish(self) -> None:
        """Puts the loop into the outer block.

        Raises:
            InvalidArgumentError: the loop is not whole.
        """
        if self._condition is None:
            raise self._invalid(
                "the loop has no LoopCond; an op inside of a loop can be run only with the loop"
            )
        merged = {enter for enter, _, _ in self._begins.values()}
        for enter in self._entering:
            if enter not in merged:
                raise self._invalid(f"{enter} is not constant and leads to no Merge")
        starts: list[Passage] = []
        carried: list[Carried] = []
        for merge, (enter, following, as_ref) in self._begins.items():
            if following not in self._nexts:
                raise self._invalid(f"{merge}: {following} is no NextIteration of this loop")
            slot = self.slots[f"{merge}:0"]
            starts.append(Passage(self._entering[enter], slot, as_ref))
            next_slot = self.slots[self._nexts[following]]
            carried.append(Carried(slot, self.slots.get(f"{merge}:1"), next_slot, as_ref))
        head, body, tail = self._parts
        kept = {entering.slot for entering in (*self._constants, *starts)}
        kept |= {slot for c in carried for slot in (c.next_slot, c.index_slot) if slot is not None}
        kept |= {slot for _, slot in self._exits} | self._switched
        kept |= {slot for runnable in tail for slot, _ in runnable.inputs}
        kept.add(condition := self.slots[f"{self._condition.name}:0"])
        self.free_after_last_use([*head, *body], kept)
        sources = list(dict.fromkeys(self._outer_sources))
        outer = self._outer
        if isinstance(outer, _LoopBlock):
            outer.place([node.name for node, _ in self._exits], sources)
        exits = [
            Passage(slot, outer.new_slot(f"{node.name}:0"), node.op == "RefExit")
            for node, slot in self._exits
        ]
        outer.append(
            Loop(
                outer.next_index(*(node.name for node, _ in self._exits)),
                name=self._condition,
                constants=tuple(self._constants),
                starts=tuple(starts),
                carried=tuple(carried),
                exits=tuple(exits),
                parts=self._parts,
                branches=self.may_be_dead,
                condition=condition,
                template=self.template,
                controls=outer.controls(sources),
            )
        )

    def _invalid(self, text: str) -> InvalidArgumentError:
        return InvalidArgumentError(None, None, f"loop {self._frame.name!r}: {text}")
