"""Tensors as `TensorProto` messages, and the way there and back.

`make_tensor_proto` makes a message of what a user wrote (see `paramserve_core.values` for what
that may be), and `to_ndarray` makes an array of a message.

A message may come from anywhere, so `to_ndarray` checks every length before it trusts it, and
allocates nothing until it knows how much. A tensor's elements are either its raw bytes in
`tensor_content` or a list in the `*_val` field of its type; a short list stands for a tensor
whose remaining elements equal the list's last one, and an empty one for zeros.

Threads: pure functions.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from paramserve_core import dtypes
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.shapes import ShapeLike, TensorShape, as_shape
from paramserve_core.values import MAX_RANK, Array, as_objects
from paramserve_core.values import as_ndarray as as_ndarray
from paramserve_protos.v1 import tensor_pb2

MAX_PROTO_BYTES: Final = (1 << 31) - 1  # No message can be larger.

# The `*_val` field of each type, and the NumPy type of one entry of it. A complex element is two
# entries; a 16-bit float's entry is its bits.
_FIELDS: Final[dict[DType, tuple[str, type]]] = {
    dtypes.float16: ("half_val", np.uint16),
    dtypes.bfloat16: ("half_val", np.uint16),
    dtypes.float32: ("float_val", np.float32),
    dtypes.float64: ("double_val", np.float64),
    dtypes.int8: ("int_val", np.int8),
    dtypes.int16: ("int_val", np.int16),
    dtypes.int32: ("int_val", np.int32),
    dtypes.uint8: ("int_val", np.uint8),
    dtypes.uint16: ("int_val", np.uint16),
    dtypes.uint32: ("uint32_val", np.uint32),
    dtypes.uint64: ("uint64_val", np.uint64),
    dtypes.int64: ("int64_val", np.int64),
    dtypes.bool: ("bool_val", np.bool_),
    dtypes.complex64: ("scomplex_val", np.float32),
    dtypes.complex128: ("dcomplex_val", np.float64),
}


def make_tensor_proto(
    value: object,
    dtype: DType | None = None,
    shape: ShapeLike = None,
    verify_shape: builtins.bool = False,
) -> tensor_pb2.TensorProto:
    """A message of what a user wrote.

    Args:
        value: What `as_ndarray` takes, or a `TensorProto`, which is returned as it is.
        dtype: The type wanted; None infers it.
        shape: The shape of the tensor; None takes the value's. With fewer values than it holds,
            the last value fills the rest.
        verify_shape: Whether the value must have exactly this shape.

    Returns:
        The message; TensorFlow reads it.

    Raises:
        TypeError: As `as_ndarray`; also a value of another shape, with `verify_shape`.
        ValueError: As `as_ndarray`; also more values than `shape` holds, a shape that is not
            fully known, or content of 2 GiB or more.
    """
    if isinstance(value, tensor_pb2.TensorProto):
        return value
    array = as_ndarray(value, dtype)
    element = as_dtype(array.dtype)
    sizes = array.shape if shape is None else _sizes(as_shape(shape))
    if verify_shape and sizes != array.shape:
        raise TypeError(f"Expected a value of shape {sizes}, but got one of shape {array.shape}")
    count = math.prod(sizes)
    # TensorFlow lets one value stand for an empty tensor's elements.
    if array.size > max(count, 1):
        raise ValueError(f"Too many elements provided. Takes at most {count}, but got {array.size}")
    if array.nbytes > MAX_PROTO_BYTES:
        raise ValueError(
            f"a value of shape {array.shape} has {array.nbytes} bytes; a message holds at most "
            f"{MAX_PROTO_BYTES}: feed it instead"
        )
    proto = tensor_pb2.TensorProto(dtype=element.as_datatype_enum)
    proto.tensor_shape.CopyFrom(TensorShape(sizes).as_proto())
    if count == 0 or array.size == 0:
        return proto
    flat = array.reshape(-1)
    if element is dtypes.string:
        proto.string_val.extend(flat.tolist())
    elif array.size == count and count > 1:
        proto.tensor_content = _little_endian(flat).tobytes()
    else:
        name, entry = _FIELDS[element]
        getattr(proto, name).extend(np.ascontiguousarray(flat).view(entry).tolist())
    return proto


def to_ndarray(proto: tensor_pb2.TensorProto, max_bytes: int = MAX_PROTO_BYTES) -> Array:
    """The array that a message holds.

    Args:
        proto: The message. It may come from anyone.
        max_bytes: The most that the array may take. A few bytes of message can describe a tensor
            of any size, so this is checked first. An element of a string tensor counts as the 8
            bytes of its pointer; its text is no longer than the message.

    Returns:
        A writable array in native byte order, the caller's own; of `bytes` objects for strings.

    Raises:
        ValueError: The message is malformed: a type or shape that is none, more or fewer bytes
            than the shape needs, a number that the type cannot hold; or the array would take more
            than `max_bytes`.
    """
    try:
        element = as_dtype(int(proto.dtype)).base_dtype
    except TypeError:
        raise ValueError(f"tensor message: {proto.dtype} is not a known element type") from None
    sizes = _sizes_of_proto(proto)
    count = math.prod(sizes)
    # The sizes beside a 0 are not allocated, but NumPy multiplies them.
    if math.prod(size for size in sizes if size) * max(element.size, 8) >= 1 << 63:
        raise ValueError(f"tensor message: the shape {sizes} is larger than any memory")
    needed = count * (element.size or 8)
    if needed > max_bytes:
        raise ValueError(
            f"tensor message: {element.name} of shape {sizes} takes {needed} bytes, more than "
            f"the limit of {max_bytes}"
        )
    if element is dtypes.string:
        return _strings(proto, count).reshape(sizes)
    content = proto.tensor_content
    if content:
        return _from_content(content, element, sizes)
    name, _ = _FIELDS[element]
    width = 2 if element.is_complex else 1
    entries = _entries(getattr(proto, name), element)
    if len(entries) % width:
        raise ValueError(f"tensor message: {name} ends in the middle of a {element.name}")
    values = entries.view(element.as_numpy_dtype)
    return _fill(values, count, element, name).reshape(sizes)


def _little_endian(array: Array) -> Array:
    # On a little-endian machine this is the array itself.
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _sizes(shape: TensorShape) -> tuple[int, ...]:
    if not shape.is_fully_defined():
        raise ValueError(f"the shape {shape} of a value must be fully known")
    return tuple(int(dim) for dim in shape)


def _sizes_of_proto(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    shape = proto.tensor_shape
    if shape.unknown_rank or len(shape.dim) > MAX_RANK:
        found = "no rank" if shape.unknown_rank else f"rank {len(shape.dim)}"
        raise ValueError(f"tensor message: {found}; it must be from 0 to {MAX_RANK}")
    sizes = tuple(dim.size for dim in shape.dim)
    if any(size < 0 for size in sizes):
        raise ValueError(f"tensor message: the shape {sizes} has a negative size")
    return sizes


def _from_content(content: bytes, element: DType, sizes: tuple[int, ...]) -> Array:
    needed = math.prod(sizes) * element.size
    if len(content) != needed:
        raise ValueError(
            f"tensor message: {element.name} of shape {sizes} needs {needed} bytes, "
            f"tensor_content has {len(content)}"
        )
    if element.is_bool:
        # Any byte but 0 and 1 would be a bool that NumPy does not expect.
        flags: Array = np.frombuffer(content, np.uint8) != 0
        return flags.reshape(sizes)
    stored = np.dtype(element.as_numpy_dtype).newbyteorder("<")
    native = np.dtype(element.as_numpy_dtype)
    result: Array = np.frombuffer(content, stored).astype(native).reshape(sizes)
    return result


def _entries(field: Sequence[Any], element: DType) -> Array:
    """A `*_val` field as an array, each entry checked against what its type holds."""
    name, entry = _FIELDS[element]
    if name not in ("int_val", "half_val"):
        return np.array(field, dtype=entry)
    wide = np.array(field, dtype=np.int64)
    bounds = np.iinfo(entry)
    if wide.size and (wide.min() < bounds.min or wide.max() > bounds.max):
        raise ValueError(f"tensor message: {name} holds a number that is no {element.name}")
    return wide.astype(entry)


def _fill(values: Array, count: int, element: DType, field: str) -> Array:
    """`count` values: these, then the last of them, or zeros when there is none."""
    if count and len(values) > count:
        raise ValueError(f"tensor message: {len(values)} values in {field}, {count} in the shape")
    if len(values) == count:
        return values
    if not len(values):
        return np.zeros(count, dtype=element.as_numpy_dtype)
    filled = np.empty(count, dtype=values.dtype)
    filled[: len(values)] = values[:count]
    filled[len(values) :] = values[-1]
    return filled


def _strings(proto: tensor_pb2.TensorProto, count: int) -> Array:
    if proto.tensor_content:
        items = _packed_strings(proto.tensor_content, count)
    else:
        items = list(proto.string_val)
        if count and len(items) > count:
            raise ValueError(
                f"tensor message: {len(items)} values in string_val, {count} in the shape"
            )
        items = items[:count]
    array = np.empty(count, dtype=np.object_)
    array[:] = items[-1] if items else b""
    array[: len(items)] = as_objects(items, len(items))
    return array


def _packed_strings(content: bytes, count: int) -> list[bytes]:
    """TensorFlow's packed form: all the lengths as varints, then all the text."""
    if count > len(content):
        raise ValueError(f"tensor message: {len(content)} bytes cannot hold {count} strings")
    lengths, position = [], 0
    for _ in range(count):
        length, position = _varint(content, position)
        lengths.append(length)
    if position + sum(lengths) != len(content):
        raise ValueError(
            f"tensor message: the strings' lengths add up to {sum(lengths)}, but "
            f"{len(content) - position} bytes of text follow"
        )
    items = []
    for length in lengths:
        items.append(content[position : position + length])
        position += length
    return items


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """An unsigned varint of at most 64 bits, and the position after it."""
    number = 0
    for shift in range(0, 64, 7):
        if position >= len(content):
            break
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("tensor message: the lengths of its strings are cut off")
