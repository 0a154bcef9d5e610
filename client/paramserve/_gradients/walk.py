"""Gradients: from what was computed back to what it was computed from.

Reverse-mode differentiation of the graph: the ops between `xs` and `ys` are taken in the reverse
order of their creation, which is an order in which every op comes after all that use it; each op's
gradient function is given the gradients of its outputs, and answers those of its inputs; what
several users of a tensor answer is added. The result is more graph, so it has gradients itself.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

import enum
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

from paramserve._framework.convert import (
    convert_n_to_tensor,
    convert_to_tensor,
    convert_to_tensor_or_indexed_slices,
)
from paramserve._framework.gradient_registry import GradientFunction, get_gradient_function
from paramserve._framework.graph import Graph, graph_of
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._gradients.handling import is_missing_taken, is_sparse_taken
from paramserve._gradients.loop_structure import ForwardLoop, LoopStructure, is_start
from paramserve._gradients.loops import differentiate
from paramserve._ops.array import cast, constant, fill, shape, zeros_like
from paramserve._ops.control import tuple as gated
from paramserve._ops.joining import concat
from paramserve._ops.math import add
from paramserve._ops.math_reduce import accumulate_n, add_n
from paramserve_core import dtypes
from paramserve_core.dtypes import DType
from paramserve_core.frames import ENTER_OPS, Frame

Gradient = Tensor | IndexedSlices


class AggregationMethod:
    """How several gradients of one tensor are added.

    ADD_N, the default, adds them when all are there. EXPERIMENTAL_TREE adds pairs, which frees
    memory earlier. EXPERIMENTAL_ACCUMULATE_N is ADD_N by another op.
    """

    ADD_N: ClassVar[int] = 0
    DEFAULT: ClassVar[int] = 0
    EXPERIMENTAL_TREE: ClassVar[int] = 1
    EXPERIMENTAL_ACCUMULATE_N: ClassVar[int] = 2


class UnconnectedGradients(enum.Enum):
    """What `gradients` answers for a tensor that the result does not depend on."""

    NONE = "none"
    ZERO = "zero"


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: UnconnectedGradients | str = UnconnectedGradients.NONE,
) -> list[Gradient | None]:
    """The derivatives of the sum of `ys` by each of `xs`.

    The gradient of what was gathered from is an `IndexedSlices`, as long as nothing else needs it
    dense. Nothing flows through `stop_gradient`, through ops of integers, or into `stop_gradients`.

    Args:
        ys: a tensor or a list of tensors.
        xs: a tensor or variable, or a list of those.
        grad_ys: what each of `ys` counts, a tensor of its shape or None for ones; all ones by
            default.
        name: the scope of the ops.
        colocate_gradients_with_ops: put the gradients of each op where the op is.
        gate_gradients: make all gradients of an op be there before any of them is used.
        aggregation_method: one of `AggregationMethod`.
        stop_gradients: tensors that count as constants.
        unconnected_gradients: one of `UnconnectedGradients` or its value.

    Returns:
        A gradient for each of `xs`; None, or zeros, where `ys` do not depend on it.

    Raises:
        LookupError: an op on the way has no gradient function.
        TypeError: a gradient of another kind of type than what it is the gradient of.
        ValueError: lengths that differ, an unknown aggregation method or way to handle unconnected
            gradients, or a gradient function whose answer does not fit its op.
    """
    try:
        unconnected = UnconnectedGradients(unconnected_gradients)
    except ValueError:
        raise ValueError(
            f"Unknown value for unconnected_gradients: {unconnected_gradients!r}; one of "
            f"{[kind.value for kind in UnconnectedGradients]}"
        ) from None
    method = AggregationMethod.DEFAULT if aggregation_method is None else aggregation_method
    if method not in (
        AggregationMethod.ADD_N,
        AggregationMethod.EXPERIMENTAL_TREE,
        AggregationMethod.EXPERIMENTAL_ACCUMULATE_N,
    ):
        raise ValueError(f"Invalid aggregation_method specified {aggregation_method!r}")
    y_list, x_list = _as_list(ys), _as_list(xs)
    stops = [] if stop_gradients is None else _as_list(stop_gradients)
    given = [None] * len(y_list) if grad_ys is None else _as_list(grad_ys)
    if len(given) != len(y_list):
        raise ValueError(f"there are {len(y_list)} ys, but {len(given)} grad_ys")
    graph = graph_of([*y_list, *x_list])
    with graph.as_default(), name_scope(name, "gradients", [*y_list, *x_list, *stops]):
        y_tensors = convert_n_to_tensor(y_list, name="y")
        x_tensors = convert_n_to_tensor(x_list, name="x", as_ref=True)
        stop_tensors = convert_n_to_tensor(stops, name="stop", as_ref=True)
        walk = _Walk(graph, method, colocate_gradients_with_ops, gate_gradients)
        for i, (y, grad_y) in enumerate(zip(y_tensors, given, strict=True)):
            with walk.place_of(y.op):
                walk.receive(y, _initial(y, grad_y, i))
        walk.run(y_tensors, x_tensors, stop_tensors)
        found = [walk.gradient(x) for x in x_tensors]
        if unconnected is UnconnectedGradients.ZERO:
            return [
                zeros_like(x) if gradient is None else gradient
                for x, gradient in zip(x_tensors, found, strict=True)
            ]
        return found


def _as_list(values: Any) -> list[Any]:
    return list(values) if isinstance(values, (list, tuple)) else [values]


def _initial(y: Tensor, grad_y: TensorLike | None, index: int) -> Gradient:
    """What `y` counts.

    Raises:
        TypeError: a complex `y` without `grad_ys`, or a gradient of another kind of type.
    """
    dtype = y.dtype.base_dtype
    name = f"grad_ys_{index}"
    if grad_y is None:
        if dtype.is_complex:
            raise TypeError(
                f"Gradients of complex tensors must set grad_ys ({y.name} has type {dtype.name})"
            )
        if not (dtype.is_floating or dtype.is_integer):
            raise TypeError(f"{y.name} is of type {dtype.name}, which has no gradients")
        return fill(shape(y), constant(1, dtype), name=name)
    wanted = None if hasattr(grad_y, "dtype") else dtype
    result = convert_to_tensor_or_indexed_slices(grad_y, wanted, name=name)
    if _kind(result.dtype.base_dtype) != _kind(dtype):
        raise TypeError(
            f"Gradient type {result.dtype.name} generated for tensor {y.name} with type "
            f"{dtype.name}: both must be real, or both complex"
        )
    return result


def _kind(dtype: DType) -> str:
    if dtype.is_complex:
        return "complex"
    return "real" if dtype.is_floating or dtype.is_integer else dtype.name


def _has_gradient(tensor: Tensor) -> bool:
    """Whether a gradient may flow through a tensor of this type."""
    dtype = tensor.dtype.base_dtype
    return dtype.is_floating or dtype.is_complex


class _Walk:
    """One call of `gradients`."""

    def __init__(self, graph: Graph, method: int, colocate: bool, gate: bool) -> None:
        self._graph = graph
        self._method = method
        self._colocate = colocate
        self._gate = gate
        self._received: dict[Tensor, list[Gradient]] = {}
        self._stopped: set[Tensor] = set()
        self._structure: LoopStructure | None = None

    def receive(self, tensor: Tensor, gradient: Gradient) -> None:
        """One of the gradients of `tensor`, which add up."""
        self._received.setdefault(tensor, []).append(gradient)

    def gradient(self, tensor: Tensor) -> Gradient | None:
        """The sum of the gradients of `tensor` that there are by now."""
        parts = self._received.get(tensor)
        if not parts:
            return None
        if len(parts) > 1:
            parts[:] = [self._sum(parts, tensor)]
        return parts[0]

    def arriving(self, tensor: Tensor) -> Gradient | None:
        """The gradient of `tensor` that goes on to what computed it."""
        return None if tensor in self._stopped else self.gradient(tensor)

    def run(self, ys: Sequence[Tensor], xs: Sequence[Tensor], stops: Sequence[Tensor]) -> None:
        """Brings the gradients from `ys` to `xs`."""
        self._stopped = set(stops)
        between = _between(ys, xs, self._stopped)
        if any(op.type in ENTER_OPS for op in between):
            self._structure = structure = LoopStructure(ys)
            inside = max((structure.frame_around(y.op) for y in ys), key=_depth)
            self._run_around_loops(structure.order, inside, between)
        else:
            for op in reversed(self._graph.get_operations()):
                self._run_through(op, between)

    def _run_through(self, op: Operation, between: Mapping[Operation, Sequence[bool]]) -> None:
        if op in between:
            self._pass_on(op, list(map(self.arriving, op.outputs)), between[op])

    def _run_around_loops(
        self,
        order: Iterable[Operation],
        inside: Frame | None,
        between: Mapping[Operation, Sequence[bool]],
    ) -> None:
        """As `run`, where an inner loop is one step.

        Args:
            order: the operations, those of a loop side by side.
            inside: the loop whose body the gradients are of.
            between: the operations that lead to them.
        """
        structure = self._structure
        assert structure is not None
        done: set[Frame] = set()
        for op in reversed(list(order)):
            frame = structure.frame_of(op)
            loop = None if frame is None else _outermost_beside(frame, inside)
            if loop is None:
                # The value with which an iteration of `inside` begins is what it is.
                if not is_start(op):
                    self._run_through(op, between)
            elif loop not in done:
                done.add(loop)
                differentiate(self, self._graph, structure.loops[loop], structure, set(between))

    def through_body(
        self, loop: ForwardLoop, ys: Sequence[tuple[Tensor, Tensor]], xs: Sequence[Tensor]
    ) -> list[Gradient | None]:
        """The gradients of `xs`, the beginning of an iteration, by those of its end.

        Args:
            loop: the loop.
            ys: what the iteration ends with, and the gradients of that.
            xs: what it begins with.
        """
        inner = _Walk(self._graph, self._method, self._colocate, self._gate)
        inner._structure, inner._stopped = self._structure, self._stopped
        for y, gradient in ys:
            inner.receive(y, gradient)
        between = _between([y for y, _ in ys], xs, self._stopped, within=loop.ops)
        inner._run_around_loops(list(loop.ops), loop.frame, between)
        return [inner.gradient(x) for x in xs]

    def _pass_on(
        self, op: Operation, outputs: Sequence[Gradient | None], wanted: Sequence[bool]
    ) -> None:
        """Gives the inputs of `op` that are wanted their gradients."""
        if all(gradient is None for gradient in outputs):
            return
        function = get_gradient_function(op)
        if function is None:
            return
        with self._scope_of(op):
            found = _answer(function, op, _prepared(function, op, outputs))
            if self._gate and sum(gradient is not None for gradient in found) > 1:
                found = gated(found)
        for tensor, gradient, is_wanted in zip(op.inputs, found, wanted, strict=True):
            if is_wanted and gradient is not None and _has_gradient(tensor):
                _check_fits(op, tensor, gradient)
                self.receive(tensor, gradient)

    def place_of(self, op: Operation) -> AbstractContextManager[None]:
        """Puts a block's operations where `op` is, if that was asked for."""
        return self._graph.colocate_with(op) if self._colocate else nullcontext()

    @contextmanager
    def _scope_of(self, op: Operation) -> Iterator[None]:
        with name_scope(f"{op.name}_grad"), self.place_of(op):
            yield

    def _sum(self, parts: list[Gradient], tensor: Tensor) -> Gradient:
        with self.place_of(parts[0].op):
            sparse = [part for part in parts if isinstance(part, IndexedSlices)]
            if len(sparse) == len(parts):
                return _joined(sparse)
            dense = [convert_to_tensor(part) for part in parts]
            if self._method == AggregationMethod.EXPERIMENTAL_TREE:
                return _tree_sum(dense)
            if self._method == AggregationMethod.EXPERIMENTAL_ACCUMULATE_N:
                return accumulate_n(dense)
            return add_n(dense)


