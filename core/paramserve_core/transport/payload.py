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
from paramserve_core.transport import wire
from paramserve_core.transport.recycling import RECEIVED
from paramserve_core.values import MAX_RANK
from paramserve_protos.v1 import service_pb2, types_pb2

Array = NDArray[Any]

MAX_TENSORS: Final = 1_000_000

_LENGTH: Final = np.dtype("<u4")
_SWAPS: Final = sys.byteorder == "big"

_SMALL_BYTES: Final = 4096
"""Up to here a copy costs less than a view."""


def pack(
    tensor: Array, wire_dtype: DType | None = None
) -> tuple[service_pb2.TensorHeader, memoryview]:
    """The header of a tensor and its bytes, which are the tensor's own memory if it is large.

    Args:
        tensor: the tensor.
        wire_dtype: what it travels as if it is float32; None: as it is.

    Raises:
        InvalidArgumentError: a string of 4 GiB or more.
    """
    dtype = as_dtype(tensor.dtype)
    if not tensor.dtype.isnative:
        tensor = tensor.astype(dtype.as_numpy_dtype)
    narrow = wire_dtype if dtype is dtypes.float32 else None
    if narrow is not None:
        tensor = wire.narrowed(tensor, narrow)
    if dtype is dtypes.string:
        body = memoryview(_pack_strings(tensor))
    elif tensor.nbytes <= _SMALL_BYTES:
        body = memoryview((tensor.byteswap() if _SWAPS else tensor).tobytes())
    else:
        flat = np.ascontiguousarray(tensor).reshape(-1)
        body = (flat.byteswap() if _SWAPS else flat).view(np.uint8).data
    header = service_pb2.TensorHeader(
        dtype=dtype.as_datatype_enum, dims=tensor.shape, payload_bytes=len(body)
    )
    if narrow is not None:
        header.travels_as = narrow.as_datatype_enum
    return header, body


def payload_bytes(tensor: Array, wire_dtype: DType | None = None) -> int:
    """How many bytes a tensor travels as; see `pack`."""
    if wire_dtype is not None and tensor.dtype == np.float32:
        return tensor.size * wire_dtype.size
    if tensor.dtype.hasobject:
        return sum(_LENGTH.itemsize + len(item) for item in tensor.reshape(-1).tolist())
    return tensor.nbytes


def _pack_strings(tensor: Array) -> bytes:
    items = [bytes(item) for item in tensor.reshape(-1).tolist()]
    lengths = [len(item) for item in items]
    longest = max(lengths, default=0)
    if longest > np.iinfo(_LENGTH).max:
        raise InvalidArgumentError(
            None, None, f"a string of {longest} bytes does not travel, it must have less than 4 GiB"
        )
    return np.array(lengths, _LENGTH).tobytes() + b"".join(items)


