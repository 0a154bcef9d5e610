"""Functions that make, shape, join, cut and index tensors.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.apply import apply_op
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve_core.dtypes import as_dtype
from paramserve_core.shapes import as_shape
from paramserve_core.tensors import make_tensor_proto, to_ndarray

__all__ = [
    "constant",
    "identity",
    "placeholder",
    "placeholder_with_default",
    "stop_gradient",
]


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
    result: Tensor = apply_op("Const", name, value=to_ndarray(proto), dtype=as_dtype(proto.dtype))
    return result


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
    result: Tensor = apply_op("Placeholder", name, dtype=as_dtype(dtype), shape=as_shape(shape))
    return result


def placeholder_with_default(
    input: TensorLike, shape: ShapeLike, name: str | None = None
) -> Tensor:
    """The tensor `input`, unless another value is fed.

    Args:
        input: the default.
        shape: the shape of the result, possibly less specific than that of `input`.
        name: the name of the op.
    """
    result: Tensor = apply_op("PlaceholderWithDefault", name, input=input, shape=as_shape(shape))
    return result


def identity(input: TensorLike, name: str | None = None) -> Tensor:
    """A tensor with the value of `input`."""
    result: Tensor = apply_op("Identity", name, input=input)
    return result


def stop_gradient(input: TensorLike, name: str | None = None) -> Tensor:
    """A tensor with the value of `input` that gradients treat as a constant."""
    result: Tensor = apply_op("StopGradient", name, input=input)
    return result
