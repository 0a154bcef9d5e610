"""Element types of tensors, numbered as TensorFlow numbers them.

There is one `DType` object per type, so `is` and `==` agree. Each type has a reference twin (the
type of a variable op's output), numbered 100 higher and named `float32_ref`; the two are
compatible and not equal.

`string` tensors are NumPy object arrays of `bytes`; `bfloat16` is `ml_dtypes.bfloat16`. The
module defines `bool`, as TensorFlow's does: the built-in is `builtins.bool` in here.

Threads: everything is immutable once the module is imported.
"""

from __future__ import annotations

import builtins
from typing import Any, Final

import ml_dtypes
import numpy as np

from paramserve_protos.v1 import types_pb2

_REF_OFFSET: Final = 100

# The names, numbers and NumPy types; every other table in this module is made from this one.
_TYPES: Final[tuple[tuple[str, types_pb2.DataType, type], ...]] = (
    ("float32", types_pb2.DT_FLOAT, np.float32),
    ("float64", types_pb2.DT_DOUBLE, np.float64),
    ("int32", types_pb2.DT_INT32, np.int32),
    ("uint8", types_pb2.DT_UINT8, np.uint8),
    ("int16", types_pb2.DT_INT16, np.int16),
    ("int8", types_pb2.DT_INT8, np.int8),
    ("string", types_pb2.DT_STRING, np.object_),
    ("complex64", types_pb2.DT_COMPLEX64, np.complex64),
    ("int64", types_pb2.DT_INT64, np.int64),
    ("bool", types_pb2.DT_BOOL, np.bool_),
    ("bfloat16", types_pb2.DT_BFLOAT16, ml_dtypes.bfloat16),
    ("uint16", types_pb2.DT_UINT16, np.uint16),
    ("complex128", types_pb2.DT_COMPLEX128, np.complex128),
    ("float16", types_pb2.DT_HALF, np.float16),
    ("uint32", types_pb2.DT_UINT32, np.uint32),
    ("uint64", types_pb2.DT_UINT64, np.uint64),
)
_NAME_OF: Final = {int(number): name for name, number, _ in _TYPES}
_NUMPY_OF: Final = {int(number): numpy_type for _, number, numpy_type in _TYPES}

_FLOATS: Final = frozenset({"float16", "bfloat16", "float32", "float64"})
_COMPLEX: Final = frozenset({"complex64", "complex128"})
_UNSIGNED: Final = frozenset({"uint8", "uint16", "uint32", "uint64"})
_INTEGERS: Final = _UNSIGNED | {"int8", "int16", "int32", "int64"}


