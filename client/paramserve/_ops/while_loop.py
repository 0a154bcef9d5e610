"""`while_loop`: ops that run again and again, as long as a condition holds.

A loop is data flow, in the form that `paramserve_core.frames` describes. What its functions use
from outside is brought in by its frame, see `loop_frame`.

Thread rule: a function adds to the graph of the calling thread, and holds it meanwhile: nobody
sees half a loop. See `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paramserve._framework.convert import (
    convert_to_tensor,
    convert_to_tensor_or_indexed_slices,
)
from paramserve._framework.graph import graph_of
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import constant, identity
from paramserve._ops.conditional import merge
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve._ops.loop_frame import Loop, leave, next_iteration
from paramserve._ops.math import add, less, logical_and
from paramserve._ops.nest import leaves, rebuilt
from paramserve_core import dtypes
from paramserve_core.shapes import TensorShape, as_shape

__all__ = ["while_loop"]


def while_loop(
    cond: Callable[..., Any],
    body: Callable[..., Any],
    loop_vars: Any,
    shape_invariants: Any = None,
    parallel_iterations: int = 10,
    back_prop: bool = True,
    swap_memory: bool = False,
    name: str | None = None,
    maximum_iterations: TensorLike | None = None,
    return_same_structure: bool = False,
) -> Any:
    """Runs `body` on the loop variables as long as `cond` is true of them.

    Both functions are called once, while the graph is built, with tensors in place of the loop
    variables. Their ops run in every iteration; an op that exists already, and that they use, runs
    once, before the loop. So a variable's value that was read outside stays what it was, and
    `read_value()` in the body reads it anew. A loop runs on one task: it may read variables of
    several servers, and update those of one.

        i, total = ps.while_loop(lambda i, s: i < n, lambda i, s: [i + 1, s + i], [0, 0])

    Gradients flow through a loop. They take memory for every iteration, because they need what the
    forward iterations computed.

    Args:
        cond: takes the loop variables and answers a boolean scalar.
        body: takes the loop variables and answers their next values, in the same structure and of
            the same types.
        loop_vars: the first values: a list or tuple of tensors or IndexedSlices, or of nestings of
            them in lists, tuples and dicts.
        shape_invariants: shapes in the structure of `loop_vars` that hold in every iteration, for
            loop variables whose shape changes; of an IndexedSlices, the shape of its rows. By
            default the shape of the first value must hold.
        parallel_iterations: kept in the graph for TensorFlow. Iterations here run one after
            another.
        back_prop: whether gradients flow through the loop.
        swap_memory: kept in the graph for TensorFlow.
        name: the scope of the ops; "while" by default.
        maximum_iterations: an integer scalar after which the loop ends in any case.
        return_same_structure: answer a list of one loop variable as that list.

    Returns:
        The loop variables once the condition is false, in the structure of `loop_vars`; if there
        is just one, that one, unless `return_same_structure`.

    Raises:
        TypeError: a function is no function, the condition is no boolean, or a loop variable gets
            another type.
        ValueError: no loop variables, or `body` answers another structure or a shape that does
            not hold in every iteration.
    """
    if not callable(cond):
        raise TypeError(f"'cond' must be callable, got {cond!r}")
    if not callable(body):
        raise TypeError(f"'body' must be callable, got {body!r}")
    if isinstance(parallel_iterations, bool) or not isinstance(parallel_iterations, int):
        raise TypeError(f"'parallel_iterations' must be an integer, got {parallel_iterations!r}")
    if parallel_iterations < 1:
        raise TypeError(f"'parallel_iterations' must be positive, got {parallel_iterations}")
    found = leaves(loop_vars)
    if not found:
        raise ValueError("'loop_vars' must be provided: a loop without variables never ends")
    if not isinstance(loop_vars, (list, tuple, dict)):
        loop_vars = [loop_vars]
    if not isinstance(loop_vars, (list, tuple)):
        raise TypeError(f"'loop_vars' must be a list or tuple, got {loop_vars!r}")
    with name_scope(name, "while", found) as scope:
        graph = graph_of(found)
        limit = None if maximum_iterations is None else _limit(maximum_iterations)
        first = [_without_ref(convert_to_tensor_or_indexed_slices(leaf)) for leaf in found]
        invariants = _invariants(loop_vars, shape_invariants, first)
        with graph.all_at_once():
            loop = Loop(
                f"{scope}while_context",
                graph.current_control_flow,
                parallel_iterations,
                back_prop=back_prop,
                swap_memory=swap_memory,
            )
            last = _build(loop, cond, body, loop_vars, first, invariants, limit)
    result = rebuilt(loop_vars, iter(last))
    return result[0] if len(last) == 1 and not return_same_structure else result


def _limit(maximum_iterations: TensorLike) -> Tensor:
    limit = convert_to_tensor(maximum_iterations, name="maximum_iterations")
    if limit.shape.ndims not in (None, 0):
        raise ValueError(f"'maximum_iterations' must be a scalar, its shape is {limit.shape}")
    return limit


def _without_ref(leaf: Tensor | IndexedSlices) -> Tensor | IndexedSlices:
    return identity(leaf) if isinstance(leaf, Tensor) and leaf.dtype.is_ref else leaf


def _parts(leaf: Tensor | IndexedSlices) -> list[Tensor]:
    """The tensors of a loop variable."""
    if isinstance(leaf, Tensor):
        return [leaf]
    parts = (leaf.values, leaf.indices, leaf.dense_shape)
    return [part for part in parts if part is not None]


def _joined(like: Sequence[Tensor | IndexedSlices], parts: Sequence[Tensor]) -> list[Any]:
    """Loop variables of the kinds that `like` has, of those tensors."""
    items = iter(parts)
    return [
        next(items)
        if isinstance(leaf, Tensor)
        else IndexedSlices(
            next(items), next(items), None if leaf.dense_shape is None else next(items)
        )
        for leaf in like
    ]


def _invariants(
    loop_vars: Any, shape_invariants: Any, first: Sequence[Tensor | IndexedSlices]
) -> list[TensorShape]:
    """The shape that each tensor of the loop variables has in every iteration.

    Raises:
        ValueError: the structures differ, or a first value has another shape.
    """
    if shape_invariants is None:
        return [part.shape for leaf in first for part in _parts(leaf)]
    given = _shapes(loop_vars, shape_invariants)
    result: list[TensorShape] = []
    for leaf, shape in zip(first, given, strict=True):
        wanted = [shape]
        if isinstance(leaf, IndexedSlices):
            rows = TensorShape([None if shape.ndims is None else shape.as_list()[0]])
            wanted = [shape, rows, TensorShape([shape.ndims])]
        for part, invariant in zip(_parts(leaf), wanted, strict=False):
            if not _holds(part.shape, invariant):
                raise ValueError(
                    f"The shape invariant specified for {part.name} is not compatible with the "
                    "initial shape of the loop variable. It enters the loop with shape "
                    f"{part.shape}, but the specified shape invariant is {invariant}."
                )
            result.append(invariant)
    return result


def _shapes(structure: Any, shapes: Any) -> list[TensorShape]:
    """The shapes at the leaves of a structure; a shape may be a list itself."""
    if structure is None:
        return []
    if (
        isinstance(structure, dict)
        and isinstance(shapes, dict)
        and structure.keys() == shapes.keys()
    ):
        return [s for key in sorted(structure) for s in _shapes(structure[key], shapes[key])]
    if isinstance(structure, (list, tuple)):
        if isinstance(shapes, (list, tuple)) and len(shapes) == len(structure):
            return [s for a, b in zip(structure, shapes, strict=True) for s in _shapes(a, b)]
    elif not isinstance(structure, dict):
        return [as_shape(shapes)]
    raise ValueError(
        f"'shape_invariants' must have the structure of 'loop_vars', {structure!r}; got {shapes!r}"
    )


def _holds(shape: TensorShape, invariant: TensorShape) -> bool:
    """Whether everything of that shape has the invariant one."""
    if invariant.ndims is None:
        return True
    if shape.ndims != invariant.ndims:
        return False
    pairs = zip(shape.as_list(), invariant.as_list(), strict=True)
    return all(wanted is None or size == wanted for size, wanted in pairs)


def _build(
    loop: Loop,
    cond: Callable[..., Any],
    body: Callable[..., Any],
    structure: Any,
    first: Sequence[Tensor | IndexedSlices],
    invariants: Sequence[TensorShape],
    limit: Tensor | None,
) -> list[Any]:
    """Adds the loop; answers the loop variables outside of it."""
    starts = [part for leaf in first for part in _parts(leaf)]
    shapes = list(invariants)
    if limit is not None:
        starts.insert(0, constant(0, limit.dtype.base_dtype, name="iteration_counter"))
        shapes.insert(0, TensorShape([]))
    graph = starts[0].graph
    entered = [loop.start(tensor) for tensor in starts]
    for tensor, shape in zip(entered, shapes, strict=True):
        tensor._shape = shape
    with loop.building():
        merges = [merge([tensor, tensor])[0] for tensor in entered]
        loop.turn_to(merges[0])
        for tensor in merges:
            loop.entered(tensor.op)
        is_below = None if limit is None else less(merges[0], limit)
        variables = merges if limit is None else merges[1:]
        holds = _condition(cond(*rebuilt(structure, iter(_joined(first, variables)))))
        if is_below is not None:
            holds = logical_and(is_below, holds)
        holds = emit_tensor("LoopCond", "LoopCond", input=holds)
        sides = [_switch(tensor, holds) for tensor in merges]
        loop.turn_to(None)
        inside = [identity(if_true) for _, if_true in sides]
        loop.turn_to(inside[0])
        for tensor in inside:
            loop.entered(tensor.op)
        variables = inside if limit is None else inside[1:]
        counted = [] if limit is None else [add(inside[0], constant(1, inside[0].dtype))]
        answer = body(*rebuilt(structure, iter(_joined(first, variables))))
        following = [*counted, *_next_values(answer, structure, first, variables)]
        for tensor, merged in zip(following, merges, strict=True):
            if not _holds(tensor.shape, merged.shape):
                raise ValueError(
                    f"Input tensor '{merged.op.inputs[0].op.inputs[0].name}' enters the loop with "
                    f"shape {merged.shape}, but has shape {tensor.shape} after one iteration. To "
                    "allow the shape to vary across iterations, use the `shape_invariants` "
                    "argument of while_loop to specify a less-specific shape."
                )
        for tensor, merged in zip(following, merges, strict=True):
            graph.close_loop(merged.op, 1, next_iteration(tensor))
    with loop.outside():
        last = [leave(if_false) for if_false, _ in sides]
    return _joined(first, last if limit is None else last[1:])


def _condition(answer: Any) -> Tensor:
    if isinstance(answer, (list, tuple)) and len(answer) == 1:
        (answer,) = answer
    holds: Tensor = convert_to_tensor(answer)
    if holds.dtype.base_dtype is not dtypes.bool or holds.shape.ndims not in (None, 0):
        raise TypeError(f"'cond' must answer a boolean scalar, it answers {holds!r}")
    return holds


def _switch(data: Tensor, holds: Tensor) -> list[Tensor]:
    with data.graph.colocate_with(data.op, ignore_existing=True):
        return emit_tensors("Switch", "Switch", data=data, pred=holds)


def _next_values(
    answer: Any,
    structure: Any,
    first: Sequence[Tensor | IndexedSlices],
    variables: Sequence[Tensor],
) -> list[Tensor]:
    """What the body answers, as the tensors of the loop variables.

    Raises:
        TypeError: a value of another type than the loop variable.
        ValueError: another structure.
    """
    if not isinstance(answer, (list, tuple)):
        answer = [answer]
    _check_structure(structure, answer)
    result: list[Tensor] = []
    for item, leaf, variable in zip(leaves(answer), first, _joined(first, variables), strict=True):
        wanted = None if hasattr(item, "dtype") else variable.dtype
        value = convert_to_tensor_or_indexed_slices(item, wanted)
        found, expected = (
            [part.dtype.base_dtype for part in _parts(each)] for each in (value, leaf)
        )
        if found != expected:
            raise TypeError(
                f"the loop variable {variable.name} is a {type(leaf).__name__} of "
                f"{variable.dtype.base_dtype.name}, and 'body' answers a "
                f"{type(value).__name__} of {value.dtype.base_dtype.name} for it; a loop variable "
                "has one type in every iteration"
            )
        result += _parts(value)
    return result


def _check_structure(structure: Any, answer: Any) -> None:
    """Raises ValueError where two structures differ; lists and tuples are alike."""
    pairs: list[tuple[Any, Any]] = []
    if isinstance(structure, (list, tuple)):
        is_alike = isinstance(answer, (list, tuple)) and len(answer) == len(structure)
        if is_alike:
            pairs = list(zip(structure, answer, strict=True))
    elif isinstance(structure, dict):
        is_alike = isinstance(answer, dict) and answer.keys() == structure.keys()
        if is_alike:
            pairs = [(structure[key], answer[key]) for key in structure]
    else:
        is_alike = not isinstance(answer, (list, tuple, dict))
        is_alike &= (answer is None) == (structure is None)
    if not is_alike:
        raise ValueError(
            "'body' must answer the loop variables in their structure: the structure is "
            f"{structure!r}, it answers {answer!r}"
        )
    for part, other in pairs:
        _check_structure(part, other)
