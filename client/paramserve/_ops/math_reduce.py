"""Reductions over dimensions, positions of extremes, running totals, sums of many tensors.

Every reduction takes the dimensions as `axis` (older: `reduction_indices`): an int, a list, or an
integer tensor, negative ones counted from the end; None reduces all of them, to a scalar.
`keep_dims` (later: `keepdims`) leaves the reduced dimensions there with size 1.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramserve._framework.convert import convert_n_to_tensor, convert_to_tensor
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._ops.array import cast, constant, rank, reshape, shape, stop_gradient, zeros_like
from paramserve._ops.elementary import exp, is_finite, log
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import where
from paramserve._ops.math import add, not_equal, subtract
from paramserve._ops.renamed import one_of
from paramserve_core import dtypes
from paramserve_core.dtypes import as_dtype
from paramserve_core.shapes import TensorShape, as_shape

__all__ = [
    "accumulate_n",
    "add_n",
    "arg_max",
    "arg_min",
    "argmax",
    "argmin",
    "count_nonzero",
    "cumprod",
    "cumsum",
    "reduce_all",
    "reduce_any",
    "reduce_logsumexp",
    "reduce_max",
    "reduce_mean",
    "reduce_min",
    "reduce_prod",
    "reduce_sum",
]


def _reduce(
    op_type: str,
    input_tensor: TensorLike,
    axis: TensorLike | None,
    keep_dims: bool | None,
    name: str | None,
    reduction_indices: TensorLike | None,
    keepdims: bool | None,
) -> Tensor:
    axis = one_of("axis", axis, "reduction_indices", reduction_indices)
    keep = one_of("keepdims", keepdims, "keep_dims", keep_dims)
    with name_scope(name, op_type, [input_tensor]) as scope:
        source = convert_to_tensor(input_tensor, name="input_tensor")
        axes = all_axes(source) if axis is None else axis
        result = emit_tensor(
            op_type, scope, input=source, reduction_indices=axes, keep_dims=bool(keep)
        )
        if axis is None and not keep:
            result.set_shape([])
        return result


def all_axes(source: Tensor) -> Tensor:
    """All dimensions of a tensor, an int32 vector; a constant where their number is known."""
    if source.shape.ndims is not None:
        return constant(np.arange(source.shape.ndims, dtype=np.int32))
    return emit_tensor("Range", None, start=0, limit=rank(source), delta=1)


def reduce_sum(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The sum over dimensions.

    Args:
        input_tensor: numbers.
        axis: the dimensions; all by default.
        keep_dims: leave them there with size 1.
        name: the name of the op.
        reduction_indices: the older name of `axis`.
        keepdims: the newer name of `keep_dims`.

    Raises:
        ValueError: a dimension out of range, or at run time InvalidArgumentError.
    """
    return _reduce("Sum", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_mean(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The mean over dimensions; of integers rounded towards zero. Arguments as of `reduce_sum`."""
    return _reduce("Mean", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_prod(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The product over dimensions. Arguments as of `reduce_sum`."""
    return _reduce("Prod", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_max(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The largest element over dimensions. Arguments as of `reduce_sum`."""
    return _reduce("Max", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_min(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """The smallest element over dimensions. Arguments as of `reduce_sum`."""
    return _reduce("Min", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_all(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Whether all elements are true, over dimensions. Arguments as of `reduce_sum`."""
    return _reduce("All", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_any(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """Whether some element is true, over dimensions. Arguments as of `reduce_sum`."""
    return _reduce("Any", input_tensor, axis, keep_dims, name, reduction_indices, keepdims)


def reduce_logsumexp(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """`log(sum(exp(x)))` over dimensions, without overflow. Arguments as of `reduce_sum`."""
    axis = one_of("axis", axis, "reduction_indices", reduction_indices)
    keep = bool(one_of("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "ReduceLogSumExp", [input_tensor]) as scope:
        source = convert_to_tensor(input_tensor, name="input_tensor")
        largest = reduce_max(source, axis, keep_dims=True)
        # An infinite largest would give inf - inf.
        offset = stop_gradient(where(is_finite(largest), largest, zeros_like(largest)))
        total = log(reduce_sum(exp(subtract(source, offset)), axis, keep_dims=keep))
        if not keep:
            offset = reshape(offset, shape(total))
        return add(total, offset, name=scope)


def count_nonzero(
    input_tensor: TensorLike,
    axis: TensorLike | None = None,
    keep_dims: bool | None = None,
    dtype: DTypeLike = dtypes.int64,
    name: str | None = None,
    reduction_indices: TensorLike | None = None,
    keepdims: bool | None = None,
) -> Tensor:
    """How many elements are not zero (not empty, of strings), over dimensions.

    Args:
        input_tensor: numbers, booleans or strings.
        axis: the dimensions; all by default.
        keep_dims: leave them there with size 1.
        dtype: the type of the counts.
        name: the scope of the ops.
        reduction_indices: the older name of `axis`.
        keepdims: the newer name of `keep_dims`.
    """
    with name_scope(name, "count_nonzero", [input_tensor]):
        source = convert_to_tensor(input_tensor, name="input_tensor")
        nothing = constant(b"" if source.dtype.base_dtype is dtypes.string else 0, source.dtype)
        flags = cast(not_equal(source, nothing), dtypes.int64)
        total = reduce_sum(flags, axis, keep_dims, None, reduction_indices, keepdims)
        counts: Tensor = cast(total, dtype)
        return counts


def argmax(
    input: TensorLike,
    axis: TensorLike | None = None,
    name: str | None = None,
    dimension: TensorLike | None = None,
    output_type: DTypeLike = dtypes.int64,
) -> Tensor:
    """The position of the largest element along a dimension; of several, the first.

    Args:
        input: numbers.
        axis: the dimension, a scalar; 0 by default.
        name: the name of the op.
        dimension: the older name of `axis`.
        output_type: int32 or int64.
    """
    return _position(
        "ArgMax", input, one_of("axis", axis, "dimension", dimension), name, output_type
    )


def argmin(
    input: TensorLike,
    axis: TensorLike | None = None,
    name: str | None = None,
    dimension: TensorLike | None = None,
    output_type: DTypeLike = dtypes.int64,
) -> Tensor:
    """The position of the smallest element along a dimension. Arguments as of `argmax`."""
    return _position(
        "ArgMin", input, one_of("axis", axis, "dimension", dimension), name, output_type
    )


arg_max = argmax
arg_min = argmin


def _position(
    op_type: str, input: TensorLike, axis: TensorLike | None, name: str | None, output: DTypeLike
) -> Tensor:
    return emit_tensor(
        op_type,
        name,
        input=input,
        dimension=0 if axis is None else axis,
        output_type=as_dtype(output),
    )


def cumsum(
    x: TensorLike,
    axis: TensorLike = 0,
    exclusive: bool = False,
    reverse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The running sum along a dimension.

    Args:
        x: numbers.
        axis: the dimension, a scalar.
        exclusive: each sum without its own element, beginning with 0.
        reverse: from the end to the beginning.
        name: the name of the op.
    """
    return emit_tensor("Cumsum", name, x=x, axis=axis, exclusive=exclusive, reverse=reverse)


def cumprod(
    x: TensorLike,
    axis: TensorLike = 0,
    exclusive: bool = False,
    reverse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The running product along a dimension; exclusive ones begin with 1. See `cumsum`."""
    return emit_tensor("Cumprod", name, x=x, axis=axis, exclusive=exclusive, reverse=reverse)


def add_n(inputs: Sequence[TensorLike], name: str | None = None) -> Tensor:
    """The sum of tensors of one type and shape.

    Args:
        inputs: tensors; an IndexedSlices among them is taken as the dense tensor it stands for.
        name: the name of the op.

    Raises:
        ValueError: no list, an empty one, or shapes and types that differ.
    """
    tensors = _alike(
        inputs, "inputs must be a list of at least one Tensor with the same dtype and shape"
    )
    if len(tensors) == 1 and not isinstance(inputs[0], IndexedSlices):
        return tensors[0] if name is None else emit_tensor("Identity", name, input=tensors[0])
    return emit_tensor("AddN", name, inputs=tensors)


def accumulate_n(
    inputs: Sequence[TensorLike],
    shape: ShapeLike | None = None,
    tensor_dtype: DTypeLike | None = None,
    name: str | None = None,
) -> Tensor:
    """`add_n`, for tensors whose shape may be known only together.

    Args:
        inputs: tensors of one type and shape.
        shape: the shape, as far as it is known.
        tensor_dtype: their type, checked.
        name: the name of the op.

    Raises:
        TypeError: another type than `tensor_dtype`.
        ValueError: no list, an empty one, or shapes and types that differ.
    """
    tensors = _alike(inputs, "inputs must be a list of at least one Tensor with the same dtype")
    found = tensors[0].dtype.base_dtype
    if tensor_dtype is not None and as_dtype(tensor_dtype) is not found:
        raise TypeError(
            f"tensor_dtype is {as_dtype(tensor_dtype).name}, but input is of type {found.name}"
        )
    known = TensorShape(None) if shape is None else as_shape(shape)
    for tensor in tensors:
        known = known.merge_with(tensor.shape)
    if len(tensors) == 1:
        return tensors[0] if name is None else emit_tensor("Identity", name, input=tensors[0])
    return emit_tensor("AccumulateNV2", name, inputs=tensors, shape=known)


def _alike(inputs: Sequence[TensorLike], text: str) -> list[Tensor]:
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError(f"{text}, got {inputs!r}")
    tensors = convert_n_to_tensor(inputs)
    if len({tensor.dtype.base_dtype for tensor in tensors}) > 1:
        raise ValueError(f"{text}, got {inputs!r}")
    shape = TensorShape(None)
    for tensor in tensors:
        try:
            shape = shape.merge_with(tensor.shape)
        except ValueError as error:
            raise ValueError(f"{text}: {error}") from None
    return tensors