class DType:
    """The type of a tensor's elements.

    `DType(number)` is the one object of that number in `DataType`, never a second one.
    """

    __slots__ = ("_base", "_enum", "_name", "_numpy", "_twin")

    _enum: int
    _name: str
    _numpy: type
    _base: DType
    _twin: DType

    def __new__(cls, type_enum: int) -> DType:
        """Looks the type up by its number.

        Raises:
            TypeError: There is no such type.
        """
        found = _BY_ENUM.get(type_enum)
        if found is None:
            raise TypeError(f"{type_enum!r} is not the number of a known element type")
        return found

    @property
    def name(self) -> str:
        """The name, such as `float32` or `float32_ref`."""
        return self._name

    @property
    def as_numpy_dtype(self) -> type[Any]:
        """The NumPy scalar type; `numpy.object_` for `string`.

        `Any`: what NumPy's own functions infer from it depends on which type it is.
        """
        return self._numpy

    @property
    def as_datatype_enum(self) -> types_pb2.DataType:
        """The number in the `DataType` enum."""
        return self._enum  # type: ignore[return-value]  # an enum value is an int at run time

    @property
    def base_dtype(self) -> DType:
        """The type without `_ref`."""
        return self._base

    @property
    def real_dtype(self) -> DType:
        """The type of a complex type's real part; every other type's base itself."""
        if self._base._name == "complex64":
            return float32
        if self._base._name == "complex128":
            return float64
        return self._base

    @property
    def is_ref(self) -> builtins.bool:
        """Whether this is a reference type."""
        return self is not self._base

    @property
    def is_ref_dtype(self) -> builtins.bool:
        """The same as `is_ref`, under its oldest name."""
        return self.is_ref

    @property
    def _is_ref_dtype(self) -> builtins.bool:
        return self.is_ref

    @property
    def as_ref(self) -> DType:
        """The reference twin; itself for a reference type."""
        return self if self.is_ref else self._twin

    @property
    def _as_ref(self) -> DType:
        return self.as_ref

    @property
    def is_floating(self) -> builtins.bool:
        """Whether the elements are real floating-point numbers."""
        return self._base._name in _FLOATS

    @property
    def is_integer(self) -> builtins.bool:
        """Whether the elements are integers (`bool` is none)."""
        return self._base._name in _INTEGERS

    @property
    def is_complex(self) -> builtins.bool:
        """Whether the elements are complex numbers."""
        return self._base._name in _COMPLEX

    @property
    def is_bool(self) -> builtins.bool:
        """Whether the elements are truth values."""
        return self._base._name == "bool"

    @property
    def is_unsigned(self) -> builtins.bool:
        """Whether the elements are unsigned integers."""
        return self._base._name in _UNSIGNED

    @property
    def is_numpy_compatible(self) -> builtins.bool:
        """Whether NumPy holds such elements: true of every type here."""
        return True

    @property
    def size(self) -> int:
        """Bytes per element; 0 for `string`, whose elements differ."""
        return 0 if self._base._name == "string" else np.dtype(self._numpy).itemsize

    @property
    def min(self) -> int | float:
        """The lowest finite value.

        Raises:
            TypeError: The type has none: `bool`, `string` and complex types.
        """
        return self._bounds("minimum")[0]

    @property
    def max(self) -> int | float:
        """The highest finite value.

        Raises:
            TypeError: The type has none: `bool`, `string` and complex types.
        """
        return self._bounds("maximum")[1]

    @property
    def limits(self) -> tuple[int | float, int | float]:
        """The non-negative range that image data of this type uses.

        (0, 1) for floating-point types, (0, max) for integers, (0, True) for `bool`.

        Raises:
            ValueError: The type has no such range: `string` and complex types.
        """
        if self.is_floating:
            return (0, 1)
        if self.is_integer:
            return (0, self.max)
        if self.is_bool:
            return (0, True)
        raise ValueError(f"{self._name} has no limits")

    def is_compatible_with(self, other: object) -> builtins.bool:
        """Whether a tensor of type `other` can be used where this type is wanted.

        True for the same type with or without `_ref`.

        Args:
            other: Anything `as_dtype` takes.

        Raises:
            TypeError: `other` is no type.
        """
        return self._base is as_dtype(other)._base

    def _bounds(self, what: str) -> tuple[int | float, int | float]:
        if self.is_integer:
            integers = np.iinfo(self._numpy)
            return int(integers.min), int(integers.max)
        if self.is_floating:
            floats = ml_dtypes.finfo(self._numpy)  # type: ignore[no-untyped-call]
            return float(floats.min), float(floats.max)
        raise TypeError(f"{self._name} has no {what}")

    def __eq__(self, other: object) -> builtins.bool:
        if isinstance(other, DType):
            return self is other
        if other is None:
            return False
        try:
            return self is as_dtype(other)
        except TypeError:
            return False

    def __hash__(self) -> int:
        return self._enum

    def __int__(self) -> int:
        return self._enum

    def __str__(self) -> str:
        return f"<dtype: {self._name!r}>"

    def __repr__(self) -> str:
        return f"ps.{self._name}"

    def __reduce__(self) -> tuple[type[DType], tuple[int]]:
        return (DType, (self._enum,))


def _make(enum: int, name: str, numpy_type: type) -> DType:
    dtype = object.__new__(DType)
    dtype._enum, dtype._name, dtype._numpy = enum, name, numpy_type
    return dtype


def _with_twin(enum: int, name: str, numpy_type: type) -> tuple[DType, DType]:
    base = _make(enum, name, numpy_type)
    ref = _make(enum + _REF_OFFSET, f"{name}_ref", numpy_type)
    base._base = ref._base = base
    base._twin, ref._twin = ref, base
    return base, ref


def _table() -> dict[int, DType]:
    table: dict[int, DType] = {}
    for name, number, numpy_type in _TYPES:
        enum = int(number)
        table[enum], table[enum + _REF_OFFSET] = _with_twin(enum, name, numpy_type)
    return table


_BY_ENUM: Final = _table()

float16: Final = _BY_ENUM[types_pb2.DT_HALF]
half: Final = float16
bfloat16: Final = _BY_ENUM[types_pb2.DT_BFLOAT16]
float32: Final = _BY_ENUM[types_pb2.DT_FLOAT]
float64: Final = _BY_ENUM[types_pb2.DT_DOUBLE]
double: Final = float64
int8: Final = _BY_ENUM[types_pb2.DT_INT8]
int16: Final = _BY_ENUM[types_pb2.DT_INT16]
int32: Final = _BY_ENUM[types_pb2.DT_INT32]
int64: Final = _BY_ENUM[types_pb2.DT_INT64]
uint8: Final = _BY_ENUM[types_pb2.DT_UINT8]
uint16: Final = _BY_ENUM[types_pb2.DT_UINT16]
uint32: Final = _BY_ENUM[types_pb2.DT_UINT32]
uint64: Final = _BY_ENUM[types_pb2.DT_UINT64]
bool: Final = _BY_ENUM[types_pb2.DT_BOOL]
complex64: Final = _BY_ENUM[types_pb2.DT_COMPLEX64]
complex128: Final = _BY_ENUM[types_pb2.DT_COMPLEX128]
string: Final = _BY_ENUM[types_pb2.DT_STRING]

