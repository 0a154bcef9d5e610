"""Looking up rows of a table that may be in several parts, on several servers.

A lookup splits the ids by part, gathers from every part where it lives, and puts the rows back in
order. The gradient of each gather is an IndexedSlices, so only rows travel in both directions.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.convert import convert_n_to_tensor, convert_to_tensor
from paramserve._framework.scopes import colocate_with, name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import cast, identity, rank, reshape, shape, size
from paramserve._ops.clip import clip_by_norm
from paramserve._ops.indexing import dynamic_partition, dynamic_stitch, gather, strided_slice, where
from paramserve._ops.joining import concat, stack
from paramserve._ops.math import less, maximum
from paramserve._ops.math_reduce import reduce_sum
from paramserve._ops.math_sequence import range
from paramserve_core import dtypes
from paramserve_core.shapes import TensorShape

__all__ = ["embedding_lookup"]


def embedding_lookup(
    params: Any,
    ids: TensorLike,
    partition_strategy: str = "mod",
    name: str | None = None,
    validate_indices: bool = True,
    max_norm: TensorLike | None = None,
) -> Tensor:
    """Rows of a table, by their ids.

    Args:
        params: the table, of shape `[rows, ...]`; or a list of its parts; or a partitioned
            variable.
        ids: int32 or int64 of any shape.
        partition_strategy: how the table was split. "mod": id i is row `i // n` of part `i % n`.
            "div": the parts follow one another; the first ones have one row more if need be.
        name: the scope of the ops.
        validate_indices: kept for old programs; ids are always checked.
        max_norm: rows of a larger L2 norm are scaled down to it.

    Returns:
        A tensor of shape `ids.shape + params.shape[1:]`.

    Raises:
        ValueError: no parts, or another strategy.
        InvalidArgumentError: at run time, where an id is out of range.
    """
    if not isinstance(params, (list, tuple)):
        params = list(params) if hasattr(params, "_get_variable_list") else [params]
    if not params:
        raise ValueError("embedding_lookup needs a table, params is empty")
    if partition_strategy not in ("mod", "div"):
        raise ValueError(f"partition_strategy must be 'mod' or 'div', got {partition_strategy!r}")
    with name_scope(name, "embedding_lookup", [*params, ids]) as scope:
        ids = convert_to_tensor(ids, name="ids")
        params = [p if hasattr(p, "graph") else convert_to_tensor(p, name="params") for p in params]
        if len(params) == 1:
            with colocate_with(params[0]):
                rows = _clipped(gather(params[0], ids), ids, max_norm)
                return identity(rows, name=scope)
        parts = convert_n_to_tensor(params, name="params")
        return _from_parts(params, parts, ids, partition_strategy, max_norm, scope)


def _from_parts(
    params: Any,
    parts: list[Tensor],
    ids: Tensor,
    strategy: str,
    max_norm: TensorLike | None,
    scope: str,
) -> Tensor:
    flat = reshape(ids, [-1])
    part_of, row_of = _split(flat, parts, strategy)
    part_of = cast(part_of, dtypes.int32)
    rows_of = dynamic_partition(row_of, part_of, len(parts))
    places = dynamic_partition(range(size(flat)), part_of, len(parts))
    found = []
    for param, rows in zip(params, rows_of, strict=True):
        with colocate_with(param):
            found.append(gather(param, rows))
    stitched = dynamic_stitch(places, found, name=scope if max_norm is None else None)
    row_shape = parts[0].shape[1:]
    for part in parts[1:]:
        row_shape = row_shape.merge_with(part.shape[1:])
    if row_shape.is_fully_defined():
        stitched = reshape(stitched, concat([shape(ids), row_shape.as_list()], 0))
    else:
        with colocate_with(params[0]):
            tail = strided_slice(shape(parts[0]), [1], [0], [1], end_mask=1)
        stitched = reshape(stitched, concat([shape(ids), tail], 0))
    stitched.set_shape(ids.shape.concatenate(row_shape))
    return _clipped(stitched, ids, max_norm)


def _split(flat: Tensor, parts: list[Tensor], strategy: str) -> tuple[Tensor, Tensor]:
    """The part of each id, and its row there."""
    count = len(parts)
    if strategy == "mod":
        return flat % count, flat // count
    total = _rows_in_all(parts, flat)
    # The first `extras` parts have one row more than the others, which have at least 1 here
    # because parts without rows are never asked for one.
    smaller, extras = maximum(total // count, 1), total % count
    larger = total // count + 1
    part_of = maximum(flat // larger, (flat - extras) // smaller)
    row_of = where(less(part_of, extras), flat % larger, (flat - extras) % smaller)
    return part_of, row_of


def _rows_in_all(parts: list[Tensor], flat: Tensor) -> Tensor:
    dtype = flat.dtype.base_dtype
    static = [
        TensorShape(part.shape)[:1].num_elements() if part.shape.ndims else None for part in parts
    ]
    if None not in static:
        return convert_to_tensor(sum(n for n in static if n is not None), dtype)
    counts = []
    for part in parts:
        with colocate_with(part):
            counts.append(
                cast(strided_slice(shape(part), [0], [1], [1], shrink_axis_mask=1), dtype)
            )
    return reduce_sum(stack(counts))


def _clipped(rows: Tensor, ids: Tensor, max_norm: TensorLike | None) -> Tensor:
    """The rows, each within the norm; they are counted by the dimensions of `ids`."""
    if max_norm is None:
        return rows
    clipped: Tensor = clip_by_norm(rows, max_norm, axes=range(rank(ids), rank(rows)))
    return clipped
