"""The frame of a loop: its ends, and what is inside while it is built.

A tensor from outside that a loop uses comes in through an `Enter`, and stays what it is in every
iteration. An op that would use nothing of the running iteration waits for the loop's *pivot*, so
that it runs once in every iteration and never in one that does not happen. So what makes an op
part of a loop is in the graph itself, and an imported graph needs nothing else.

Thread rule: a loop is built by one thread, which holds the graph meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from paramserve._framework.graph import graph_of
from paramserve._framework.operation import Operation
from paramserve._framework.stacks import ControlFlow
from paramserve._framework.tensor import Tensor
from paramserve._ops.array import constant, identity
from paramserve._ops.emit import emit_tensor


def enter(
    data: Tensor, frame_name: str, parallel_iterations: int, *, is_constant: bool = False
) -> Tensor:
    """The tensor inside of a loop.

    Args:
        data: a tensor; a reference to a variable stays one.
        frame_name: the loop.
        parallel_iterations: what the loop says in all its ends.
        is_constant: it is there in every iteration, not in the first one only.
    """
    op_type = "RefEnter" if data.dtype.is_ref else "Enter"
    return emit_tensor(
        op_type,
        op_type,
        data=data,
        frame_name=frame_name,
        is_constant=is_constant,
        parallel_iterations=parallel_iterations,
    )


def next_iteration(data: Tensor) -> Tensor:
    """The tensor in the next iteration."""
    return emit_tensor("NextIteration", "NextIteration", data=data)


def leave(data: Tensor) -> Tensor:
    """The tensor outside of the loop."""
    return emit_tensor("Exit", "Exit", data=data)


class Loop:
    """One loop, while its functions run; a `ControlFlow`.

    Args:
        frame_name: its name, unique in the graph.
        outer: the branch or loop around it.
        parallel_iterations: an attribute of the graph.
        back_prop: whether gradients flow through it.
        swap_memory: an attribute of the graph.

    Attributes:
        pivot: a tensor that is there in every iteration, and only in those, of what is built now:
            of the condition, which is computed once more than the body, or of the body.
    """

    def __init__(
        self,
        frame_name: str,
        outer: ControlFlow | None,
        parallel_iterations: int,
        *,
        back_prop: bool = True,
        swap_memory: bool = False,
    ) -> None:
        self.frame_name = frame_name
        self.parallel_iterations = parallel_iterations
        self.back_prop = back_prop
        self.swap_memory = swap_memory
        self.pivot: Tensor | None = None
        self._outer = outer
        self._inside: set[Operation] = set()
        self._varying: set[Operation] = set()
        self._brought: dict[Tensor, Tensor] = {}
        self._awaited: dict[Operation, Operation] = {}

    def start(self, data: Tensor) -> Tensor:
        """The first value of a loop variable, inside; call it outside."""
        inside = enter(data, self.frame_name, self.parallel_iterations)
        self.entered(inside.op)
        return inside

    def turn_to(self, pivot: Tensor | None) -> None:
        """What follows is part of the condition, or of the body, and waits for `pivot`."""
        self.pivot = pivot
        self._varying = set() if pivot is None else {pivot.op}
        self._awaited.clear()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Makes the block's operations part of the loop.

        What the blocks around wait for, the loop's first values have waited for.
        """
        graph = graph_of(())
        with graph.control_dependencies(None), graph.control_flow(self):
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Makes the block's operations part of what is around the loop."""
        graph = graph_of(())
        with (
            graph.control_dependencies(None),
            graph.control_flow(self._outer),
            graph.colocate_with(None, ignore_existing=True),
        ):
            yield

    def admit(
        self, op_type: str, inputs: Sequence[Tensor], control_inputs: Sequence[Operation]
    ) -> tuple[Sequence[Tensor], Sequence[Operation]]:
        """See `ControlFlow`."""
        inputs = [self.bring(tensor) for tensor in inputs]
        control_inputs = [self.awaited(op) for op in control_inputs]
        sources = {*(tensor.op for tensor in inputs), *control_inputs}
        if self.pivot is not None and self._varying.isdisjoint(sources):
            control_inputs.append(self.pivot.op)
        return inputs, control_inputs

    def awaited(self, op: Operation) -> Operation:
        """See `ControlFlow`; an op outside is waited for by what enters the loop."""
        if op in self._inside:
            return op
        if op not in self._awaited:
            with self.outside(), graph_of([op]).control_dependencies([op]):
                done = constant(True, name="done")
            with self.building():
                self._awaited[op] = identity(done).op
        return self._awaited[op]

    def entered(self, op: Operation) -> None:
        """See `ControlFlow`; what has a value in every iteration cannot be fetched or fed."""
        self._inside.add(op)
        self._varying.add(op)
        op.graph.prevent_fetching(op)
        for tensor in op.values():
            op.graph.prevent_feeding(tensor)
        if self._outer is not None:
            self._outer.entered(op)

    def bring(self, tensor: Tensor) -> Tensor:
        """The tensor as it is inside the loop."""
        if tensor.op in self._inside:
            return tensor
        if tensor not in self._brought:
            graph = tensor.graph
            with self.outside():
                near = graph.colocate_with(tensor.op if tensor.dtype.is_ref else None, True)
                with near:
                    inside = enter(
                        tensor, self.frame_name, self.parallel_iterations, is_constant=True
                    )
            self.entered(inside.op)
            self._varying.discard(inside.op)
            self._brought[tensor] = inside
        return self._brought[tensor]

    def has(self, op: Operation) -> bool:
        """Whether an operation is inside of the loop."""
        return op in self._inside