def _between(
    ys: Iterable[Tensor],
    xs: Iterable[Tensor],
    stopped: set[Tensor],
    within: Container[Operation] | None = None,
) -> dict[Operation, list[bool]]:
    """The ops that lead from `xs` to `ys`, and which of their inputs depend on `xs`.

    Args:
        ys: where they lead to.
        xs: where they lead from.
        stopped: what they do not lead through.
        within: what the ops are among; all by default.
    """
    needed: set[Operation] = set()
    waiting = [y.op for y in ys]
    while waiting:
        op = waiting.pop()
        if op not in needed and (within is None or op in within):
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs]
    reached = set(xs)
    between: dict[Operation, list[bool]] = {}
    frontier = list(reached)
    while frontier:
        for op in frontier.pop().consumers():
            if op not in needed or op in between:
                continue
            between[op] = []
            fresh = [t for t in op.outputs if t not in reached and t not in stopped]
            reached.update(fresh)
            frontier += fresh
    return {op: [tensor in reached for tensor in op.inputs] for op in between}


def _depth(frame: Frame | None) -> int:
    return 0 if frame is None else frame.depth


def _outermost_beside(frame: Frame, inside: Frame | None) -> Frame | None:
    """The outermost loop around what is in `frame` that is not around `inside`, if any."""
    for depth in range(1, frame.depth + 1):
        loop = frame.at_depth(depth)
        if inside is None or not inside.is_in(loop):
            return loop
    return None


