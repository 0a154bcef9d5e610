"""Tensors as bytes: what the transports have in common.

A tensor travels as its elements in row-major order, little-endian; a string tensor as the lengths
of its elements, uint32 each, and then their bytes. A `TensorHeader` says which tensor it is. The
header of a tensor that arrives comes from a peer that may be mistaken or hostile, so everything in
it is checked before memory is set aside.

Thread rule: pure functions.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.values import MAX_RANK
from paramserve_protos.v1 import service_pb2

Array = NDArray[Any]

MAX_TENSORS: Final = 1_000_000

_LENGTH: Final = np.dtype("<u4")
_SWAPS: Final = sys.byteorder == "big"


def pack(tensor: Array) -> tuple[service_pb2.TensorHeader, memoryview]:
    """The header of a tensor and its bytes, which are the tensor's own memory where they can be."""
    dtype = as_dtype(tensor.dtype)
    if dtype is dtypes.string:
        body = _pack_strings(tensor)
    else:
        flat = np.ascontiguousarray(tensor).reshape(-1)
        if _SWAPS:
            flat = flat.byteswap()
        body = memoryview(flat.view(np.uint8))
    header = service_pb2.TensorHeader(
        dtype=dtype.as_datatype_enum, dims=tensor.shape, payload_bytes=len(body)
    )
    return header, body


def _pack_strings(tensor: Array) -> memoryview:
    items = [bytes(item) for item in tensor.reshape(-1)]
    lengths = np.array([len(item) for item in items], _LENGTH)
    return memoryview(lengths.tobytes() + b"".join(items))


class Incoming:
    """A tensor that is arriving: its header was checked, its bytes come.

    The memory is set aside when the first bytes come, and the system provides it as they are
    written, so announcing much costs a peer nothing that it does not send.
    """

    __slots__ = ("_array", "_dtype", "_filled", "_memory", "_shape", "size")

    def __init__(self, header: service_pb2.TensorHeader) -> None:
        self._dtype = _checked_dtype(header)
        self._shape = _checked_shape(header)
        self.size = header.payload_bytes
        count = math.prod(self._shape)
        if self._dtype is dtypes.string:
            if self.size < count * _LENGTH.itemsize:
                raise _malformed(f"{count} strings in {self.size} bytes")
        elif count * self._dtype.size != self.size:
            raise _malformed(
                f"{self._dtype.name} of shape {list(self._shape)} has "
                f"{count * self._dtype.size} bytes, the header says {self.size}"
            )
        self._filled = 0
        self._array: Array | None = None
        self._memory: Array | None = None

    def fill(self, piece: memoryview) -> int:
        """Takes as many bytes of `piece` as belong to this tensor; answers how many."""
        count = min(len(piece), self.size - self._filled)
        if count:
            memory = self._set_aside() if self._memory is None else self._memory
            memory[self._filled : self._filled + count] = np.frombuffer(piece, np.uint8, count)
            self._filled += count
        return count

    def _set_aside(self) -> Array:
        if self._dtype is dtypes.string:
            self._memory = np.empty(self.size, np.uint8)
        else:
            self._array = np.empty(self._shape, self._dtype.as_numpy_dtype)
            self._memory = self._array.reshape(-1).view(np.uint8)
        return self._memory

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have come."""
        return self._filled == self.size

    def array(self) -> Array:
        """The tensor, complete and the caller's own.

        Raises:
            InvalidArgumentError: the lengths of strings do not add up.
        """
        memory = self._set_aside() if self._memory is None else self._memory
        if self._dtype is dtypes.string:
            return _unpack_strings(memory, self._shape)
        array = self._array
        assert array is not None
        if self._dtype is dtypes.bool:
            # Any byte but 0 and 1 would be a bool that NumPy does not expect.
            np.not_equal(memory, 0, out=array.reshape(-1))
        return array.byteswap() if _SWAPS else array


def _unpack_strings(memory: Array, shape: Sequence[int]) -> Array:
    count = math.prod(shape)
    lengths = memory[: count * _LENGTH.itemsize].view(_LENGTH).tolist()
    body = memory[count * _LENGTH.itemsize :].tobytes()
    if sum(lengths) != len(body):
        raise _malformed(f"strings of {sum(lengths)} bytes in {len(body)}")
    array = np.empty(count, np.object_)
    begin = 0
    for index, length in enumerate(lengths):
        array[index] = body[begin : begin + length]
        begin += length
    return array.reshape(shape)


def incoming(
    headers: Sequence[service_pb2.TensorHeader], envelope_bytes: int, max_message_bytes: int
) -> list[Incoming]:
    """The tensors that a message announces.

    Raises:
        InvalidArgumentError: a malformed header.
        ResourceExhaustedError: more tensors or bytes than a message may have.
    """
    if len(headers) > MAX_TENSORS:
        raise ResourceExhaustedError(
            None, None, f"a message with {len(headers)} tensors, the limit is {MAX_TENSORS}"
        )
    check_size(envelope_bytes + sum(h.payload_bytes for h in headers), max_message_bytes)
    return [Incoming(header) for header in headers]


def check_size(message_bytes: int, max_message_bytes: int) -> None:
    """Raises ResourceExhaustedError for a message that is too large."""
    if message_bytes > max_message_bytes:
        raise ResourceExhaustedError(
            None,
            None,
            f"a message of {message_bytes} bytes, the limit is {max_message_bytes}; send the "
            "tensors in several steps, or raise --max-message-bytes of the server",
        )


def _checked_dtype(header: service_pb2.TensorHeader) -> DType:
    try:
        dtype = as_dtype(int(header.dtype))
    except (TypeError, ValueError, KeyError):
        raise _malformed(f"data type {header.dtype} is not known") from None
    if dtype.is_ref_dtype:
        raise _malformed(f"data type {dtype.name} does not travel")
    return dtype


def _checked_shape(header: service_pb2.TensorHeader) -> tuple[int, ...]:
    shape = tuple(header.dims)
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise _malformed(f"a shape of {len(shape)} dimensions, {list(shape[:8])}")
    return shape


def _malformed(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"malformed tensor in a message: {what}")
