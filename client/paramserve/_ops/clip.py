"""Functions that keep values and gradients within bounds.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.convert import convert_to_tensor, convert_to_tensor_or_indexed_slices
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.scopes import colocate_with, name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import cast, constant, identity, size
from paramserve._ops.elementary import sqrt
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import where
from paramserve._ops.joining import stack
from paramserve._ops.math import divide, greater, maximum, minimum, multiply, realdiv
from paramserve._ops.math_reduce import reduce_sum

__all__ = [
    "clip_by_average_norm",
    "clip_by_global_norm",
    "clip_by_norm",
    "clip_by_value",
    "global_norm",
]


def clip_by_value(
    t: TensorLike,
    clip_value_min: TensorLike,
    clip_value_max: TensorLike,
    name: str | None = None,
) -> Any:
    """The values within bounds: those below become the lower one, those above the upper one.

    Args:
        t: a tensor, or an IndexedSlices, whose values are clipped.
        clip_value_min: the lower bound, which broadcasts with `t`.
        clip_value_max: the upper bound, which broadcasts with `t`.
        name: the scope of the ops.

    Returns:
        What `t` is: a Tensor, or an IndexedSlices.

    Raises:
        ValueError: the bounds would make the result larger than `t`.
    """
    values = t.values if isinstance(t, IndexedSlices) else t
    with name_scope(name, "clip_by_value", [values, clip_value_min, clip_value_max]) as scope:
        values = convert_to_tensor(values, name="t")
        below = minimum(values, clip_value_max)
        values.shape.merge_with(below.shape)
        clipped = maximum(below, clip_value_min, name=scope)
        values.shape.merge_with(clipped.shape)
    return _like(t, clipped)


def clip_by_norm(
    t: TensorLike, clip_norm: TensorLike, axes: TensorLike | None = None, name: str | None = None
) -> Any:
    """A tensor scaled down to an L2 norm, if its own is larger: `t * clip_norm / norm(t)`.

    Args:
        t: a tensor, or an IndexedSlices, whose values are clipped.
        clip_norm: the largest norm.
        axes: the dimensions over which a norm is taken; all by default.
        name: the scope of the ops.

    Returns:
        What `t` is: a Tensor, or an IndexedSlices.
    """
    values = t.values if isinstance(t, IndexedSlices) else t
    with name_scope(name, "clip_by_norm", [values, clip_norm]) as scope:
        values = convert_to_tensor(values, name="t")
        total = reduce_sum(multiply(values, values), axes, keep_dims=True)
        some = greater(total, constant(0, total.dtype.base_dtype))
        # The derivative of the root at 0 is infinite, and times 0 not a number.
        safe = where(some, total, emit_tensor("OnesLike", None, x=total))
        norm = where(some, sqrt(safe), total)
        scaled = multiply(values, clip_norm)
        values.shape.merge_with(scaled.shape)
        clipped = divide(scaled, maximum(norm, clip_norm), name=scope)
    return _like(t, clipped)


def clip_by_average_norm(t: TensorLike, clip_norm: TensorLike, name: str | None = None) -> Tensor:
    """A tensor scaled down to an L2 norm per element, if its own is larger.

    Args:
        t: a tensor.
        clip_norm: the largest value of its norm divided by its number of elements.
        name: the scope of the ops.
    """
    with name_scope(name, "clip_by_average_norm", [t, clip_norm]) as scope:
        t = convert_to_tensor(t, name="t")
        dtype = t.dtype.base_dtype
        count = cast(size(t), dtype)
        norm = sqrt(reduce_sum(multiply(t, t), keep_dims=True))
        average = realdiv(norm, count)
        bound = convert_to_tensor(clip_norm, dtype, name="clip_norm")
        return realdiv(multiply(t, bound), maximum(average, bound), name=scope)


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor | None:
    """The L2 norm of several tensors as if they were one: `sqrt(sum(l2norm(t) ** 2))`.

    Args:
        t_list: tensors, IndexedSlices, and None, which is passed over.
        name: the scope of the ops.

    Returns:
        A scalar; None where there is nothing but None.

    Raises:
        TypeError: `t_list` is no list.
    """
    _check_list(t_list)
    given = [t for t in t_list if t is not None]
    with name_scope(name, "global_norm", given) as scope:
        halves = []
        for t in given:
            values = convert_to_tensor_or_indexed_slices(t)
            values = values.values if isinstance(values, IndexedSlices) else values
            with colocate_with(values):
                halves.append(emit_tensor("L2Loss", None, t=values))
        if not halves:
            return None
        half = reduce_sum(stack(halves))
        return sqrt(multiply(half, constant(2.0, half.dtype.base_dtype)), name=scope)


def clip_by_global_norm(
    t_list: Sequence[Any],
    clip_norm: TensorLike,
    use_norm: Tensor | None = None,
    name: str | None = None,
) -> tuple[list[Any], Tensor | None]:
    """Several tensors scaled down together, if their `global_norm` is larger than a bound.

    Each becomes `t * clip_norm / max(global_norm, clip_norm)`, so that they keep their
    proportions; see Pascanu et al., "On the difficulty of training recurrent neural networks",
    2012. If the norm is infinite or nan, all elements become nan.

    Args:
        t_list: tensors, IndexedSlices, and None, which stays None.
        clip_norm: the largest norm, a scalar.
        use_norm: the norm, if it is known already.
        name: the scope of the ops.

    Returns:
        The tensors, and the global norm.

    Raises:
        TypeError: `t_list` is no list.
    """
    _check_list(t_list)
    norm = global_norm(t_list, name) if use_norm is None else use_norm
    given = [t for t in t_list if t is not None]
    if norm is None:
        return list(t_list), None
    with name_scope(name, "clip_by_global_norm", [*given, clip_norm]) as scope:
        dtype = norm.dtype.base_dtype
        bound = convert_to_tensor(clip_norm, dtype, name="clip_norm")
        one = constant(1.0, dtype)
        scale = bound * minimum(one / norm, one / bound)
        scale += norm - norm  # nan if the norm is not finite
        clipped: list[Any] = []
        for i, t in enumerate(t_list):
            if t is None:
                clipped.append(None)
                continue
            source = convert_to_tensor_or_indexed_slices(t)
            values = source.values if isinstance(source, IndexedSlices) else source
            with colocate_with(values):
                factor = scale if values.dtype.base_dtype is dtype else cast(scale, values.dtype)
                scaled = identity(multiply(values, factor), name=f"{scope}_{i}")
            clipped.append(_like(source, scaled))
        return clipped, norm


def _like(t: TensorLike, values: Tensor) -> Any:
    """The values as what `t` is."""
    return (
        IndexedSlices(values, t.indices, t.dense_shape) if isinstance(t, IndexedSlices) else values
    )


def _check_list(t_list: Any) -> None:
    if not isinstance(t_list, (list, tuple)):
        raise TypeError(f"t_list must be a list of tensors, got {t_list!r}")