float16_ref: Final = float16.as_ref
half_ref: Final = float16_ref
bfloat16_ref: Final = bfloat16.as_ref
float32_ref: Final = float32.as_ref
float64_ref: Final = float64.as_ref
double_ref: Final = float64_ref
int8_ref: Final = int8.as_ref
int16_ref: Final = int16.as_ref
int32_ref: Final = int32.as_ref
int64_ref: Final = int64.as_ref
uint8_ref: Final = uint8.as_ref
uint16_ref: Final = uint16.as_ref
uint32_ref: Final = uint32.as_ref
uint64_ref: Final = uint64.as_ref
bool_ref: Final = bool.as_ref
complex64_ref: Final = complex64.as_ref
complex128_ref: Final = complex128.as_ref
string_ref: Final = string.as_ref

#: The type of an edge of the graph that carries a handle on something that a running step holds.
#: It is the type of no tensor's elements: no name or number in a message or file stands for it
#: but in the attributes of a node, and `as_dtype` does not know it.
resource: Final = _with_twin(int(types_pb2.DT_RESOURCE), "resource", np.object_)[0]

#: Every type without its reference twin, in the order of the enum.
ALL_TYPES: Final[tuple[DType, ...]] = tuple(
    dtype for _, dtype in sorted(_BY_ENUM.items()) if not dtype.is_ref
)

_BY_NAME: Final[dict[str, DType]] = {
    **{dtype.name: dtype for dtype in _BY_ENUM.values()},
    "half": float16,
    "float": float32,
    "double": float64,
    "half_ref": float16_ref,
    "float_ref": float32_ref,
    "double_ref": double_ref,
}
_BY_PYTHON: Final[dict[object, DType]] = {float: float32, builtins.bool: bool, object: string}
_BY_NUMPY: Final[dict[np.dtype[Any], DType]] = {
    np.dtype(dtype.as_numpy_dtype): dtype for dtype in ALL_TYPES
}
# NumPy makes dtypes of these too, with a warning: np.floating would be float64.
_ABSTRACT: Final = frozenset(
    {
        np.generic,
        np.number,
        np.integer,
        np.signedinteger,
        np.unsignedinteger,
        np.inexact,
        np.floating,
        np.complexfloating,
        np.flexible,
        np.character,
    }
)


def as_dtype(type_value: object) -> DType:
    """The `DType` that a value names.

    Args:
        type_value: A `DType`, a NumPy dtype or scalar type (of either byte order; `S` and `U`
            types are `string`), a name such as `float32`, `float` or `float32_ref`, a number of
            the `DataType` enum, or one of Python's `float` (`float32`), `bool` and `object`
            (`string`). Python's `int` is refused, as TensorFlow refuses it: it does not say
            whether 32 or 64 bits are meant.

    Returns:
        The type.

    Raises:
        TypeError: The value names no type of this package.
    """
    if isinstance(type_value, DType):
        return type_value
    found: DType | None = None
    if isinstance(type_value, str):
        found = _BY_NAME.get(type_value)
    elif isinstance(type_value, int) and not isinstance(type_value, builtins.bool):
        found = _BY_ENUM.get(type_value)
    elif isinstance(type_value, np.dtype):
        found = _from_numpy(type_value)
    elif isinstance(type_value, type):
        if issubclass(type_value, np.generic):
            found = None if type_value in _ABSTRACT else _from_numpy(np.dtype(type_value))
        else:
            found = _BY_PYTHON.get(type_value)
    if found is None:
        raise TypeError(f"{type_value!r} is not the name of an element type{_hint(type_value)}")
    return found


def _from_numpy(dtype: np.dtype[Any]) -> DType | None:
    if dtype.kind in "SUO":
        return string
    return _BY_NUMPY.get(dtype) or _BY_NUMPY.get(dtype.newbyteorder("="))


def as_edge_type(type_value: object) -> DType:
    """`as_dtype` for a type in a graph, which may be `resource` too, by name or number.

    Raises:
        TypeError: it names no type.
    """
    if isinstance(type_value, DType):
        return type_value
    if type_value in ("resource", int(types_pb2.DT_RESOURCE)):
        return resource
    return as_dtype(type_value)


def _hint(value: object) -> str:
    if value is int or value == "int":
        return "; say int32 or int64"
    if value in (str, bytes):
        return "; say string"
    if value is complex or value == "complex":
        return "; say complex64 or complex128"
    return ""
