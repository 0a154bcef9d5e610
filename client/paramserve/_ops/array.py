"""Tensors out of nothing, of other types and of other shapes.

What joins and cuts tensors is in `joining`, what reorders and pads them in `arrangement`; both are
of the family `array` too. Functions that read by index are the family `indexing`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve._ops.renamed import one_of
from paramserve_core import dtypes
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.shapes import TensorShape, as_shape, broadcast_shapes
from paramserve_core.tensors import make_tensor_proto, to_ndarray

__all__ = [
    "bitcast",
    "broadcast_dynamic_shape",
    "broadcast_static_shape",
    "broadcast_to",
    "cast",
    "check_numerics",
    "constant",
    "ensure_shape",
    "expand_dims",
    "fill",
    "identity",
    "identity_n",
    "ones",
    "ones_like",
    "placeholder",
    "placeholder_with_default",
    "rank",
    "reshape",
    "saturate_cast",
    "shape",
    "shape_n",
    "size",
    "squeeze",
    "stop_gradient",
    "to_bfloat16",
    "to_double",
    "to_float",
    "to_int32",
    "to_int64",
    "zeros",
    "zeros_like",
]

_LARGEST_CONSTANT: Final = 1000
"""Elements up to which zeros and ones are a constant; more are filled in when the graph runs."""


# Values out of nothing.


def constant(
    value: Any,
    dtype: DTypeLike | None = None,
    shape: ShapeLike | None = None,
    name: str = "Const",
    verify_shape: bool = False,
) -> Tensor:
    """A tensor whose value is part of the graph.

    Args:
        value: a Python value, a nested list of them, or a NumPy array.
        dtype: the type of the result; inferred from `value` by default.
        shape: the shape of the result; that of `value` by default. A larger shape is filled up
            with the last element of `value`.
        name: the name of the op.
        verify_shape: refuse a value that has another shape than `shape`, instead of filling up.

    Raises:
        TypeError: `value` cannot be represented in `dtype`, or `verify_shape` and shapes differ.
        ValueError: `value` has more elements than `shape`.
    """
    proto = make_tensor_proto(value, dtype=dtype, shape=shape, verify_shape=verify_shape)
    return emit_tensor("Const", name, value=to_ndarray(proto), dtype=as_dtype(proto.dtype))


def placeholder(
    dtype: DTypeLike, shape: ShapeLike | None = None, name: str | None = None
) -> Tensor:
    """A tensor that has no value until `Session.run` is given one in its `feed_dict`.

    Args:
        dtype: the type of the tensor.
        shape: what is fed must have this shape; parts of it may be None. Any shape by default.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where it is needed and not fed.
    """
    return emit_tensor("Placeholder", name, dtype=as_dtype(dtype), shape=as_shape(shape))


def placeholder_with_default(
    input: TensorLike, shape: ShapeLike, name: str | None = None
) -> Tensor:
    """The tensor `input`, unless another value is fed.

    Args:
        input: the default.
        shape: the shape of the result, possibly less specific than that of `input`.
        name: the name of the op.
    """
    return emit_tensor("PlaceholderWithDefault", name, input=input, shape=as_shape(shape))


def zeros(shape: ShapeLike, dtype: DTypeLike = dtypes.float32, name: str | None = None) -> Tensor:
    """A tensor of zeros; of False for booleans, of empty text for strings.

    Args:
        shape: sizes, or an integer vector tensor.
        dtype: the type of the elements.
        name: the name of the op.
    """
    wanted = as_dtype(dtype).base_dtype
    nothing: Any = b"" if wanted is dtypes.string else 0
    return _filled(shape, nothing, wanted, name, "zeros")


def ones(shape: ShapeLike, dtype: DTypeLike = dtypes.float32, name: str | None = None) -> Tensor:
    """A tensor of ones; of True for booleans.

    Args:
        shape: sizes, or an integer vector tensor.
        dtype: the type of the elements.
        name: the name of the op.
    """
    return _filled(shape, 1, as_dtype(dtype).base_dtype, name, "ones")


def _filled(sizes: ShapeLike, value: Any, dtype: DType, name: str | None, default: str) -> Tensor:
    with name_scope(name, default, [sizes]) as scope:
        element = np.array(value, object) if dtype is dtypes.string else value
        element = np.asarray(element, None if dtype is dtypes.string else dtype.as_numpy_dtype)
        static = _static_sizes(sizes)
        if static is not None and static.num_elements() is not None:
            count = static.num_elements() or 0
            if count <= _LARGEST_CONSTANT:
                dims = [int(size) for size in static.as_list() if size is not None]
                return constant(np.full(dims, element, element.dtype), dtype, name=scope)
        return fill(sizes, constant(element, dtype), name=scope)


def _static_sizes(sizes: ShapeLike) -> TensorShape | None:
    """The shape, where it is known without a tensor."""
    if isinstance(sizes, TensorShape):
        return sizes
    if isinstance(sizes, Tensor):
        return None
    try:
        return as_shape(np.atleast_1d(np.asarray(sizes, np.int64)).tolist())
    except (TypeError, ValueError, OverflowError):
        return None


def zeros_like(
    tensor: TensorLike,
    dtype: DTypeLike | None = None,
    name: str | None = None,
    optimize: bool = True,
) -> Tensor:
    """Zeros in the shape of another tensor.

    Args:
        tensor: the other tensor.
        dtype: the type of the result; that of `tensor` by default.
        name: the name of the op.
        optimize: make a constant where the shape is known while the graph is built.
    """
    return _filled_like(tensor, 0, "ZerosLike", dtype, name, optimize)


def ones_like(
    tensor: TensorLike,
    dtype: DTypeLike | None = None,
    name: str | None = None,
    optimize: bool = True,
) -> Tensor:
    """Ones in the shape of another tensor; the arguments are those of `zeros_like`."""
    return _filled_like(tensor, 1, "OnesLike", dtype, name, optimize)


def _filled_like(
    tensor: TensorLike,
    value: int,
    op_type: str,
    dtype: DTypeLike | None,
    name: str | None,
    optimize: bool,
) -> Tensor:
    default = "zeros_like" if value == 0 else "ones_like"
    with name_scope(name, default, [tensor]) as scope:
        tensor = convert_to_tensor(tensor, name="tensor")
        wanted = tensor.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
        if optimize and tensor.shape.is_fully_defined() and wanted is not dtypes.string:
            return _filled(tensor.shape, value, wanted, scope, default)
        if wanted is tensor.dtype.base_dtype:
            return emit_tensor(op_type, scope, x=tensor)
        make = zeros if value == 0 else ones
        return make(shape(tensor), wanted, name=scope)


def fill(dims: ShapeLike, value: TensorLike, name: str | None = None) -> Tensor:
    """A tensor of which every element is `value`.

    Args:
        dims: sizes, or an integer vector tensor.
        value: a scalar.
        name: the name of the op.
    """
    return emit_tensor("Fill", name, dims=dims, value=value)


# The same value.


def identity(input: TensorLike, name: str | None = None) -> Tensor:
    """A tensor with the value of `input`."""
    return emit_tensor("Identity", name, input=input)


def identity_n(input: Sequence[TensorLike], name: str | None = None) -> list[Tensor]:
    """Tensors with the values of those in the list, all computed before any is used."""
    return emit_tensors("IdentityN", name, input=input)


def stop_gradient(input: TensorLike, name: str | None = None) -> Tensor:
    """A tensor with the value of `input` that gradients treat as a constant."""
    return emit_tensor("StopGradient", name, input=input)


def check_numerics(tensor: TensorLike, message: str, name: str | None = None) -> Tensor:
    """The tensor, if all its elements are finite.

    Args:
        tensor: floats.
        message: the beginning of the error's text.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where an element is infinite or nan.
    """
    return emit_tensor("CheckNumerics", name, tensor=tensor, message=message)


def ensure_shape(x: TensorLike, shape: ShapeLike, name: str | None = None) -> Tensor:
    """The tensor, if its value has that shape; from then on it is known.

    Raises:
        InvalidArgumentError: at run time, where the value has another shape.
        ValueError: the shape that is known already is another.
    """
    return emit_tensor("EnsureShape", name, input=x, shape=as_shape(shape))


# Another type.


def cast(x: TensorLike, dtype: DTypeLike, name: str | None = None) -> Any:
    """The elements in another type: floats lose their fraction when they become integers.

    Args:
        x: a tensor, or an IndexedSlices, whose values are cast.
        dtype: the type wanted.
        name: the name of the op.

    Returns:
        What `x` is: a Tensor, or an IndexedSlices.
    """
    wanted = as_dtype(dtype).base_dtype
    if isinstance(x, IndexedSlices):
        return IndexedSlices(cast(x.values, wanted, name), x.indices, x.dense_shape)
    x = convert_to_tensor(x, name="x")
    if x.dtype.base_dtype is wanted:
        return x
    return emit_tensor("Cast", name, x=x, DstT=wanted)


def saturate_cast(value: TensorLike, dtype: DTypeLike, name: str | None = None) -> Tensor:
    """The elements in another type; those beyond its range become its smallest or largest value."""
    with name_scope(name, "saturate_cast", [value]) as scope:
        value = convert_to_tensor(value, name="value")
        wanted = as_dtype(dtype).base_dtype
        source = value.dtype.base_dtype
        if source.min < wanted.min:
            smallest = np.asarray(wanted.min).astype(source.as_numpy_dtype)
            value = emit_tensor("Maximum", None, x=value, y=constant(smallest, source))
        if source.max > wanted.max:
            largest = _largest(wanted, source)
            value = emit_tensor("Minimum", None, x=value, y=constant(largest, source))
        return emit_tensor("Cast", scope, x=value, DstT=wanted)


def _largest(wanted: DType, source: DType) -> Any:
    """The largest value of `source` that `wanted` can hold."""
    largest = np.asarray(wanted.max).astype(source.as_numpy_dtype)
    if wanted.is_integer and int(largest) > wanted.max:  # rounded up on the way
        largest = np.nextafter(largest, largest.dtype.type(0))
    return largest


def to_float(x: TensorLike, name: str = "ToFloat") -> Any:
    """`cast` to float32."""
    return cast(x, dtypes.float32, name)


def to_double(x: TensorLike, name: str = "ToDouble") -> Any:
    """`cast` to float64."""
    return cast(x, dtypes.float64, name)


def to_int32(x: TensorLike, name: str = "ToInt32") -> Any:
    """`cast` to int32."""
    return cast(x, dtypes.int32, name)


def to_int64(x: TensorLike, name: str = "ToInt64") -> Any:
    """`cast` to int64."""
    return cast(x, dtypes.int64, name)


def to_bfloat16(x: TensorLike, name: str = "ToBFloat16") -> Any:
    """`cast` to bfloat16."""
    return cast(x, dtypes.bfloat16, name)


def bitcast(input: TensorLike, type: DTypeLike, name: str | None = None) -> Tensor:
    """The same bytes as another type.

    A narrower type adds a last dimension, a wider one takes the last dimension away.

    Raises:
        ValueError: the last dimension does not fit a wider type.
    """
    return emit_tensor("Bitcast", name, input=input, type=as_dtype(type))


# Shapes as values.


def shape(input: TensorLike, name: str | None = None, out_type: DTypeLike = dtypes.int32) -> Tensor:
    """The shape as an integer vector; a constant where it is known while the graph is built.

    Args:
        input: a tensor, or an IndexedSlices with a dense shape.
        name: the name of the op.
        out_type: int32 or int64.
    """
    wanted = as_dtype(out_type)
    if isinstance(input, IndexedSlices):
        if input.dense_shape is None:
            raise ValueError(f"{input!r} has no dense shape")
        dense: Tensor = cast(input.dense_shape, wanted, name)
        return dense
    with name_scope(name, "Shape", [input]) as scope:
        input = convert_to_tensor(input)
        if input.shape.is_fully_defined():
            return constant(np.array(input.shape.as_list(), wanted.as_numpy_dtype), name=scope)
        return emit_tensor("Shape", scope, input=input, out_type=wanted)


def shape_n(
    input: Sequence[TensorLike], out_type: DTypeLike = dtypes.int32, name: str | None = None
) -> list[Tensor]:
    """The shapes of several tensors of one type, as integer vectors."""
    return emit_tensors("ShapeN", name, input=input, out_type=as_dtype(out_type))


def size(input: TensorLike, name: str | None = None, out_type: DTypeLike = dtypes.int32) -> Tensor:
    """The number of elements, a scalar; a constant where it is known while the graph is built.

    Args:
        input: a tensor.
        name: the name of the op.
        out_type: int32 or int64.
    """
    wanted = as_dtype(out_type)
    with name_scope(name, "Size", [input]) as scope:
        input = convert_to_tensor(input)
        if input.shape.is_fully_defined():
            return constant(input.shape.num_elements(), wanted, name=scope)
        return emit_tensor("Size", scope, input=input, out_type=wanted)


def rank(input: TensorLike, name: str | None = None) -> Tensor:
    """The number of dimensions, an int32 scalar; a constant where it is known."""
    with name_scope(name, "Rank", [input]) as scope:
        input = convert_to_tensor(input)
        if input.shape.ndims is not None:
            return constant(input.shape.ndims, dtypes.int32, name=scope)
        return emit_tensor("Rank", scope, input=input)


def broadcast_static_shape(shape_x: ShapeLike, shape_y: ShapeLike) -> TensorShape:
    """The shape that two shapes broadcast to.

    Raises:
        ValueError: they do not fit.
    """
    return broadcast_shapes(shape_x, shape_y)


def broadcast_dynamic_shape(shape_x: TensorLike, shape_y: TensorLike) -> Tensor:
    """The shape, an integer vector tensor, that two such tensors broadcast to.

    Raises:
        InvalidArgumentError: at run time, where they do not fit.
    """
    return emit_tensor("BroadcastArgs", None, s0=shape_x, s1=shape_y)


# Another shape.


def reshape(tensor: TensorLike, shape: ShapeLike, name: str | None = None) -> Tensor:
    """The elements in another shape, in the same order.

    Args:
        tensor: the elements.
        shape: sizes, or an integer vector tensor; one size may be -1 and follows from the others.
        name: the name of the op.

    Raises:
        ValueError: the number of elements is another, or at run time InvalidArgumentError.
    """
    return emit_tensor("Reshape", name, tensor=tensor, shape=shape)


def expand_dims(
    input: TensorLike,
    axis: TensorLike | None = None,
    name: str | None = None,
    dim: TensorLike | None = None,
) -> Tensor:
    """The tensor with a dimension of 1 inserted.

    Args:
        input: a tensor.
        axis: where the new dimension will be; negative counts from the end.
        name: the name of the op.
        dim: the older name of `axis`.
    """
    where = one_of("axis", axis, "dim", dim)
    if where is None:
        raise ValueError("expand_dims needs an axis")
    return emit_tensor("ExpandDims", name, input=input, dim=where)


def squeeze(
    input: TensorLike,
    axis: int | Sequence[int] | None = None,
    name: str | None = None,
    squeeze_dims: int | Sequence[int] | None = None,
) -> Tensor:
    """The tensor without dimensions of 1.

    Args:
        input: a tensor.
        axis: which dimensions to take away; all that are 1 by default.
        name: the name of the op.
        squeeze_dims: the older name of `axis`.

    Raises:
        ValueError: a dimension that was named is not 1, or at run time InvalidArgumentError.
    """
    chosen = one_of("axis", axis, "squeeze_dims", squeeze_dims)
    dims = () if chosen is None else np.atleast_1d(np.asarray(chosen, np.int64)).tolist()
    return emit_tensor("Squeeze", name, input=input, squeeze_dims=dims)


def broadcast_to(input: TensorLike, shape: ShapeLike, name: str | None = None) -> Tensor:
    """The tensor repeated until it has that shape, by the rules of broadcasting."""
    return emit_tensor("BroadcastTo", name, input=input, shape=shape)
