"""Attributes of an operation as messages, with an eye on large constants.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.graphdef import attr_to_proto
from paramserve_core.opdefs import AttrDef
from paramserve_core.shapes import TensorShape
from paramserve_core.tensors import make_tensor_proto
from paramserve_protos.v1 import attr_value_pb2, tensor_pb2


def write_attr(proto: attr_value_pb2.AttrValue, value: Any, attr: AttrDef) -> None:
    """Sets a message to the canonical value of an attribute."""
    if isinstance(value, np.ndarray):
        proto.tensor.CopyFrom(tensor_message(value))
    else:
        proto.CopyFrom(attr_to_proto(value, attr))


def attr_as_message(value: Any) -> Any:
    """One canonical value as a program sees it: arrays and shapes as messages, text as bytes."""
    if isinstance(value, np.ndarray):
        return tensor_message(value)
    if isinstance(value, TensorShape):
        return value.as_proto()
    return value.encode() if isinstance(value, str) else value


def tensor_message(array: NDArray[Any]) -> tensor_pb2.TensorProto:
    """The array as a message; one that repeats a single element in memory holds it once.

    Raises:
        ValueError: it takes 2 GiB or more.
    """
    if _is_splat(array):
        return make_tensor_proto(array[(slice(1),) * array.ndim].reshape(()), shape=array.shape)
    return make_tensor_proto(array)


def message_bytes(array: NDArray[Any]) -> int:
    """About how many bytes the array takes in a message."""
    return array.itemsize if _is_splat(array) else array.nbytes


def _is_splat(array: NDArray[Any]) -> bool:
    return array.size > 1 and not any(array.strides)
