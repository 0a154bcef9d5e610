"""Functions that read, choose and place elements by index, position or condition.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, TensorLike
from paramserve._ops.array import constant, ones_like
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve_core import dtypes
from paramserve_core.dtypes import as_dtype
from paramserve_core.shapes import TensorShape
from paramserve_core.values import as_ndarray

__all__ = [
    "boolean_mask",
    "dynamic_partition",
    "dynamic_stitch",
    "gather",
    "gather_nd",
    "listdiff",
    "one_hot",
    "scatter_nd",
    "select",
    "sequence_mask",
    "setdiff1d",
    "slice",
    "sparse_mask",
    "strided_slice",
    "unique",
    "unique_with_counts",
    "where",
]


class Unique(NamedTuple):
    """What `unique` answers."""

    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    """What `unique_with_counts` answers."""

    y: Tensor
    idx: Tensor
    count: Tensor  # type: ignore[assignment] # the field has TensorFlow's name


class ListDiff(NamedTuple):
    """What `setdiff1d` answers."""

    out: Tensor
    idx: Tensor


def slice(
    input_: TensorLike, begin: TensorLike, size: TensorLike, name: str | None = None
) -> Tensor:
    """A block of a tensor.

    Args:
        input_: a tensor of rank n.
        begin: where the block begins in each dimension, an integer vector `[n]`.
        size: its size in each dimension, an integer vector `[n]`; -1 reaches to the end.
        name: the name of the op.

    Raises:
        ValueError: the block is not within the tensor, or at run time InvalidArgumentError.
    """
    return emit_tensor("Slice", name, input=input_, begin=begin, size=size)


def strided_slice(
    input_: TensorLike,
    begin: TensorLike,
    end: TensorLike,
    strides: TensorLike | None = None,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
    var: Any = None,
    name: str | None = None,
) -> Tensor:
    """A part of a tensor, as `tensor[begin:end:strides]` writes it; brackets are easier to read.

    The masks have a bit for each item between the brackets.

    Args:
        input_: a tensor.
        begin: where each item begins, an integer vector.
        end: where each item ends, the first index that is not in it.
        strides: the step of each item; 1 by default.
        begin_mask: items without a begin.
        end_mask: items without an end.
        ellipsis_mask: the item that is `...`.
        new_axis_mask: items that insert a dimension of 1.
        shrink_axis_mask: items that are one index, whose dimension goes.
        var: of no effect; `assign` of a slice of a variable works without.
        name: the name of the op.

    Raises:
        ValueError: an item that does not fit the tensor.
    """
    return emit_tensor(
        "StridedSlice",
        name,
        input=input_,
        begin=begin,
        end=end,
        strides=ones_like(begin) if strides is None else strides,
        begin_mask=begin_mask,
        end_mask=end_mask,
        ellipsis_mask=ellipsis_mask,
        new_axis_mask=new_axis_mask,
        shrink_axis_mask=shrink_axis_mask,
    )


def gather(
    params: TensorLike,
    indices: TensorLike,
    validate_indices: bool | None = None,
    name: str | None = None,
    axis: TensorLike | None = None,
    batch_dims: int = 0,
) -> Tensor:
    """Rows of a tensor, by their numbers.

    Args:
        params: the rows: of shape `[n, ...]` along dimension 0.
        indices: their numbers, integers of any shape.
        validate_indices: kept for old programs; indices are always checked.
        name: the name of the op.
        axis: the dimension of `params` that is indexed; 0, or `batch_dims`, by default.
        batch_dims: how many leading dimensions `params` and `indices` have in common.

    Returns:
        A tensor of shape `indices.shape + params.shape[1:]` for axis 0.

    Raises:
        InvalidArgumentError: at run time, where an index is out of range.
    """
    if batch_dims == 0 and (axis is None or (isinstance(axis, int) and axis == 0)):
        return emit_tensor(
            "Gather",
            name,
            params=params,
            indices=indices,
            validate_indices=True if validate_indices is None else validate_indices,
        )
    return emit_tensor(
        "GatherV2",
        name,
        params=params,
        indices=indices,
        axis=batch_dims if axis is None else axis,
        batch_dims=batch_dims,
    )


def gather_nd(params: TensorLike, indices: TensorLike, name: str | None = None) -> Tensor:
    """Elements or blocks of a tensor, by their positions.

    Args:
        params: a tensor.
        indices: positions, integers of shape `[..., d]`: `d` leading indices of `params` each.
        name: the name of the op.

    Returns:
        A tensor of shape `indices.shape[:-1] + params.shape[d:]`.

    Raises:
        InvalidArgumentError: at run time, where a position is out of range.
    """
    return emit_tensor("GatherNd", name, params=params, indices=indices)


def scatter_nd(
    indices: TensorLike, updates: TensorLike, shape: TensorLike, name: str | None = None
) -> Tensor:
    """A tensor of zeros with values added at positions; values at one position add up.

    Args:
        indices: positions, integers of shape `[..., d]`.
        updates: the values, of shape `indices.shape[:-1] + shape[d:]`.
        shape: the shape of the result, an integer vector.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where a position is out of range.
    """
    return emit_tensor("ScatterNd", name, indices=indices, updates=updates, shape=shape)


def where(
    condition: TensorLike,
    x: TensorLike | None = None,
    y: TensorLike | None = None,
    name: str | None = None,
) -> Tensor:
    """Where a condition is true; or, with `x` and `y`, a choice between them by it.

    Args:
        condition: booleans; with one argument also numbers, true where they are not 0.
        x: what to take where it is true.
        y: what to take where it is false, of the type and shape of `x`.
        name: the name of the op.

    Returns:
        Positions, int64 of shape `[n, rank]`, in order; or a tensor in the shape of `x`. The
        condition has that shape, or is a vector that chooses rows, or a scalar.

    Raises:
        ValueError: only one of `x` and `y`, or shapes that do not fit.
    """
    if x is None and y is None:
        return emit_tensor("Where", name, input=convert_to_tensor(condition))
    if x is None or y is None:
        raise ValueError("x and y must both be non-None or both be None.")
    return emit_tensor("Select", name, condition=condition, t=x, e=y)


def select(condition: TensorLike, t: TensorLike, e: TensorLike, name: str | None = None) -> Tensor:
    """`where` with three arguments, by its older name."""
    return emit_tensor("Select", name, condition=condition, t=t, e=e)


def one_hot(
    indices: TensorLike,
    depth: TensorLike,
    on_value: TensorLike | None = None,
    off_value: TensorLike | None = None,
    axis: int | None = None,
    dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Tensor:
    """For each index a vector that has one value there and another elsewhere.

    Args:
        indices: integers; one that is negative or not below `depth` has no place.
        depth: the length of the vectors, a scalar.
        on_value: the value at the index; 1 by default.
        off_value: the value elsewhere; 0 by default.
        axis: the dimension of the result along which the vectors run; the last by default.
        dtype: the type of the result; that of the values, or float32.
        name: the name of the op.

    Raises:
        TypeError: the values are of another type than `dtype`, or of two types.
    """
    with name_scope(name, "one_hot", [indices, depth, on_value, off_value]) as scope:
        given = [v for v in (on_value, off_value) if v is not None]
        found = [as_dtype((v if hasattr(v, "dtype") else as_ndarray(v)).dtype) for v in given]
        wanted = as_dtype(dtype) if dtype is not None else [*found, dtypes.float32][0].base_dtype
        for value, its_dtype in zip(given, found, strict=True):
            if hasattr(value, "dtype") and its_dtype.base_dtype is not wanted:
                raise TypeError(
                    f"dtype {its_dtype.name} of {value!r} does not match {wanted.name} of the "
                    "result of one_hot; cast it first"
                )
        return emit_tensor(
            "OneHot",
            scope,
            indices=indices,
            depth=depth,
            on_value=np.ones((), wanted.as_numpy_dtype) if on_value is None else on_value,
            off_value=np.zeros((), wanted.as_numpy_dtype) if off_value is None else off_value,
            T=wanted,
            axis=-1 if axis is None else axis,
        )


def boolean_mask(
    tensor: TensorLike, mask: TensorLike, name: str = "boolean_mask", axis: int | None = None
) -> Tensor:
    """The parts of a tensor for which a mask is true, `tensor[mask]` in NumPy.

    Args:
        tensor: a tensor.
        mask: booleans, whose shape is the beginning of the tensor's shape; its rank must be known.
        name: the name of the op.
        axis: the dimension of `tensor` where the mask begins; 0 by default.

    Returns:
        A tensor of shape `[n] + tensor.shape[mask.rank:]` for axis 0.

    Raises:
        ValueError: the mask is a scalar, of unknown rank, or does not fit.
    """
    with name_scope(name, "boolean_mask", [tensor, mask]):
        tensor = convert_to_tensor(tensor, name="tensor")
        mask = convert_to_tensor(mask, name="mask")
        start = 0 if axis is None else axis
        ndims = mask.shape.ndims
        if ndims == 0:
            raise ValueError("mask cannot be scalar.")
        if ndims is None:
            raise ValueError(f"the rank of {mask!r} must be known; use set_shape")
        if start < 0:
            if tensor.shape.ndims is None:
                raise ValueError(f"axis is {start}, but the rank of {tensor!r} is not known")
            start += tensor.shape.ndims
        tensor.shape[start : start + ndims].assert_is_compatible_with(mask.shape)
        sizes = emit_tensor("Shape", None, input=tensor)
        joined = emit_tensor(
            "ConcatV2",
            None,
            values=[_part(sizes, 0, start), [-1], _part(sizes, start + ndims, None)],
            axis=0,
        )
        flat = emit_tensor("Reshape", None, tensor=tensor, shape=joined)
        if tensor.shape.ndims is not None:
            count = mask.shape.merge_with(tensor.shape[start : start + ndims]).num_elements()
            outside = tensor.shape[:start], tensor.shape[start + ndims :]
            flat.set_shape(outside[0].concatenate(TensorShape([count])).concatenate(outside[1]))
        chosen = emit_tensor(
            "Where", None, input=emit_tensor("Reshape", None, tensor=mask, shape=[-1])
        )
        indices = emit_tensor("Squeeze", None, input=chosen, squeeze_dims=[1])
        return gather(flat, indices, axis=start)


def _part(sizes: Tensor, begin: int, end: int | None) -> Tensor:
    """`sizes[begin:end]`."""
    return strided_slice(
        sizes, [begin], [0 if end is None else end], [1], end_mask=1 if end is None else 0
    )


def dynamic_partition(
    data: TensorLike, partitions: TensorLike, num_partitions: int, name: str | None = None
) -> list[Tensor]:
    """The parts of a tensor, each put into one of several tensors.

    Args:
        data: a tensor whose shape begins with that of `partitions`.
        partitions: which tensor each part goes to, int32 in `[0, num_partitions)`.
        num_partitions: how many tensors.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where a number is out of range.
    """
    return emit_tensors(
        "DynamicPartition", name, data=data, partitions=partitions, num_partitions=num_partitions
    )


def dynamic_stitch(
    indices: Sequence[TensorLike], data: Sequence[TensorLike], name: str | None = None
) -> Tensor:
    """Puts parts of several tensors into one, the inverse of `dynamic_partition`.

    Args:
        indices: for each tensor the rows of the result that its parts become, int32.
        data: the tensors; the shape of each begins with that of its indices.
        name: the name of the op.

    Returns:
        A tensor of `1 + max(indices)` rows. Where several parts go to one row, the last one wins.
    """
    return emit_tensor("DynamicStitch", name, indices=indices, data=data)


def unique(x: TensorLike, out_idx: DTypeLike = dtypes.int32, name: str | None = None) -> Unique:
    """The different elements of a vector, in the order in which they first occur.

    Args:
        x: a vector.
        out_idx: the type of `idx`.
        name: the name of the op.

    Returns:
        `y`, the elements, and `idx`: `x[i] == y[idx[i]]`.
    """
    return Unique(*emit_tensors("Unique", name, x=x, out_idx=as_dtype(out_idx)))


def unique_with_counts(
    x: TensorLike, out_idx: DTypeLike = dtypes.int32, name: str | None = None
) -> UniqueWithCounts:
    """`unique`, and how often each element occurs."""
    outputs = emit_tensors("UniqueWithCounts", name, x=x, out_idx=as_dtype(out_idx))
    return UniqueWithCounts(*outputs)


def setdiff1d(
    x: TensorLike,
    y: TensorLike,
    index_dtype: DTypeLike = dtypes.int32,
    name: str | None = None,
) -> ListDiff:
    """The elements of one vector that are not in another.

    Args:
        x: a vector.
        y: another of the same type.
        index_dtype: the type of `idx`.
        name: the name of the op.

    Returns:
        `out`, the elements in their order, and `idx`, their positions in `x`.
    """
    return ListDiff(*emit_tensors("ListDiff", name, x=x, y=y, out_idx=as_dtype(index_dtype)))


listdiff = setdiff1d


def sparse_mask(
    a: IndexedSlices, mask_indices: TensorLike, name: str | None = None
) -> IndexedSlices:
    """The rows of an IndexedSlices whose numbers are not in `mask_indices`.

    Args:
        a: some rows.
        mask_indices: the numbers to leave out, an integer vector.
        name: the scope of the ops.
    """
    with name_scope(name, "sparse_mask", [a.values, a.indices, mask_indices]):
        kept = setdiff1d(a.indices, convert_to_tensor(mask_indices, a.indices.dtype.base_dtype))
        return IndexedSlices(gather(a.values, kept.idx), kept.out, a.dense_shape)


def sequence_mask(
    lengths: TensorLike,
    maxlen: TensorLike | None = None,
    dtype: DTypeLike = dtypes.bool,
    name: str | None = None,
) -> Tensor:
    """For each length a row that is true for that many elements.

    Args:
        lengths: integers of any shape.
        maxlen: the length of the rows, a scalar; the largest of `lengths` by default.
        dtype: the type of the result.
        name: the scope of the ops.
    """
    with name_scope(name, "SequenceMask", [lengths, maxlen]):
        lengths = convert_to_tensor(lengths)
        of_type = lengths.dtype.base_dtype
        if maxlen is None:
            flat = emit_tensor("Reshape", None, tensor=lengths, shape=[-1])
            padded = emit_tensor("ConcatV2", None, values=[flat, constant([0], of_type)], axis=0)
            maxlen = emit_tensor("Max", None, input=padded, reduction_indices=[0])
        limit = convert_to_tensor(maxlen, of_type)
        positions = emit_tensor(
            "Range", None, start=constant(0, of_type), limit=limit, delta=constant(1, of_type)
        )
        column = emit_tensor("ExpandDims", None, input=lengths, dim=-1)
        mask = emit_tensor("Less", None, x=positions, y=column)
        wanted = as_dtype(dtype)
        return mask if wanted is dtypes.bool else emit_tensor("Cast", None, x=mask, DstT=wanted)
