"""`hessians`: second derivatives, the gradient of each element of a gradient.

One loop of the graph takes the elements in turn, so the graph does not grow with their number.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from paramserve._framework.convert import convert_n_to_tensor, convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._gradients.walk import gradients
from paramserve._ops.array import constant, expand_dims, reshape, shape, size, zeros
from paramserve._ops.joining import concat
from paramserve._ops.while_loop import while_loop
from paramserve_core.shapes import TensorShape

__all__ = ["hessians"]


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Tensor]:
    """The matrices of second derivatives of the sum of `ys` by each of `xs`.

    Args:
        ys: a tensor or a list of tensors.
        xs: a tensor, or a list of those; `ys` depend on each.
        name: the scope of the ops.
        colocate_gradients_with_ops: see `gradients`, as all that follow.
        gate_gradients: whether gradients wait for each other.
        aggregation_method: how gradients are added.

    Returns:
        For each of `xs` a tensor of its shape twice: `[i..., j...]` is the second derivative by
        elements i and j.

    Raises:
        LookupError: an op on the way has no gradient function.
        ValueError: `ys` do not depend on one of `xs`.
    """
    derive = partial(
        gradients,
        colocate_gradients_with_ops=colocate_gradients_with_ops,
        gate_gradients=gate_gradients,
        aggregation_method=aggregation_method,
    )
    with name_scope(name):
        x_tensors = convert_n_to_tensor(list(xs) if isinstance(xs, (list, tuple)) else [xs])
        found = derive(ys, x_tensors)
        return [_hessian(x, slope, derive) for x, slope in zip(x_tensors, found, strict=True)]


def _hessian(x: Tensor, gradient: Any, derive: Callable[..., list[Any]]) -> Tensor:
    if gradient is None:
        raise ValueError(f"{x.name}: has no second derivatives, because ys do not depend on it")
    flat = reshape(convert_to_tensor(gradient), [-1])
    count = size(x)
    dtype = x.dtype.base_dtype

    def add_row(index: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
        (row,) = derive(flat[index], x)
        second = zeros(expand_dims(count, 0), dtype) if row is None else convert_to_tensor(row)
        return index + 1, concat([done, reshape(second, [1, -1])], 0)

    _, matrix = while_loop(
        lambda index, _: index < count,
        add_row,
        [constant(0), zeros([0, x.shape.num_elements() or count], dtype)],
        shape_invariants=[TensorShape([]), TensorShape([None, x.shape.num_elements()])],
        back_prop=False,
    )
    result = reshape(matrix, concat([shape(x), shape(x)], 0))
    result.set_shape(x.shape.concatenate(x.shape))
    return result
