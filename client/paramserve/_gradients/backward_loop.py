"""The loop that a loop is backwards, while it is built.

Its body needs tensors of the forward iteration. What comes from outside the loop is brought in
from there; anything else is pushed onto a stack in every forward iteration, and popped in every
backward one, newest first. A tensor in a branch of a conditional is not always there, and a stack
must not lose step: in its place something is pushed always, and what is popped goes down the same
branch.

All stacks are outside of all loops. A stack of an inner loop is in step because iterations of the
outer one wait for each other where TensorFlow would run them beside each other: the next one begins
to count when the inner loop of this one has been counted.

Thread rule: see `loops`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from paramserve._framework.graph import Graph
from paramserve._framework.operation import Operation
from paramserve._framework.stacks import ControlFlow
from paramserve._framework.tensor import Tensor
from paramserve._gradients.loop_structure import Conditions, ForwardLoop, LoopStructure
from paramserve._ops.array import constant, identity, zeros
from paramserve._ops.conditional import merge, switch
from paramserve._ops.emit import emit_operation, emit_tensor
from paramserve._ops.joining import concat
from paramserve._ops.loop_frame import Loop, enter, leave, next_iteration
from paramserve._ops.math import add, greater_equal, subtract
from paramserve_core.shapes import TensorShape

_MEASURES: Final = frozenset({"Rank", "Shape", "ShapeN", "Size"})
"""What these say of a forward tensor is kept in place of the tensor."""


class ForwardSide:
    """A `ControlFlow` that adds operations to a loop that is built already, or beside it.

    Args:
        structure: what is known of the loops.
        region: the branch or loop in which gradients were asked for.
    """

    def __init__(self, structure: LoopStructure, region: ControlFlow | None) -> None:
        self.structure = structure
        self._region = region

    def admit(
        self, op_type: str, inputs: Sequence[Tensor], control_inputs: Sequence[Operation]
    ) -> tuple[Sequence[Tensor], Sequence[Operation]]:
        """See `ControlFlow`; the inputs are where the operation is."""
        return inputs, control_inputs

    def awaited(self, op: Operation) -> Operation:
        """See `ControlFlow`."""
        return op

    def entered(self, op: Operation) -> None:
        """See `ControlFlow`."""
        self.structure.add(op)
        if self.structure.frame_around(op) is not None:
            op.graph.prevent_fetching(op)
        if self._region is not None:
            self._region.entered(op)

    @contextmanager
    def building(self, graph: Graph, *awaited: Operation) -> Iterator[None]:
        """Adds the block's operations, which wait for those given."""
        with (
            graph.control_dependencies(None),
            graph.colocate_with(None, ignore_existing=True),
            graph.control_flow(self),
            graph.control_dependencies(awaited),
        ):
            yield


