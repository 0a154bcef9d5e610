"""Shape functions that several families use, and the pieces to write others from.

A shape function answers, while the graph is built, what is known of each output's shape. Two rules
hold for all of them. What is not known stays unknown: a function never guesses, and an unknown
rank or dimension in means an unknown one out, unless something else decides it. What cannot fit is
refused here with a ValueError, which the user sees at the line that made the op, rather than at
the server, steps later; kernels check again, because a graph may come from anywhere.

A whole shape function (`unchanged`, `broadcast`, `reduction`...) takes a `ShapeContext` and
answers one shape per output. A factory (`output_like(2)`, `at_least_rank(2)`) answers such a
function. A piece (`broadcast_shapes`, `require_rank`, `axis_within`...) is called from one.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramserve_core.opdefs.registry import ShapeContext, ShapeFunction, find_op
from paramserve_core.shapes import TensorShape

Dims = list[int | None]
"""A shape of known rank as a list; None is a dimension that is not known."""

UNKNOWN = TensorShape(None)
SCALAR = TensorShape([])


# Pieces.


def shape_error(ctx: ShapeContext, text: str) -> ValueError:
    """The ValueError that says `text` of the op being made, and which shapes its inputs have."""
    shapes = ", ".join(shape_text(shape) for shape in ctx.input_shapes)
    return ValueError(f"{text} for '{ctx.name}' (op: '{ctx.op}') with input shapes: {shapes}.")


def shape_text(shape: TensorShape) -> str:
    """The shape in the short notation of error messages: ``[2,?]``, or ``<unknown>``."""
    if shape.ndims is None:
        return "<unknown>"
    return "[" + ",".join("?" if d is None else str(d) for d in shape.as_list()) + "]"


def dims_of(shape: TensorShape) -> Dims | None:
    """The dimensions as a list, or None if not even the rank is known."""
    return None if shape.ndims is None else list(shape.as_list())


def require_rank(ctx: ShapeContext, index: int, rank: int) -> Dims:
    """The dimensions of input `index`, which has exactly `rank` of them (unknown ones if need be).

    Raises:
        ValueError: the rank is known and another.
    """
    shape = ctx.input_shapes[index]
    if shape.ndims is None:
        return [None] * rank
    if shape.ndims != rank:
        raise shape_error(ctx, f"Shape must be rank {rank} but is rank {shape.ndims}")
    return list(shape.as_list())


def require_rank_at_least(ctx: ShapeContext, index: int, rank: int) -> Dims | None:
    """The dimensions of input `index`, at least `rank` of them, or None if the rank is not known.

    Raises:
        ValueError: the rank is known and smaller.
    """
    shape = ctx.input_shapes[index]
    if shape.ndims is None:
        return None
    if shape.ndims < rank:
        raise shape_error(ctx, f"Shape must be at least rank {rank} but is rank {shape.ndims}")
    return list(shape.as_list())


def axis_within(ctx: ShapeContext, axis: int, rank: int, what: str = "axis") -> int:
    """`axis` counted from the front, for a tensor of `rank` dimensions.

    Raises:
        ValueError: it is not in ``[-rank, rank)``.
    """
    if not -rank <= axis < rank:
        raise shape_error(ctx, f"{what} {axis} is out of range [-{rank}, {rank})")
    return axis + rank if axis < 0 else axis


def merge_dims(ctx: ShapeContext, a: int | None, b: int | None) -> int | None:
    """One dimension that is both `a` and `b`.

    Raises:
        ValueError: both are known and differ.
    """
    if a is None:
        return b
    if b is not None and a != b:
        raise shape_error(ctx, f"Dimensions must be equal, but are {a} and {b}")
    return a


def merge_shapes(ctx: ShapeContext, shapes: Iterable[TensorShape]) -> TensorShape:
    """One shape that is all of `shapes`: what any of them knows.

    Raises:
        ValueError: two of them differ in rank or in a known dimension.
    """
    merged: Dims | None = None
    for shape in shapes:
        dims = dims_of(shape)
        if dims is None:
            continue
        if merged is None:
            merged = dims
            continue
        if len(merged) != len(dims):
            raise shape_error(
                ctx, f"Shapes must be equal rank, but are {len(merged)} and {len(dims)}"
            )
        merged = [merge_dims(ctx, a, b) for a, b in zip(merged, dims, strict=True)]
    return TensorShape(merged)


def broadcast_shapes(ctx: ShapeContext, a: TensorShape, b: TensorShape) -> TensorShape:
    """The shape of an elementwise result of `a` and `b` under NumPy's broadcasting rule.

    A dimension that is unknown on one side and greater than 1 on the other is the latter: the
    unknown one can only be equal to it, or 1.

    Raises:
        ValueError: two dimensions are known, differ, and neither is 1.
    """
    a_dims, b_dims = dims_of(a), dims_of(b)
    if a_dims is None or b_dims is None:
        return UNKNOWN
    rank = max(len(a_dims), len(b_dims))
    a_dims = [*[1] * (rank - len(a_dims)), *a_dims]
    b_dims = [*[1] * (rank - len(b_dims)), *b_dims]
    result: Dims = []
    for x, y in zip(a_dims, b_dims, strict=True):
        if x == 1:
            result.append(y)
        elif y == 1:
            result.append(x)
        elif x is None or y is None:
            result.append(x if y is None else y)
        else:
            result.append(merge_dims(ctx, x, y))
    return TensorShape(result)


# Whole shape functions.


def scalar(ctx: ShapeContext) -> Sequence[TensorShape]:
    """One scalar."""
    return [SCALAR]


def no_outputs(ctx: ShapeContext) -> Sequence[TensorShape]:
    """An op without outputs."""
    return []


def unknown(ctx: ShapeContext) -> Sequence[TensorShape]:
    """Nothing is known of any output."""
    definition = find_op(ctx.op)
    assert definition is not None, f"{ctx.op} has a shape function and no definition"
    return [UNKNOWN] * len(definition.output_dtypes(ctx.attrs))


def unchanged(ctx: ShapeContext) -> Sequence[TensorShape]:
    """The shape of the first input."""
    return [ctx.input_shapes[0]]


def output_like(index: int) -> ShapeFunction:
    """A shape function: the shape of input `index`."""

    def like_input(ctx: ShapeContext) -> Sequence[TensorShape]:
        return [ctx.input_shapes[index]]

    return like_input


def at_least_rank(rank: int) -> ShapeFunction:
    """A shape function: the shape of the first input, which has at least `rank` dimensions."""

    def unchanged_of_rank(ctx: ShapeContext) -> Sequence[TensorShape]:
        require_rank_at_least(ctx, 0, rank)
        return [ctx.input_shapes[0]]

    return unchanged_of_rank


def merged(ctx: ShapeContext) -> Sequence[TensorShape]:
    """One output; all inputs have its shape, without broadcasting."""
    return [merge_shapes(ctx, ctx.input_shapes)]


def broadcast(ctx: ShapeContext) -> Sequence[TensorShape]:
    """One output: the elementwise result of all inputs, broadcast against each other."""
    result = ctx.input_shapes[0]
    for shape in ctx.input_shapes[1:]:
        result = broadcast_shapes(ctx, result, shape)
    return [result]


def given_by(index: int) -> ShapeFunction:
    """A shape function: the value of input `index`, a 1-D integer tensor, is the shape."""

    def shape_of_value(ctx: ShapeContext) -> Sequence[TensorShape]:
        require_rank(ctx, index, 1)
        return [ctx.shape_from(index)]

    return shape_of_value


def reduction(ctx: ShapeContext) -> Sequence[TensorShape]:
    """Input 0 without the axes that input 1 (a scalar or vector of integers) names.

    With the attribute `keep_dims` the axes stay, as dimensions of 1.
    """
    dims = dims_of(ctx.input_shapes[0])
    keep_dims = bool(ctx.attrs.get("keep_dims", False))
    axes_shape = ctx.input_shapes[1]
    axes = ctx.constant(1)
    if dims is None:
        return [UNKNOWN]
    if axes is None:
        # Which axes go is not known, how many there may be is: none of them, or a scalar's one.
        if keep_dims:
            return [TensorShape([None] * len(dims))]
        if axes_shape.ndims == 0 or (axes_shape.ndims == 1 and axes_shape.as_list() == [1]):
            return [TensorShape([None] * (len(dims) - 1))] if dims else [UNKNOWN]
        return [UNKNOWN]
    reduced = {axis_within(ctx, int(a), len(dims), "reduction axis") for a in axes.reshape(-1)}
    if keep_dims:
        return [TensorShape([1 if i in reduced else d for i, d in enumerate(dims)])]
    return [TensorShape([d for i, d in enumerate(dims) if i not in reduced])]
