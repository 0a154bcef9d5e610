"""The shape functions of `opdefs.array`.

Thread rule: pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from paramserve_core.opdefs.registry import ShapeContext
from paramserve_core.opdefs.shape_functions import (
    UNKNOWN,
    Dims,
    axis_within,
    broadcast_shapes,
    dims_of,
    merge_dims,
    merge_shapes,
    require_rank,
    require_rank_at_least,
    shape_error,
    shape_text,
)
from paramserve_core.shapes import TensorShape

Shapes = Sequence[TensorShape]


def value_attr(ctx: ShapeContext) -> Shapes:
    """The shape of the tensor in the attribute `value`."""
    return [TensorShape(list(ctx.attrs["value"].shape))]


def shape_attribute(ctx: ShapeContext) -> Shapes:
    """The attribute `shape`."""
    return [ctx.attrs["shape"]]


def compatible_default(ctx: ShapeContext) -> Shapes:
    """The attribute `shape`, which input 0 must be compatible with."""
    merge_shapes(ctx, [ctx.input_shapes[0], ctx.attrs["shape"]])
    return [ctx.attrs["shape"]]


def ensured(ctx: ShapeContext) -> Shapes:
    """What input 0 and the attribute `shape` know together."""
    return [merge_shapes(ctx, [ctx.input_shapes[0], ctx.attrs["shape"]])]


def each_unchanged(ctx: ShapeContext) -> Shapes:
    """As many outputs as inputs, each of the shape of its input."""
    return list(ctx.input_shapes)


def fill(ctx: ShapeContext) -> Shapes:
    """The value of input 0; input 1 is a scalar."""
    require_rank(ctx, 0, 1)
    require_rank(ctx, 1, 0)
    return [ctx.shape_from(0)]


def shape_of_each(ctx: ShapeContext) -> Shapes:
    """For each input a vector as long as its rank."""
    return [TensorShape([shape.ndims]) for shape in ctx.input_shapes]


def reshape(ctx: ShapeContext) -> Shapes:
    """The value of input 1, where one dimension may follow from the number of elements."""
    require_rank(ctx, 1, 1)
    before, wanted = dims_of(ctx.input_shapes[0]), dims_of(ctx.shape_from(1))
    if wanted is None:
        return [UNKNOWN]
    if before is None or None in before:
        return [TensorShape(wanted)]
    count = math.prod(d for d in before if d is not None)
    known = math.prod(d for d in wanted if d is not None)
    free = wanted.count(None)
    if free == 0 and count != known:
        text = shape_text(TensorShape(wanted))
        raise shape_error(
            ctx,
            f"Cannot reshape a tensor with {count} elements to shape {text} ({known} elements)",
        )
    if free == 1 and known:
        if count % known:
            raise shape_error(
                ctx,
                f"Dimension size must be evenly divisible by {known} but is {count}",
            )
        wanted[wanted.index(None)] = count // known
    return [TensorShape(wanted)]


def expand_dims(ctx: ShapeContext) -> Shapes:
    """Input 0 with a dimension of 1 inserted before the axis that input 1 names."""
    dims, axis = dims_of(ctx.input_shapes[0]), ctx.constant(1)
    if dims is None:
        return [UNKNOWN]
    if axis is None:
        return [TensorShape([None] * (len(dims) + 1))]
    if axis.size != 1:
        raise shape_error(ctx, f"'dim' input must be a tensor with a single value, not {axis.size}")
    position = axis_within(ctx, int(axis.reshape(())), len(dims) + 1, "dim")
    return [TensorShape([*dims[:position], 1, *dims[position:]])]


def squeeze(ctx: ShapeContext) -> Shapes:
    """Input 0 without the dimensions `squeeze_dims`, or without all dimensions of 1."""
    dims, chosen = dims_of(ctx.input_shapes[0]), ctx.attrs["squeeze_dims"]
    if dims is None:
        return [UNKNOWN]
    if not chosen:
        if None in dims:
            return [UNKNOWN]
        return [TensorShape([d for d in dims if d != 1])]
    axes = {axis_within(ctx, int(a), len(dims), "squeeze_dims") for a in chosen}
    for axis in sorted(axes):
        if dims[axis] not in (1, None):
            raise shape_error(
                ctx, f"Can not squeeze dim[{axis}], expected a dimension of 1, got {dims[axis]}"
            )
    return [TensorShape([d for i, d in enumerate(dims) if i not in axes])]


def concat_v1(ctx: ShapeContext) -> Shapes:
    """Inputs 1.. joined along the axis that input 0 names."""
    return _concat(ctx, 0, range(1, len(ctx.input_shapes)))


def concat_v2(ctx: ShapeContext) -> Shapes:
    """All inputs but the last joined along the axis that the last names."""
    last = len(ctx.input_shapes) - 1
    return _concat(ctx, last, range(last))


def _concat(ctx: ShapeContext, axis_index: int, values: range) -> Shapes:
    require_rank(ctx, axis_index, 0)
    known = [d for d in (require_rank_at_least(ctx, i, 1) for i in values) if d is not None]
    if not known:
        return [UNKNOWN]
    rank = len(known[0])
    for dims in known:
        if len(dims) != rank:
            raise shape_error(ctx, f"Shapes must be equal rank, but are {rank} and {len(dims)}")
    axis_value = ctx.constant(axis_index)
    if axis_value is None:
        return [TensorShape([None] * rank)]
    axis = axis_within(ctx, int(axis_value), rank, "concat dimension")
    result: Dims = [None] * rank
    for dims in known:
        for i in range(rank):
            if i != axis:
                try:
                    result[i] = merge_dims(ctx, result[i], dims[i])
                except ValueError as error:
                    raise shape_error(
                        ctx,
                        f"Dimension {i} in both shapes must be equal, but are "
                        f"{result[i]} and {dims[i]}",
                    ) from error
    if len(known) == len(values) and all(dims[axis] is not None for dims in known):
        result[axis] = sum(dims[axis] or 0 for dims in known)
    return [TensorShape(result)]


def concat_offset(ctx: ShapeContext) -> Shapes:
    """One vector per shape, as long as the shapes are."""
    require_rank(ctx, 0, 0)
    for i in range(1, len(ctx.input_shapes)):
        require_rank(ctx, i, 1)
    merged = merge_shapes(ctx, ctx.input_shapes[1:])
    return [merged] * (len(ctx.input_shapes) - 1)


def split(ctx: ShapeContext) -> Shapes:
    """`num_split` equal parts of input 1 along the axis that input 0 names."""
    count = ctx.attrs["num_split"]
    require_rank(ctx, 0, 0)
    dims, axis_value = require_rank_at_least(ctx, 1, 1), ctx.constant(0)
    if dims is None:
        return [UNKNOWN] * count
    if axis_value is None:
        return [TensorShape([None] * len(dims))] * count
    axis = axis_within(ctx, int(axis_value), len(dims), "split_dim")
    whole = dims[axis]
    if whole is not None:
        if whole % count:
            raise shape_error(
                ctx,
                f"Dimension size must be evenly divisible by {count} but is {whole}: number of "
                "ways to split should evenly divide the split dimension",
            )
        dims[axis] = whole // count
    return [TensorShape(dims)] * count


def split_v(ctx: ShapeContext) -> Shapes:
    """`num_split` parts of input 0 of the sizes in input 1, along the axis in input 2."""
    count = ctx.attrs["num_split"]
    sizes_dim = require_rank(ctx, 1, 1)[0]
    require_rank(ctx, 2, 0)
    dims, sizes, axis_value = require_rank_at_least(ctx, 0, 1), ctx.constant(1), ctx.constant(2)
    if sizes_dim is not None and sizes_dim != count:
        raise shape_error(ctx, f"size_splits has {sizes_dim} elements for {count} outputs")
    if dims is None:
        return [UNKNOWN] * count
    if axis_value is None:
        return [TensorShape([None] * len(dims))] * count
    axis = axis_within(ctx, int(axis_value), len(dims), "split_dim")
    parts: Dims = [None] * count
    if sizes is not None:
        parts = [None if s < 0 else int(s) for s in sizes]
        whole, known = dims[axis], sum(p or 0 for p in parts)
        if whole is not None:
            free = parts.count(None)
            if (free == 0 and known != whole) or known > whole:
                raise shape_error(
                    ctx, f"can't split axis of size {whole} into pieces of size {sizes.tolist()}"
                )
            if free == 1:
                parts[parts.index(None)] = whole - known
    return [TensorShape([*dims[:axis], part, *dims[axis + 1 :]]) for part in parts]


def pack(ctx: ShapeContext) -> Shapes:
    """All inputs, of one shape, stacked along the new axis `axis`."""
    dims = dims_of(merge_shapes(ctx, ctx.input_shapes))
    if dims is None:
        return [UNKNOWN]
    axis = axis_within(ctx, ctx.attrs["axis"], len(dims) + 1)
    return [TensorShape([*dims[:axis], len(ctx.input_shapes), *dims[axis:]])]


def unpack(ctx: ShapeContext) -> Shapes:
    """`num` tensors: input 0 cut along `axis`, which goes away."""
    count = ctx.attrs["num"]
    dims = require_rank_at_least(ctx, 0, 1)
    if dims is None:
        return [UNKNOWN] * count
    axis = axis_within(ctx, ctx.attrs["axis"], len(dims))
    if dims[axis] not in (None, count):
        raise shape_error(ctx, f"Dimension must be {count} but is {dims[axis]}")
    return [TensorShape(dims[:axis] + dims[axis + 1 :])] * count


def transpose(ctx: ShapeContext) -> Shapes:
    """Input 0 with its axes in the order that input 1 gives."""
    dims, perm = dims_of(ctx.input_shapes[0]), ctx.constant(1)
    length = require_rank(ctx, 1, 1)[0]
    rank = length if dims is None else len(dims)
    if rank is None:
        return [UNKNOWN]
    if length is not None and length != rank:
        raise shape_error(ctx, f"Dimension must be {rank} but is {length}: perm needs every axis")
    if perm is None or dims is None:
        return [TensorShape([None] * rank)]
    order = [axis_within(ctx, int(p), rank, "perm dim") for p in perm]
    if len(set(order)) != rank:
        raise shape_error(ctx, f"perm {perm.tolist()} names an axis twice")
    return [TensorShape([dims[p] for p in order])]


def tile(ctx: ShapeContext) -> Shapes:
    """Input 0 repeated as often as input 1 says, per axis."""
    dims, length = dims_of(ctx.input_shapes[0]), require_rank(ctx, 1, 1)[0]
    multiples = dims_of(ctx.shape_from(1))
    rank = length if dims is None else len(dims)
    if rank is None:
        return [UNKNOWN]
    if length is not None and length != rank:
        raise shape_error(ctx, f"multiples has {length} elements for a tensor of rank {rank}")
    if dims is None or multiples is None:
        return [TensorShape([None] * rank)]
    pairs = zip(dims, multiples, strict=True)
    return [TensorShape([None if d is None or m is None else d * m for d, m in pairs])]


def pad(ctx: ShapeContext) -> Shapes:
    """Input 0 with as much before and after each axis as the rows of input 1 say."""
    return _padded(ctx, 1)


def mirror_pad_grad(ctx: ShapeContext) -> Shapes:
    """Input 0 with the padding of `MirrorPad` folded back."""
    return _padded(ctx, -1)


def _padded(ctx: ShapeContext, sign: int) -> Shapes:
    rows, columns = require_rank(ctx, 1, 2)
    merge_dims(ctx, columns, 2)
    dims, paddings = dims_of(ctx.input_shapes[0]), ctx.constant(1)
    rank = rows if dims is None else len(dims)
    if rank is None:
        return [UNKNOWN]
    if rows is not None and rows != rank:
        raise shape_error(ctx, f"paddings has {rows} rows for a tensor of rank {rank}")
    if dims is None or paddings is None:
        return [TensorShape([None] * rank)]
    if paddings.size and paddings.min() < 0:
        raise shape_error(ctx, f"Paddings must be non-negative: {paddings.tolist()}")
    mode = ctx.attrs.get("mode")
    result: Dims = []
    for dim, (before, after) in zip(dims, paddings.tolist(), strict=True):
        if mode is not None and dim is not None and sign > 0:
            most = dim - 1 if mode == "REFLECT" else dim
            if before > most or after > most:
                raise shape_error(
                    ctx,
                    f"paddings ({before}, {after}) must be no greater than {most} to mirror a "
                    f"dimension of {dim} in mode {mode}",
                )
        result.append(None if dim is None else dim + sign * (before + after))
        if (result[-1] or 0) < 0:
            raise shape_error(ctx, f"a dimension of {dim} is smaller than its padding")
    return [TensorShape(result)]


def reverse_v2(ctx: ShapeContext) -> Shapes:
    """The shape of input 0, whose axes input 1 names, each at most once."""
    dims, axes = dims_of(ctx.input_shapes[0]), ctx.constant(1)
    require_rank(ctx, 1, 1)
    if dims is not None and axes is not None:
        named = [axis_within(ctx, int(a), len(dims)) for a in axes]
        if len(set(named)) != len(named):
            raise shape_error(ctx, f"axis {axes.tolist()} names an axis twice")
    return [ctx.input_shapes[0]]


def reverse_v1(ctx: ShapeContext) -> Shapes:
    """The shape of input 0; input 1 has one bool per axis."""
    (length,) = require_rank(ctx, 1, 1)
    dims = dims_of(ctx.input_shapes[0])
    if dims is not None:
        merge_dims(ctx, length, len(dims))
    return [ctx.input_shapes[0]]


def reverse_sequence(ctx: ShapeContext) -> Shapes:
    """The shape of input 0; input 1 has one length per element of axis `batch_dim`."""
    dims = dims_of(ctx.input_shapes[0])
    (lengths,) = require_rank(ctx, 1, 1)
    if dims is None:
        return [UNKNOWN]
    batch, seq = ctx.attrs["batch_dim"], ctx.attrs["seq_dim"]
    for what, axis in (("batch_dim", batch), ("seq_dim", seq)):
        if not 0 <= axis < len(dims):
            raise shape_error(ctx, f"{what} must be less than the input rank, {axis} is not")
    if batch == seq:
        raise shape_error(ctx, f"batch_dim and seq_dim must differ, both are {seq}")
    dims[batch] = merge_dims(ctx, dims[batch], lengths)
    return [TensorShape(dims)]


def broadcast_to(ctx: ShapeContext) -> Shapes:
    """The value of input 1, which input 0 can be broadcast to."""
    require_rank(ctx, 1, 1)
    dims, wanted = dims_of(ctx.input_shapes[0]), dims_of(ctx.shape_from(1))
    if dims is not None and wanted is not None:
        if len(dims) > len(wanted):
            raise shape_error(
                ctx, f"a tensor of rank {len(dims)} cannot be broadcast to rank {len(wanted)}"
            )
        for have, want in zip(reversed(dims), reversed(wanted), strict=False):
            if have not in (1, None) and want is not None and want != have:
                raise shape_error(ctx, f"Dimensions must be equal, but are {have} and {want}")
    return [ctx.shape_from(1)]


def broadcast_args(ctx: ShapeContext) -> Shapes:
    """A vector as long as the longer input."""
    (a,), (b,) = require_rank(ctx, 0, 1), require_rank(ctx, 1, 1)
    first, second = ctx.constant(0), ctx.constant(1)
    if first is not None and second is not None:
        broadcast_shapes(ctx, TensorShape(first.tolist()), TensorShape(second.tolist()))
    return [TensorShape([None if a is None or b is None else max(a, b)])]


def broadcast_gradient_args(ctx: ShapeContext) -> Shapes:
    """Two vectors of axes, of lengths that depend on the values."""
    require_rank(ctx, 0, 1)
    require_rank(ctx, 1, 1)
    return [TensorShape([None])] * 2


def bitcast(ctx: ShapeContext) -> Shapes:
    """Input 0, with a dimension more or less where the element sizes differ."""
    dims = dims_of(ctx.input_shapes[0])
    if dims is None:
        return [UNKNOWN]
    before, after = ctx.attrs["T"].size, ctx.attrs["type"].size
    if before == after:
        return [ctx.input_shapes[0]]
    if before > after:
        return [TensorShape([*dims, before // after])]
    if not dims or dims[-1] not in (None, after // before):
        raise shape_error(
            ctx,
            f"Cannot bitcast {ctx.attrs['T'].name} to {ctx.attrs['type'].name}: the last "
            f"dimension must be {after // before}",
        )
    return [TensorShape(dims[:-1])]


def diag(ctx: ShapeContext) -> Shapes:
    """Input 0's dimensions twice over."""
    dims = require_rank_at_least(ctx, 0, 1)
    return [UNKNOWN if dims is None else TensorShape(dims + dims)]


