"""How a tensor's elements are bytes in a file, per format.

Numbers are little-endian in every format. They differ in what they have no type for:

- `safetensors` has no strings and no complex numbers of 128 bits. A string tensor is the `uint32`
  lengths of its elements, then their bytes; a complex tensor has a last dimension of 2.
- TensorFlow's bundle has strings as the lengths in varints, a checksum of the lengths, the bytes.

Thread rule: pure functions.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes
from paramserve_core.checkpoint.json_fields import MalformedError
from paramserve_core.dtypes import DType

Array = NDArray[Any]

_SAFETENSORS_NAMES: Final[dict[DType, str]] = {
    dtypes.float16: "F16",
    dtypes.bfloat16: "BF16",
    dtypes.float32: "F32",
    dtypes.float64: "F64",
    dtypes.int8: "I8",
    dtypes.int16: "I16",
    dtypes.int32: "I32",
    dtypes.int64: "I64",
    dtypes.uint8: "U8",
    dtypes.uint16: "U16",
    dtypes.uint32: "U32",
    dtypes.uint64: "U64",
    dtypes.bool: "BOOL",
    dtypes.complex64: "F32",
    dtypes.complex128: "F64",
    dtypes.string: "U8",
}


def bytes_of(array: Array) -> memoryview:
    """The elements of a numeric array as they are stored, without a copy where that can be."""
    contiguous = np.ascontiguousarray(array)
    if sys.byteorder == "big":
        contiguous = contiguous.byteswap()
    return contiguous.reshape(-1).view(np.uint8).data


def fix_byte_order(*arrays: Array) -> None:
    """Puts what was read into arrays' memory into this machine's byte order."""
    if sys.byteorder == "big":
        for array in arrays:
            array.byteswap(inplace=True)


def check_values(array: Array) -> None:
    """Refuses bytes that are no values of the array's type.

    Raises:
        MalformedError: a bool that is neither 0 nor 1.
    """
    if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise MalformedError("a bool is neither 0 nor 1")


def pack_strings(array: Array) -> memoryview:
    """A string tensor as the own format stores it.

    Raises:
        MalformedError: an element of 4 GiB or more.
    """
    elements = array.reshape(-1).tolist()
    lengths = [len(element) for element in elements]
    if max(lengths, default=0) >= 1 << 32:
        raise MalformedError("a string has 4 GiB or more")
    packed = np.array(lengths, "<u4").tobytes() + b"".join(elements)
    return memoryview(packed)


def unpack_strings(content: bytes | memoryview, shape: tuple[int, ...]) -> Array:
    """The string tensor that `pack_strings` stored.

    Raises:
        MalformedError: the lengths do not add up to what is there.
    """
    count = math.prod(shape)
    head = 4 * count
    if len(content) < head:
        raise MalformedError(f"{len(content)} bytes cannot hold {count} strings")
    lengths = np.frombuffer(content, "<u4", count)
    if head + int(lengths.sum(dtype=np.uint64)) != len(content):
        raise MalformedError("the strings' lengths do not add up to the bytes that are stored")
    return split_strings(memoryview(content)[head:], lengths.tolist(), shape)


def split_strings(content: memoryview, lengths: list[int], shape: tuple[int, ...]) -> Array:
    """A string tensor of consecutive elements of those lengths."""
    result = np.empty(len(lengths), np.object_)
    position = 0
    for i, length in enumerate(lengths):
        result[i] = bytes(content[position : position + length])
        position += length
    return result.reshape(shape)


def safetensors_form(
    dtype: DType, shape: tuple[int, ...], nbytes: int
) -> tuple[str, tuple[int, ...]]:
    """The type name and the shape that a tensor has in a safetensors file."""
    name = _SAFETENSORS_NAMES[dtype]
    if dtype is dtypes.string:
        return name, (nbytes,)
    return name, (*shape, 2) if dtype.is_complex else shape
