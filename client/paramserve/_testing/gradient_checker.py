"""Gradients by small differences, to hold the gradient functions of a program to.

Thread rule: adds to the graph of the calling thread and runs in its default session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.default_session import RunsFetches, default_sessions
from paramserve._framework.tensor import Tensor
from paramserve._gradients.walk import gradients
from paramserve._ops.array import placeholder, zeros_like

__all__ = ["compute_gradient", "compute_gradient_error"]

Array = np.ndarray[Any, Any]


def compute_gradient(
    x: Any,
    x_shape: Any,
    y: Tensor,
    y_shape: Sequence[int],
    x_init_value: Any = None,
    delta: float = 1e-3,
    init_targets: Any = None,
    extra_feed_dict: Any = None,
) -> Any:
    """The derivatives of `y` by `x`: by the gradient functions, and by small differences.

    Args:
        x: a tensor of floats that may be fed, or a list of those.
        x_shape: its shape, or a list of shapes.
        y: a tensor of floats.
        y_shape: its shape.
        x_init_value: the value of `x`; random by default.
        delta: how far `x` is moved to each side.
        init_targets: operations to run first.
        extra_feed_dict: what else to feed.

    Returns:
        Two matrices `[x_size, y_size]`, first by the gradient functions; a list of such pairs for
        a list of `x`.

    Raises:
        TypeError: tensors that are no floats.
        ValueError: there is no default session.
    """
    session = default_sessions.get()
    if session is None:
        raise ValueError("compute_gradient runs in the default session, and there is none")
    if init_targets is not None:
        session.run(init_targets)
    is_list = isinstance(x, (list, tuple))
    xs = list(x) if is_list else [x]
    shapes = list(x_shape) if is_list else [x_shape]
    given = x_init_value if is_list else [x_init_value]
    if x_init_value is None:
        given = [None] * len(xs)
    for tensor in (*xs, y):
        if not tensor.dtype.base_dtype.is_floating:
            raise TypeError(f"{tensor.name}: derivatives of floats only, not {tensor.dtype.name}")
    values = [
        np.array(np.random.random_sample(shape) if value is None else value)
        .astype(tensor.dtype.as_numpy_dtype)
        .reshape(shape)
        for tensor, shape, value in zip(xs, shapes, given, strict=True)
    ]
    feed = {**(extra_feed_dict or {}), **dict(zip(xs, values, strict=True))}
    pairs = [
        (_by_functions(session, feed, x_, y, y_shape), _by_differences(session, feed, x_, y, delta))
        for x_ in xs
    ]
    return pairs if is_list else pairs[0]


def compute_gradient_error(
    x: Any,
    x_shape: Any,
    y: Tensor,
    y_shape: Sequence[int],
    x_init_value: Any = None,
    delta: float = 1e-3,
    init_targets: Any = None,
    extra_feed_dict: Any = None,
) -> float:
    """The largest difference between the matrices of `compute_gradient`; its arguments are those.

    Raises:
        TypeError: as `compute_gradient`.
        ValueError: likewise.
    """
    found = compute_gradient(
        x, x_shape, y, y_shape, x_init_value, delta, init_targets, extra_feed_dict
    )
    pairs = found if isinstance(found, list) else [found]
    return float(max(np.abs(a - b).max(initial=0.0) for a, b in pairs))


def _by_functions(
    session: RunsFetches, feed: dict[Any, Any], x: Tensor, y: Tensor, y_shape: Sequence[int]
) -> Array:
    weights = placeholder(y.dtype.base_dtype, y_shape)
    (gradient,) = gradients(y, x, weights)
    dense = zeros_like(x) if gradient is None else convert_to_tensor(gradient)
    columns = []
    for position in np.ndindex(*y_shape):
        one = np.zeros(y_shape, y.dtype.as_numpy_dtype)
        one[position] = 1
        columns.append(np.asarray(session.run(dense, {**feed, weights: one})).reshape(-1))
    if not columns:
        return np.zeros((feed[x].size, 0), x.dtype.as_numpy_dtype)
    return np.stack(columns, axis=1)


def _by_differences(
    session: RunsFetches, feed: dict[Any, Any], x: Tensor, y: Tensor, delta: float
) -> Array:
    value = feed[x]
    rows = []
    for position in np.ndindex(*value.shape):
        sides = []
        for sign in (1, -1):
            moved = value.copy()
            moved[position] += sign * delta
            sides.append(np.asarray(session.run(y, {**feed, x: moved})).reshape(-1))
        rows.append((sides[0] - sides[1]) / (2 * delta))
    if not rows:
        return np.zeros((0, y.shape.num_elements() or 0), y.dtype.as_numpy_dtype)
    return np.stack(rows)