def diag_part(ctx: ShapeContext) -> Shapes:
    """The first half of input 0's dimensions, which the second half repeats."""
    dims = dims_of(ctx.input_shapes[0])
    if dims is None:
        return [UNKNOWN]
    if not dims or len(dims) % 2:
        raise shape_error(ctx, f"Input must have even and non-zero rank, input rank is {len(dims)}")
    half = len(dims) // 2
    pairs = zip(dims[:half], dims[half:], strict=True)
    return [TensorShape([merge_dims(ctx, a, b) for a, b in pairs])]


def matrix_diag(ctx: ShapeContext) -> Shapes:
    """Input 0 with its last dimension repeated."""
    dims = require_rank_at_least(ctx, 0, 1)
    return [UNKNOWN if dims is None else TensorShape([*dims, dims[-1]])]


def matrix_diag_part(ctx: ShapeContext) -> Shapes:
    """Input 0 with the smaller of its last two dimensions in place of both."""
    dims = require_rank_at_least(ctx, 0, 2)
    if dims is None:
        return [UNKNOWN]
    rows, columns = dims[-2:]
    smaller = None if rows is None or columns is None else min(rows, columns)
    return [TensorShape([*dims[:-2], smaller])]


def matrix_set_diag(ctx: ShapeContext) -> Shapes:
    """The shape of input 0; input 1 fits its diagonal."""
    dims, diagonal = require_rank_at_least(ctx, 0, 2), require_rank_at_least(ctx, 1, 1)
    if dims is not None and diagonal is not None:
        if len(diagonal) != len(dims) - 1:
            raise shape_error(
                ctx, f"Shape must be rank {len(dims) - 1} but is rank {len(diagonal)}"
            )
        for a, b in zip(dims[:-2], diagonal[:-1], strict=True):
            merge_dims(ctx, a, b)
        rows, columns = dims[-2:]
        if rows is not None and columns is not None:
            merge_dims(ctx, min(rows, columns), diagonal[-1])
    return [ctx.input_shapes[0]]


def band_part(ctx: ShapeContext) -> Shapes:
    """The shape of input 0, at least a matrix; inputs 1 and 2 are scalars."""
    require_rank_at_least(ctx, 0, 2)
    require_rank(ctx, 1, 0)
    require_rank(ctx, 2, 0)
    return [ctx.input_shapes[0]]


def vector_unchanged(ctx: ShapeContext) -> Shapes:
    """The shape of input 0, a vector."""
    return [TensorShape(require_rank(ctx, 0, 1))]