class BackwardLoop(Loop):
    """The loop that a loop is backwards, while it is built; see `ControlFlow`.

    Args:
        forward: the loop.
        condition: its `LoopCond`.
        side: adds to the loop.
        graph: the graph of both.
        outer: the branch or loop around the backward loop.
        scope: the name scope of the backward loop.
    """

    def __init__(
        self,
        forward: ForwardLoop,
        condition: Operation,
        side: ForwardSide,
        graph: Graph,
        outer: ControlFlow | None,
        scope: str,
    ) -> None:
        super().__init__(f"{scope}while_context", outer, forward.parallel_iterations)
        self.side = side
        self._forward = forward
        self._graph = graph
        self._around = outer if isinstance(outer, BackwardLoop) else None
        self._popped: dict[Tensor, Tensor] = {}
        self._pushes: list[Operation] = []
        self._undone: list[Operation] = []
        region = condition.control_flow
        self._swaps = isinstance(region, Loop) and region.swap_memory
        self._count_iterations(condition)

    def _count_iterations(self, condition: Operation) -> None:
        """Makes the loop count as it runs."""
        side, graph, frame_name = self.side, self._graph, self._forward.frame.name
        turn = [] if self._around is None else [self._around._forward_index]
        # Where the loop does not run, because it is in a branch, nothing is counted.
        with side.building(graph):
            runs = identity(self._forward.variables[0].start)
        with side.building(graph, runs.op, *turn):
            none = constant(0, name="f_count")
            one = constant(1, name="f_one")
        with side.building(graph):
            begin = enter(none, frame_name, self.parallel_iterations)
            step = enter(one, frame_name, self.parallel_iterations, is_constant=True)
            self._forward_merge = merge([begin, begin])[0]
            ended, goes_on = switch(self._forward_merge, condition.outputs[0])
            self._forward_count = add(goes_on, step)
            self._iterations = leave(ended)

    @property
    def _forward_index(self) -> Operation:
        """Runs once in every iteration of the loop."""
        return self._forward_count.op

    def begin(self, firsts: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Begins to count down.

        Args:
            firsts: the gradients that leave the loop.

        Returns:
            Each gradient after the iteration that is being undone, and as it leaves the backward
            loop.
        """
        entered = [self.start(tensor) for tensor in (self._iterations, *firsts)]
        with self.building():
            self._merges = [merge([tensor, tensor])[0] for tensor in entered]
            self.turn_to(self._merges[0])
            for tensor in self._merges:
                self.entered(tensor.op)
            one = constant(1, name="b_one")
            self._condition = emit_tensor(
                "LoopCond", "b_count", input=greater_equal(self._merges[0], one)
            )
            ends, sides = self._switched(self._merges)
            self._count = subtract(sides[0], constant(1))
            self.turn_to(self._count)
            for tensor in sides:
                self.entered(tensor.op)
        if self._around is not None:
            with self.outside():
                self._around._undone.append(leave(ends[0]).op)
        return sides[1:], ends[1:]

    def _switched(self, tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        pairs = [switch(tensor, self._condition) for tensor in tensors]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]

    def accumulate(self, first: Tensor, change: Tensor, *, joins: bool) -> Tensor:
        """A loop variable that grows by `change`; answers it as it leaves the loop.

        Args:
            first: what it is before, outside.
            change: what is added in an iteration.
            joins: append rows in place of adding.
        """
        with self.outside():
            start = self.start(first)
        if joins:
            start._shape = _with_any_rows(start.shape)
        with self.building():
            merged = merge([start, start])[0]
            (end,), (side,) = self._switched([merged])
            total = concat([side, change], 0) if joins else add(side, change)
            self._graph.close_loop(merged.op, 1, next_iteration(total))
        with self.outside():
            return leave(end)

    def finish(self, befores: Sequence[Tensor]) -> None:
        """Ends an iteration with the gradients by what was there before it."""
        with self.building():
            for merged, tensor in zip(self._merges[1:], befores, strict=True):
                self._graph.close_loop(merged.op, 1, next_iteration(tensor))
            # Every stack is popped as often as it was pushed onto before the next one begins.
            with self._graph.control_dependencies(self._undone):
                done = [emit_operation("ControlTrigger", "b_sync")] if self._undone else []
            with self._graph.control_dependencies(done):
                following = next_iteration(self._count)
            self._graph.close_loop(self._merges[0].op, 1, following)
        with self.side.building(self._graph, *self._pushes):
            following = next_iteration(self._forward_count)
        self._graph.close_loop(self._forward_merge.op, 1, following)

    # What the body takes.

    def admit(
        self, op_type: str, inputs: Sequence[Tensor], control_inputs: Sequence[Operation]
    ) -> tuple[Sequence[Tensor], Sequence[Operation]]:
        """See `ControlFlow`."""
        if op_type in _MEASURES and all(self._is_forward(tensor) for tensor in inputs):
            return inputs, []
        return super().admit(op_type, inputs, control_inputs)

    def awaited(self, op: Operation) -> Operation:
        """See `ControlFlow`; the loop has ended long before."""
        return self._count.op if op in self._forward.ops else super().awaited(op)

    def entered(self, op: Operation) -> None:
        """See `ControlFlow`."""
        if op.type in _MEASURES and all(self._is_forward(tensor) for tensor in op.inputs):
            self.side.entered(op)
        else:
            super().entered(op)

    def _is_forward(self, tensor: Tensor) -> bool:
        return self.side.structure.frame_around(tensor.op) is self._forward.frame

    def bring(self, tensor: Tensor) -> Tensor:
        """The tensor as it is in the backward loop."""
        if self.has(tensor.op) or not self._is_forward(tensor):
            return super().bring(tensor)
        op = tensor.op
        if op in self._forward.constants:
            return self.bring(op.inputs[0])
        if tensor not in self._popped:
            with self._graph.colocate_with(None, ignore_existing=True):
                if op.type == "Const":
                    with self.building():
                        again = self._graph.add_operation(op.definition, op.attrs, [], "Const")
                    self._popped[tensor] = again.outputs[0]
                else:
                    self._popped[tensor] = self._pop(tensor)
        return self._popped[tensor]

    def _pop(self, tensor: Tensor) -> Tensor:
        """What `tensor` was in the iteration that is being undone."""
        conditions = self.side.structure.conditions_of(tensor)
        handle = self._push(tensor, conditions)
        with self.building():
            handle = self.bring(handle)
            with self._graph.control_dependencies([self._count.op]):
                value = emit_tensor(
                    "StackPopV2", "StackPopV2", handle=handle, elem_type=tensor.dtype.base_dtype
                )
            self._undone.append(value.op)
            value.set_shape(tensor.shape)
            for pred, side in conditions:
                value = switch(value, pred)[side]
        return value

    def _push(self, tensor: Tensor, conditions: Conditions) -> Tensor:
        """Keeps `tensor` in every iteration of the loop; answers the handle of its stack."""
        graph = self._graph
        with self._outside_all():
            handle = emit_tensor(
                "StackV2",
                "f_acc",
                max_size=constant(-1),
                elem_type=tensor.dtype.base_dtype,
            )
        with self.side.building(graph):
            inside = self._in_forward(handle)
            value = self._always(tensor, conditions)
        with self.side.building(graph, self._forward_index):
            pushed = emit_tensor(
                "StackPushV2", "StackPushV2", handle=inside, elem=value, swap_memory=self._swaps
            )
        self._pushes.append(pushed.op)
        return handle

    @contextmanager
    def _outside_all(self) -> Iterator[None]:
        """Makes the block's operations part of where gradients were asked for."""
        backward = self
        while backward._around is not None:
            backward = backward._around
        with backward.outside():
            yield

    def _in_forward(self, handle: Tensor) -> Tensor:
        """The handle of a stack as it is in the loop."""
        if self._around is not None:
            handle = self._around._in_forward(handle)
        return enter(handle, self._forward.frame.name, self.parallel_iterations, is_constant=True)

    def _always(self, tensor: Tensor, conditions: Conditions) -> Tensor:
        """`tensor` where it is there, else anything of its type."""
        if not conditions:
            return tensor
        with self._graph.control_dependencies([self._forward_index]):
            nothing = zeros([], tensor.dtype.base_dtype)
        others: list[Tensor] = []
        for pred, side in conditions:
            sides = switch(nothing, pred)
            nothing = sides[side]
            others.append(sides[1 - side])
        for other in reversed(others):
            tensor = merge([tensor, other])[0]
        return tensor


def _with_any_rows(found: TensorShape) -> TensorShape:
    return found if not found.ndims else TensorShape([None, *found.as_list()[1:]])