class Incoming:
    """A tensor that is arriving: its header was checked, its bytes come.

    The memory is set aside when the first bytes come, and the system provides it as they are
    written, so announcing much costs a peer nothing that it does not send.

    Attributes:
        dtype: the type of its elements as they travel.
        shape: its shape.
        size: its bytes as they travel.
    """

    __slots__ = ("_array", "_filled", "_is_narrow", "_memory", "dtype", "shape", "size")

    def __init__(self, header: service_pb2.TensorHeader) -> None:
        self.dtype = _checked_dtype(header.dtype)
        self._is_narrow = header.travels_as != types_pb2.DT_INVALID
        if self._is_narrow:
            self.dtype = _checked_narrow_dtype(self.dtype, header.travels_as)
        self.shape = _checked_shape(header.dims)
        self.size = header.payload_bytes
        count = math.prod(self.shape)
        if self.dtype is dtypes.string:
            if self.size < count * _LENGTH.itemsize:
                raise _malformed(f"{count} strings in {self.size} bytes")
        elif count * self.dtype.size != self.size:
            raise _malformed(
                f"{self.dtype.name} of shape {list(self.shape)} has "
                f"{count * self.dtype.size} bytes, the header says {self.size}"
            )
        self._filled = 0
        self._array: Array | None = None
        self._memory: Array | None = None

    def fill(self, piece: memoryview) -> int:
        """Takes as many bytes of `piece` as belong to this tensor; answers how many.

        Raises:
            ResourceExhaustedError: there is no memory for the tensor.
        """
        count = min(len(piece), self.size - self._filled)
        if count == self.size and count and self.dtype is not dtypes.string:
            # All of it at once, as with most small ones; two calls, where `_set_aside` takes five.
            whole: Array = np.ndarray(self.shape, self.dtype.as_numpy_dtype, piece)
            self._array = whole.copy()
        elif count:
            memory = self._set_aside() if self._memory is None else self._memory
            memory[self._filled : self._filled + count] = np.frombuffer(piece, np.uint8, count)
        self._filled += count
        return count

    def _set_aside(self) -> Array:
        if self.dtype is dtypes.string:
            self._memory = set_aside((self.size,), np.uint8)
        else:
            self._array = set_aside(self.shape, self.dtype.as_numpy_dtype)
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
            ResourceExhaustedError: there is no memory to widen it.
        """
        if self._array is None and self._memory is None:
            self._set_aside()  # It has no bytes.
        if self.dtype is dtypes.string:
            assert self._memory is not None
            return _unpack_strings(self._memory, self.shape)
        array = self._array
        assert array is not None
        if self.dtype is dtypes.bool:
            # Any byte but 0 and 1 would be a bool that NumPy does not expect.
            np.not_equal(array.view(np.uint8), 0, out=array)
        if _SWAPS:
            array = array.byteswap()
        return self._widened(array) if self._is_narrow else array

    def _widened(self, array: Array) -> Array:
        try:
            return wire.widened(array)
        except MemoryError:
            raise _no_memory(self.shape) from None


def _unpack_strings(memory: Array, shape: tuple[int, ...]) -> Array:
    array = set_aside(shape, np.object_)
    count = array.size
    lengths = memory[: count * _LENGTH.itemsize].view(_LENGTH).tolist()
    body = memory[count * _LENGTH.itemsize :].tobytes()
    if sum(lengths) != len(body):
        raise _malformed(f"strings of {sum(lengths)} bytes in {len(body)}")
    flat = array.reshape(-1)
    begin = 0
    for index, length in enumerate(lengths):
        flat[index] = body[begin : begin + length]
        begin += length
    return array


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


def _checked_dtype(number: int) -> DType:
    try:
        dtype = DType(number)
    except TypeError:
        raise _malformed(f"data type {number} is not known") from None
    if dtype.is_ref_dtype:
        raise _malformed(f"data type {dtype.name} does not travel")
    return dtype


def _checked_narrow_dtype(dtype: DType, number: int) -> DType:
    travels_as = _checked_dtype(number)
    if not wire.may_travel_as(dtype, travels_as):
        raise _malformed(f"{dtype.name} does not travel as {travels_as.name}")
    return travels_as


def _checked_shape(dims: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(dims)
    if len(shape) > MAX_RANK or min(shape, default=0) < 0:
        raise _malformed(f"a shape of {len(shape)} dimensions, {list(shape[:8])}")
    return shape


def set_aside(shape: tuple[int, ...], dtype: type[Any]) -> Array:
    """Memory for what comes.

    Raises:
        InvalidArgumentError: no tensor can have that shape.
        ResourceExhaustedError: there is no such memory.
    """
    try:
        return RECEIVED.allocate(shape, dtype)
    except MemoryError:
        raise _no_memory(shape) from None
    except ValueError:
        # Beyond what NumPy can address, as [0, 2**62] is although it has no elements.
        raise _malformed(f"a shape that no tensor can have, {list(shape)}") from None


def _no_memory(shape: Sequence[int]) -> ResourceExhaustedError:
    return ResourceExhaustedError(
        None, None, f"no memory for a tensor of shape {list(shape)} in a message"
    )


def _malformed(what: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, f"malformed tensor in a message: {what}")
