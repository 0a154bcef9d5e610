"""Arrays that a session feeds without copying them.

A gradient that a program feeds from an array of its own is copied into memory that the server can
map. A program that computes it in such memory in the first place saves that, which for large
gradients is most of what a push costs the client.

Thread rule: pure functions.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import as_dtype
from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.shapes import as_shape


def new_buffer(shape: ShapeLike, dtype: DTypeLike, *, is_shared: bool) -> NDArray[Any]:
    """See `Session.buffer`.

    Args:
        shape: its shape.
        dtype: the type of its elements.
        is_shared: whether servers may be able to map it.
    """
    wanted = as_shape(shape)
    if not wanted.is_fully_defined():
        raise ValueError(
            f"a buffer of shape {wanted}: say how long each axis is, as in "
            "session.buffer([128, 10], dtype)"
        )
    base = as_dtype(dtype).base_dtype
    if base.as_numpy_dtype is np.object_:
        raise TypeError("a buffer of strings: feed a list or an array of strings instead")
    sizes, numpy_dtype = [int(size) for size in wanted], np.dtype(base.as_numpy_dtype)
    try:
        return _zeros(sizes, numpy_dtype, is_shared=is_shared)
    except (MemoryError, ValueError, OverflowError, OSError) as error:
        nbytes = math.prod(sizes) * numpy_dtype.itemsize
        raise ResourceExhaustedError(
            None,
            None,
            f"a buffer of shape {wanted}, {base.name}, has {nbytes} bytes, and the system does not "
            f"give as many ({error}); feed in smaller parts",
        ) from error


def _zeros(sizes: list[int], numpy_dtype: np.dtype[Any], *, is_shared: bool) -> NDArray[Any]:
    if not is_shared:
        return np.zeros(sizes, numpy_dtype)
    # gRPC takes a while to import, and a session in process does not need it.
    from paramserve_core.transport.choice import push_buffer

    return push_buffer(sizes, numpy_dtype)


def new_buffer_like(value: object, *, is_shared: bool) -> NDArray[Any]:
    """See `Session.buffer_like`."""
    if not isinstance(value, Tensor | Variable | np.ndarray):
        raise TypeError(
            "a buffer like a tensor, a variable or an array, but got "
            f"{type(value).__name__!r}; session.buffer(shape, dtype) takes a shape"
        )
    return new_buffer(value.shape, value.dtype, is_shared=is_shared)
