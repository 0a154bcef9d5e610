"""Gradients through loops: a loop backwards is a loop, which counts down.

The loop is differentiated as one, once the gradients of all that leaves it are there. The
*backward loop* runs as often as the loop did, and its loop variables are gradients: of each loop
variable, the gradient by its value before the iteration, and of each tensor from outside that the
loop uses, the sum over the iterations so far. Its body is what the walk makes of the body of the
loop; where it gets the values of the forward iteration is the matter of `backward_loop`.

This is the form that TensorFlow's gradients have, so a graph with them runs in either.

Thread rule: adds to the graph of the calling thread, and holds it meanwhile: nobody sees half a
loop. See `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._gradients.backward_loop import BackwardLoop, ForwardSide
from paramserve._gradients.loop_structure import ForwardLoop, LoopStructure, LoopVariable
from paramserve._ops.array import cast, constant, shape, zeros, zeros_like
from paramserve._ops.indexing import gather
from paramserve._ops.loop_frame import Loop, leave
from paramserve_core import dtypes

Gradient = Tensor | IndexedSlices


class Walk(Protocol):
    """What is needed of the walk that meets a loop."""

    def receive(self, tensor: Tensor, gradient: Gradient) -> None:
        """One of the gradients of `tensor`, which add up."""

    def arriving(self, tensor: Tensor) -> Gradient | None:
        """The sum of the gradients of `tensor`, which goes on to what computed it."""

    def through_body(
        self, loop: ForwardLoop, ys: Sequence[tuple[Tensor, Tensor]], xs: Sequence[Tensor]
    ) -> list[Gradient | None]:
        """The gradients of `xs`, the beginning of an iteration, by those of its end."""


def differentiate(
    walk: Walk,
    graph: Graph,
    loop: ForwardLoop,
    structure: LoopStructure,
    reached: set[Operation],
) -> None:
    """Brings the gradients of what leaves a loop to what enters it.

    Args:
        walk: the walk that has come to the loop.
        graph: the graph.
        loop: the loop.
        structure: what is known of loops.
        reached: the operations that lead from what gradients are wanted of.

    Raises:
        TypeError: the loop is the gradient of another one.
        ValueError: the loop has no condition.
    """
    exits = {v: None if v.exit is None else walk.arriving(v.exit) for v in loop.variables}
    if all(found is None for found in exits.values()):
        return
    if loop.condition is None:
        raise ValueError(f"the loop {loop.name!r} has no LoopCond, so it is no loop")
    region = loop.condition.control_flow
    if isinstance(region, Loop) and not region.back_prop:
        return
    variables = _varying(loop, [v for v, found in exits.items() if found is not None], reached)
    constants = [op for op in loop.constants if op in reached and _has_gradient(op.outputs[0])]
    if not variables and not constants:
        return
    if any(op.type == "StackPopV2" for op in loop.ops):
        raise TypeError(
            f"Second-order gradient for while loops not supported: {loop.name!r} computes the "
            "gradient of another loop"
        )
    outer = graph.current_control_flow
    with graph.all_at_once(), name_scope(f"{loop.name.rpartition('/')[2]}_grad") as scope:
        side = outer.side if isinstance(outer, BackwardLoop) else ForwardSide(structure, outer)
        backward = BackwardLoop(loop, loop.condition, side, graph, outer, scope)
        firsts = [_leaving(variable, exits[variable]) for variable in variables]
        afters, ends = backward.begin(firsts)
        xs = [*(v.merge for v in variables), *(op.outputs[0] for op in constants)]
        ys = [(v.following, after) for v, after in zip(variables, afters, strict=True)]
        with backward.building():
            found = walk.through_body(loop, ys, xs)
            befores = [
                zeros_like(after) if before is None else convert_to_tensor(before)
                for before, after in zip(found, afters, strict=False)
            ]
        totals = [
            _accumulated(backward, op.inputs[0], change)
            for op, change in zip(constants, found[len(variables) :], strict=True)
        ]
        backward.finish(befores)
        with backward.outside():
            for variable, end in zip(variables, ends, strict=True):
                walk.receive(variable.start, leave(end))
    for op, total in zip(constants, totals, strict=True):
        if total is not None:
            walk.receive(op.inputs[0], total)


def _has_gradient(tensor: Tensor) -> bool:
    dtype = tensor.dtype.base_dtype
    return dtype.is_floating or dtype.is_complex


def _varying(
    loop: ForwardLoop, ends: Sequence[LoopVariable], reached: set[Operation]
) -> list[LoopVariable]:
    """The loop variables that what leaves the loop depends on, in any iteration.

    Args:
        loop: the loop.
        ends: the loop variables that leave it with a gradient.
        reached: the operations that lead from what gradients are wanted of.
    """
    by_merge = {v.merge.op: v for v in loop.variables}
    found: set[Operation] = set()
    seen: set[Operation] = set()
    waiting = [v.merge.op for v in ends]
    while waiting:
        op = waiting.pop()
        if op in seen or op not in loop.ops:
            continue
        seen.add(op)
        if op in by_merge:
            found.add(op)
            waiting.append(by_merge[op].following.op)
        else:
            waiting += [tensor.op for tensor in op.inputs if _has_gradient(tensor)]
    return [
        v
        for v in loop.variables
        if v.merge.op in found and v.merge.op in reached and _has_gradient(v.merge)
    ]


def _leaving(variable: LoopVariable, gradient: Gradient | None) -> Tensor:
    """The gradient with which a loop variable leaves the loop."""
    if gradient is not None:
        result: Tensor = convert_to_tensor(gradient)
        return result
    return zeros_like(variable.start if variable.exit is None else variable.exit)


def _accumulated(
    backward: BackwardLoop, outside: Tensor, change: Gradient | None
) -> Gradient | None:
    """The sum of the gradients of a tensor from outside over all iterations."""
    if change is None:
        return None
    if isinstance(change, Tensor):
        with backward.outside():
            nothing = zeros_like(outside)
        return backward.accumulate(nothing, change, joins=False)
    with backward.outside():
        if outside.shape.ndims and outside.shape[1:].is_fully_defined():
            rows = zeros([0, *outside.shape[1:].as_list()], outside.dtype.base_dtype)
        else:
            rows = gather(outside, constant([], dtypes.int64))
        numbers = constant([], dtypes.int64)
        dense_shape = shape(outside, out_type=dtypes.int64)
    with backward.building():
        new_numbers = cast(change.indices, dtypes.int64)
    return IndexedSlices(
        backward.accumulate(rows, change.values, joins=True),
        backward.accumulate(numbers, new_numbers, joins=True),
        dense_shape,
    )
