"""Functions that join tensors and cut them apart; ops of the family `array`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve._ops.renamed import is_scalar, needed, one_of
from paramserve_core.dimensions import Dimension

__all__ = [
    "concat",
    "meshgrid",
    "pack",
    "parallel_stack",
    "split",
    "stack",
    "unpack",
    "unstack",
]


def concat(
    values: Any, axis: Any = None, name: str = "concat", concat_dim: TensorLike | None = None
) -> Tensor:
    """Joins tensors along a dimension that they have.

    Both orders of the arguments are understood: `concat(values, axis)`, and the older
    `concat(concat_dim, values)`.

    Args:
        values: a list of tensors of one type and rank, equal in all sizes but that of `axis`.
        axis: the dimension, a scalar; negative counts from the end.
        name: the name of the op.
        concat_dim: the older name of `axis`.

    Raises:
        TypeError: an argument is missing.
        ValueError: sizes that do not fit, or at run time InvalidArgumentError.
    """
    if is_scalar(values):
        values, axis = axis, values
    axis = needed("concat", "axis", one_of("axis", axis, "concat_dim", concat_dim))
    parts = list(values) if isinstance(values, (list, tuple)) else [values]
    if len(parts) == 1:
        with name_scope(name, "concat", parts) as scope:
            return emit_tensor("Identity", scope, input=parts[0])
    return emit_tensor("ConcatV2", name, values=parts, axis=axis)


def split(
    value: Any,
    num_or_size_splits: Any = None,
    axis: Any = None,
    num: int | None = None,
    name: str = "split",
    *,
    split_dim: TensorLike | None = None,
    num_split: int | None = None,
) -> list[Tensor]:
    """Cuts a tensor along a dimension.

    Both orders of the arguments are understood: `split(value, num_or_size_splits, axis)`, and the
    older `split(split_dim, num_split, value)`.

    Args:
        value: a tensor.
        num_or_size_splits: into how many equal parts, an int; or the size of each part, a list or
            an integer vector, of which one may be -1 and takes what is left.
        axis: the dimension, a scalar; 0 by default.
        num: how many parts, where sizes are a tensor of unknown length.
        name: the name of the op.
        split_dim: the older name of `axis`.
        num_split: the older name of `num_or_size_splits`.

    Raises:
        TypeError: an argument is missing.
        ValueError: sizes that do not fit, or at run time InvalidArgumentError; or sizes of unknown
            length without `num`.
    """
    if is_scalar(value):
        value, axis = axis, value
    axis = one_of("axis", axis, "split_dim", split_dim)
    axis = 0 if axis is None else axis
    parts = one_of("num_or_size_splits", num_or_size_splits, "num_split", num_split)
    parts = needed("split", "num_or_size_splits", parts)
    if isinstance(parts, (int, np.integer, Dimension)):
        return emit_tensors("Split", name, split_dim=axis, value=value, num_split=int(parts))
    sizes = convert_to_tensor(parts)
    if sizes.shape.ndims == 0:
        raise TypeError(f"the number of parts must be an int, got {sizes!r}")
    if num is None:
        num = sizes.shape[0].value if sizes.shape.ndims == 1 else None
    if num is None:
        raise ValueError(f"Cannot infer num from {sizes!r}: give it")
    return emit_tensors(
        "SplitV", name, value=value, size_splits=sizes, split_dim=axis, num_split=num
    )


def stack(values: Any, axis: int = 0, name: str = "stack") -> Tensor:
    """Joins tensors of one shape along a new dimension.

    Args:
        values: a list of tensors of one type and shape.
        axis: where the new dimension will be; negative counts from the end of the result.
        name: the name of the op.

    Raises:
        ValueError: shapes that do not fit, or an axis out of range.
    """
    return emit_tensor("Pack", name, values=values, axis=axis)


def pack(values: Any, axis: int = 0, name: str = "pack") -> Tensor:
    """`stack` by its older name."""
    return stack(values, axis, name)


def parallel_stack(values: Any, name: str = "parallel_stack") -> Tensor:
    """`stack` along the first dimension."""
    return stack(values, 0, name)


def unstack(
    value: TensorLike, num: int | None = None, axis: int = 0, name: str = "unstack"
) -> list[Tensor]:
    """Cuts a tensor into the tensors that lie along a dimension.

    Args:
        value: a tensor of rank 1 or higher.
        num: the size of the dimension, where it is not known while the graph is built.
        axis: the dimension; negative counts from the end.
        name: the name of the op.

    Raises:
        ValueError: `num` is not given and not known, or an axis out of range.
    """
    value = convert_to_tensor(value)
    if num is None and value.shape.ndims is not None:
        ndims = value.shape.ndims
        if not -ndims <= axis < ndims:
            raise ValueError(f"axis = {axis} not in [{-ndims}, {ndims})")
        num = value.shape[axis].value
    if num is None:
        raise ValueError(f"Cannot infer num from shape {value.shape}: give it")
    return emit_tensors("Unpack", name, value=value, num=num, axis=axis)


def unpack(
    value: TensorLike, num: int | None = None, axis: int = 0, name: str = "unpack"
) -> list[Tensor]:
    """`unstack` by its older name."""
    return unstack(value, num, axis, name)


def meshgrid(*args: TensorLike, indexing: str = "xy", name: str = "meshgrid") -> list[Tensor]:
    """The coordinates of a grid: one tensor per axis, all in the shape of the grid.

    Args:
        *args: vectors or scalars, the points of each axis.
        indexing: "xy", where the first axis is the grid's second dimension, or "ij".
        name: the scope of the ops.

    Raises:
        ValueError: another `indexing`.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"indexing must be 'xy' or 'ij', got {indexing!r}")
    with name_scope(name, "meshgrid", args):
        axes: Sequence[Tensor] = [convert_to_tensor(points) for points in args]
        order = list(range(len(axes)))
        if indexing == "xy" and len(axes) > 1:
            order[:2] = [1, 0]
        shape = stack([emit_tensor("Size", None, input=axes[i]) for i in order], 0)
        grids = []
        for i, points in enumerate(axes):
            dims = [1] * len(axes)
            dims[order.index(i)] = -1
            column = emit_tensor("Reshape", None, tensor=points, shape=np.array(dims, np.int32))
            grids.append(emit_tensor("BroadcastTo", None, input=column, shape=shape))
        return grids