def _prepared(
    function: GradientFunction, op: Operation, found: Sequence[Gradient | None]
) -> list[Gradient | None]:
    """The gradients of the outputs in the form that the function takes."""
    result: list[Gradient | None] = []
    for tensor, gradient in zip(op.outputs, found, strict=True):
        if isinstance(gradient, IndexedSlices) and not is_sparse_taken(function):
            gradient = convert_to_tensor(gradient)
        if gradient is None and _has_gradient(tensor) and not is_missing_taken(function):
            gradient = zeros_like(tensor)
        result.append(gradient)
    return result


def _answer(
    function: GradientFunction, op: Operation, given: Sequence[Gradient | None]
) -> list[Gradient | None]:
    """What the function answers, one gradient per input.

    Raises:
        ValueError: it answers another number of gradients.
    """
    answer = function(op, *given)
    found = _as_list(answer)
    if len(found) != len(op.inputs):
        raise ValueError(
            f"Num gradients {len(found)} generated for op {op.name} ({op.type}) do not match num "
            f"inputs {len(op.inputs)}"
        )
    return [
        gradient
        if gradient is None or isinstance(gradient, (Tensor, IndexedSlices))
        else convert_to_tensor(gradient)
        for gradient in found
    ]


def _check_fits(op: Operation, tensor: Tensor, gradient: Gradient) -> None:
    """Raises ValueError where a gradient cannot be that of `tensor`."""
    if _kind(gradient.dtype.base_dtype) != _kind(tensor.dtype.base_dtype):
        raise ValueError(
            f"the gradient function of {op.name} ({op.type}) answers {gradient.dtype.name} for "
            f"{tensor.name}, which is {tensor.dtype.name}"
        )
    if isinstance(gradient, Tensor):
        try:
            gradient.set_shape(tensor.shape)
        except ValueError as error:
            raise ValueError(
                "Incompatible shapes between op input and calculated input gradient. Forward "
                f"operation: {op.name} ({op.type}), input: {tensor.name}. {error}"
            ) from None


def _joined(parts: Sequence[IndexedSlices]) -> IndexedSlices:
    """The rows of all, one after another; rows of one number add up where they are used."""
    indices = [part.indices for part in parts]
    if len({tensor.dtype.base_dtype for tensor in indices}) > 1:
        indices = [cast(tensor, dtypes.int64) for tensor in indices]
    dense_shape = next((p.dense_shape for p in parts if p.dense_shape is not None), None)
    return IndexedSlices(concat([p.values for p in parts], 0), concat(indices, 0), dense_shape)


def _tree_sum(parts: list[Tensor]) -> Tensor:
    while len(parts) > 1:
        pairs = [add(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + (parts[-1:] if len(parts) % 2 else [])
    return parts[0]
