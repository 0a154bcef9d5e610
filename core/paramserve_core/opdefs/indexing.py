"""Ops that read, choose or place elements by index, position or condition.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paramserve_core import dtypes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    int_attr,
    register_op,
    string_attr,
    type_attr,
)
from paramserve_core.opdefs.shape_functions import (
    UNKNOWN,
    Dims,
    axis_within,
    broadcast,
    dims_of,
    given_by,
    merge_dims,
    merge_shapes,
    require_rank,
    require_rank_at_least,
    shape_error,
)
from paramserve_core.shapes import TensorShape
from paramserve_core.slicing import Masks, decode, sliced_dims

Shapes = Sequence[TensorShape]

_ANY: Final = {"T": type_attr()}
_INDEX: Final = type_attr((dtypes.int32, dtypes.int64))
_INDEX32: Final = type_attr((dtypes.int32, dtypes.int64), dtypes.int32)
_SMALL_INDEX: Final = type_attr((dtypes.int16, dtypes.int32, dtypes.int64))
SLICE_MASKS: Final = {
    "begin_mask": int_attr(0),
    "end_mask": int_attr(0),
    "ellipsis_mask": int_attr(0),
    "new_axis_mask": int_attr(0),
    "shrink_axis_mask": int_attr(0),
}


def _slice(ctx: ShapeContext) -> Shapes:
    (begins,), (sizes,) = require_rank(ctx, 1, 1), require_rank(ctx, 2, 1)
    count = merge_dims(ctx, begins, sizes)
    dims = dims_of(ctx.input_shapes[0]) if count is None else require_rank(ctx, 0, count)
    if dims is None:
        return [UNKNOWN]
    begin, size = ctx.constant(1), ctx.constant(2)
    if size is None:
        return [TensorShape([None] * len(dims))]
    result: Dims = []
    for i, (dim, n) in enumerate(zip(dims, size.tolist(), strict=True)):
        start = None if begin is None else int(begin[i])
        if n < -1 or (start is not None and start < 0):
            raise shape_error(ctx, f"slice of dimension {i}: begin {start} and size {n} must fit")
        if dim is not None and (start or 0) + max(n, 0) > dim:
            raise shape_error(
                ctx, f"slice of dimension {i}: begin {start} + size {n} is beyond its end, {dim}"
            )
        if n >= 0:
            result.append(n)
        else:
            result.append(None if dim is None or start is None else dim - start)
    return [TensorShape(result)]


def sliced(ctx: ShapeContext) -> Shapes:
    """The shape of a strided slice, whose tensor and brackets are inputs 0 to 3."""
    lengths = [require_rank(ctx, i, 1)[0] for i in (1, 2, 3)]
    count = merge_dims(ctx, merge_dims(ctx, lengths[0], lengths[1]), lengths[2])
    dims = dims_of(ctx.input_shapes[0])
    if dims is None or count is None:
        return [UNKNOWN]
    known = [ctx.constant(i) for i in (1, 2, 3)]
    begin, end, strides = (None if value is None else value.tolist() for value in known)
    masks = Masks(**{name[:-5]: ctx.attrs[name] for name in SLICE_MASKS})
    try:
        items = decode(begin, end, strides, count, masks, len(dims))
        return [TensorShape(sliced_dims(items, dims))]
    except ValueError as error:
        raise shape_error(ctx, str(error).rstrip(".")) from error


def _gather(ctx: ShapeContext) -> Shapes:
    params, indices = require_rank_at_least(ctx, 0, 1), dims_of(ctx.input_shapes[1])
    if params is None or indices is None:
        return [UNKNOWN]
    return [TensorShape(indices + params[1:])]


def _gather_v2(ctx: ShapeContext) -> Shapes:
    require_rank(ctx, 2, 0)
    params, indices = require_rank_at_least(ctx, 0, 1), dims_of(ctx.input_shapes[1])
    axis_value, batch_dims = ctx.constant(2), ctx.attrs["batch_dims"]
    if params is None or indices is None:
        return [UNKNOWN]
    if not -len(indices) <= batch_dims <= len(indices):
        raise shape_error(
            ctx, f"batch_dims {batch_dims} is out of range [-{len(indices)}, {len(indices)}]"
        )
    batch = batch_dims + len(indices) if batch_dims < 0 else batch_dims
    if axis_value is None:
        return [TensorShape([None] * (len(params) + len(indices) - 1 - batch))]
    axis = axis_within(ctx, int(axis_value), len(params))
    if batch > axis:
        raise shape_error(ctx, f"batch_dims {batch} must not be greater than axis {axis}")
    shared = [merge_dims(ctx, params[i], indices[i]) for i in range(batch)]
    return [TensorShape([*shared, *params[batch:axis], *indices[batch:], *params[axis + 1 :]])]


def _gather_nd(ctx: ShapeContext) -> Shapes:
    params, indices = dims_of(ctx.input_shapes[0]), require_rank_at_least(ctx, 1, 1)
    if params is None or indices is None or indices[-1] is None:
        return [UNKNOWN]
    if indices[-1] > len(params):
        raise shape_error(
            ctx,
            f"indices.shape[-1] must be <= params.rank, but saw indices.shape[-1] "
            f"{indices[-1]} and params.rank {len(params)}",
        )
    return [TensorShape(indices[:-1] + params[indices[-1] :])]


def _where(ctx: ShapeContext) -> Shapes:
    return [TensorShape([None, ctx.input_shapes[0].ndims])]


def _select(ctx: ShapeContext) -> Shapes:
    result = merge_shapes(ctx, ctx.input_shapes[1:])
    condition = dims_of(ctx.input_shapes[0])
    dims = dims_of(result)
    if condition is None or not condition or dims is None:
        return [result]
    if len(condition) == 1 and len(dims) != 1:
        if not dims:
            raise shape_error(ctx, "a vector of conditions cannot choose between scalars")
        merge_dims(ctx, condition[0], dims[0])
        return [result]
    return [merge_shapes(ctx, [result, ctx.input_shapes[0]])]


def _one_hot(ctx: ShapeContext) -> Shapes:
    for index in (1, 2, 3):
        require_rank(ctx, index, 0)
    dims, depth = dims_of(ctx.input_shapes[0]), ctx.constant(1)
    if dims is None:
        return [UNKNOWN]
    if depth is not None and depth < 0:
        raise shape_error(ctx, f"depth must be non-negative, got: {int(depth)}")
    axis = ctx.attrs["axis"]
    if not -1 <= axis <= len(dims):
        raise shape_error(ctx, f"axis must be -1 or in [0, {len(dims)}], got: {axis}")
    axis = len(dims) if axis == -1 else axis
    return [TensorShape([*dims[:axis], None if depth is None else int(depth), *dims[axis:]])]


def _partition(ctx: ShapeContext) -> Shapes:
    count = ctx.attrs["num_partitions"]
    data, partitions = dims_of(ctx.input_shapes[0]), dims_of(ctx.input_shapes[1])
    if data is None or partitions is None:
        return [UNKNOWN] * count
    if len(partitions) > len(data):
        raise shape_error(ctx, "data.shape must start with partitions.shape")
    for a, b in zip(data, partitions, strict=False):
        merge_dims(ctx, a, b)
    return [TensorShape([None, *data[len(partitions) :]])] * count


def _stitch(ctx: ShapeContext) -> Shapes:
    count = ctx.attrs["N"]
    rest, rows = UNKNOWN, 0
    all_known = True
    for i in range(count):
        indices, data = dims_of(ctx.input_shapes[i]), dims_of(ctx.input_shapes[count + i])
        value = ctx.constant(i)
        if value is None:
            all_known = False
        elif value.size:
            rows = max(rows, int(value.max()) + 1)
        if indices is None or data is None:
            continue
        if len(data) < len(indices):
            raise shape_error(ctx, f"data[{i}].shape must start with indices[{i}].shape")
        for a, b in zip(data, indices, strict=False):
            merge_dims(ctx, a, b)
        rest = merge_shapes(ctx, [rest, TensorShape(data[len(indices) :])])
    tail = dims_of(rest)
    return [UNKNOWN if tail is None else TensorShape([rows if all_known else None, *tail])]


def _unique(ctx: ShapeContext) -> Shapes:
    return [TensorShape([None]), TensorShape(require_rank(ctx, 0, 1))]


def _unique_with_counts(ctx: ShapeContext) -> Shapes:
    return [*_unique(ctx), TensorShape([None])]


def _list_diff(ctx: ShapeContext) -> Shapes:
    require_rank(ctx, 0, 1)
    require_rank(ctx, 1, 1)
    return [TensorShape([None])] * 2


register_op(
    "Slice",
    inputs="input: T, begin: Index, size: Index",
    outputs="output: T",
    attrs={**_ANY, "Index": _INDEX},
    shape=_slice,
)
register_op(
    "StridedSlice",
    inputs="input: T, begin: Index, end: Index, strides: Index",
    outputs="output: T",
    attrs={**_ANY, "Index": _SMALL_INDEX, **SLICE_MASKS},
    shape=sliced,
)
register_op(
    "StridedSliceGrad",
    inputs="shape: Index, begin: Index, end: Index, strides: Index, dy: T",
    outputs="output: T",
    attrs={**_ANY, "Index": _INDEX, **SLICE_MASKS},
    shape=given_by(0),
)
register_op(
    "Gather",
    inputs="params: Tparams, indices: Tindices",
    outputs="output: Tparams",
    attrs={"validate_indices": bool_attr(True), "Tparams": type_attr(), "Tindices": _INDEX},
    shape=_gather,
)
register_op(
    "GatherV2",
    inputs="params: Tparams, indices: Tindices, axis: Taxis",
    outputs="output: Tparams",
    attrs={
        "batch_dims": int_attr(0),
        "Tparams": type_attr(),
        "Tindices": _SMALL_INDEX,
        "Taxis": _INDEX,
    },
    shape=_gather_v2,
)
register_op(
    "GatherNd",
    inputs="params: Tparams, indices: Tindices",
    outputs="output: Tparams",
    attrs={
        "Tparams": type_attr(),
        "Tindices": _SMALL_INDEX,
        "bad_indices_policy": string_attr(""),
    },
    shape=_gather_nd,
)
register_op(
    "ScatterNd",
    inputs="indices: Tindices, updates: T, shape: Tindices",
    outputs="output: T",
    attrs={**_ANY, "Tindices": _SMALL_INDEX, "bad_indices_policy": string_attr("")},
    shape=given_by(2),
)
register_op(
    "Where",
    inputs="input: T",
    outputs="index: int64",
    attrs={
        "T": type_attr(
            (
                dtypes.float32,
                dtypes.float64,
                dtypes.int32,
                dtypes.uint8,
                dtypes.int16,
                dtypes.int8,
                dtypes.complex64,
                dtypes.int64,
                dtypes.bfloat16,
                dtypes.uint16,
                dtypes.complex128,
                dtypes.float16,
                dtypes.uint32,
                dtypes.uint64,
                dtypes.bool,
            ),
            dtypes.bool,
        )
    },
    shape=_where,
)
register_op(
    "Select",
    inputs="condition: bool, t: T, e: T",
    outputs="output: T",
    attrs=_ANY,
    shape=_select,
)
register_op(
    "SelectV2",
    inputs="condition: bool, t: T, e: T",
    outputs="output: T",
    attrs=_ANY,
    shape=broadcast,
)
register_op(
    "OneHot",
    inputs="indices: TI, depth: int32, on_value: T, off_value: T",
    outputs="output: T",
    attrs={
        "axis": int_attr(-1),
        **_ANY,
        "TI": type_attr((dtypes.uint8, dtypes.int8, dtypes.int32, dtypes.int64), dtypes.int64),
    },
    shape=_one_hot,
)
register_op(
    "DynamicPartition",
    inputs="data: T, partitions: int32",
    outputs="outputs: num_partitions * T",
    attrs={"num_partitions": int_attr(minimum=1), **_ANY},
    shape=_partition,
)
for _op in ("DynamicStitch", "ParallelDynamicStitch"):
    register_op(
        _op,
        inputs="indices: N * int32, data: N * T",
        outputs="merged: T",
        attrs={"N": int_attr(minimum=1), **_ANY},
        shape=_stitch,
    )
register_op(
    "Unique",
    inputs="x: T",
    outputs="y: T, idx: out_idx",
    attrs={**_ANY, "out_idx": _INDEX32},
    shape=_unique,
)
register_op(
    "UniqueWithCounts",
    inputs="x: T",
    outputs="y: T, idx: out_idx, count: out_idx",
    attrs={**_ANY, "out_idx": _INDEX32},
    shape=_unique_with_counts,
)
register_op(
    "ListDiff",
    inputs="x: T, y: T",
    outputs="out: T, idx: out_idx",
    attrs={**_ANY, "out_idx": _INDEX32},
    shape=_list_diff,
)
