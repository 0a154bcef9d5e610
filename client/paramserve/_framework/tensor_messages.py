"""Arrays as messages, and back, for programs that make or read graphs and events by hand.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve_core import tensors
from paramserve_core.dtypes import as_dtype
from paramserve_protos.v1.tensor_pb2 import TensorProto

__all__ = ["make_ndarray", "make_tensor_proto"]


def make_tensor_proto(
    values: Any,
    dtype: DTypeLike | None = None,
    shape: ShapeLike | None = None,
    verify_shape: bool = False,
) -> TensorProto:
    """A message that holds a value.

    Args:
        values: a number, a string, an array, or nested lists of those.
        dtype: the type; that of the value by default.
        shape: the shape; that of the value by default. The last value fills what is left.
        verify_shape: refuse a value of another shape.

    Raises:
        TypeError: a value that has no such type; with `verify_shape`, of another shape.
        ValueError: more values than the shape holds, or 2 GiB of them.
    """
    wanted = None if dtype is None else as_dtype(dtype)
    return tensors.make_tensor_proto(values, wanted, shape, verify_shape)


def make_ndarray(tensor: TensorProto) -> np.ndarray[Any, Any]:
    """The array that a message holds, the caller's own.

    Raises:
        ValueError: the message is malformed.
    """
    return tensors.to_ndarray(tensor)
