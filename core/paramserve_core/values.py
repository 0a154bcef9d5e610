"""What a user may write where a tensor is wanted, as an array.

The types inferred are TensorFlow's: Python floats are float32, Python ints int32 when they fit,
and NumPy data keeps its type. What cannot be converted without loss, or without a guess, is
refused with an error that shows it.

The idea is to look at the *types* of a nested list's leaves first, in one pass at C speed, and
to let NumPy do the rest: its own inference would make text of `[1, "a"]`, a float of
`[1, 2**63]` and an object array of `[None]`.

Threads: pure functions.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import numpy as np

from paramserve_core import dtypes
from paramserve_core.dimensions import Dimension
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.shapes import TensorShape

Array: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

MAX_RANK: Final = 32  # What every supported NumPy can hold.

_INT32: Final = np.iinfo(np.int32)


def as_ndarray(value: object, dtype: DType | None = None) -> Array:
    """An array of what a user wrote.

    Without `dtype`, an array or NumPy scalar keeps its type (in native byte order; `S`, `U` and
    object arrays become object arrays of `bytes`), and so does whatever has `__array__`. Of
    Python values and lists, `bool` stays, `int` becomes int32, or int64 or uint64 where it does
    not fit, `float` float32, `complex` complex128, `str` (as UTF-8) and `bytes` string; a mixture
    of numbers becomes the widest of them, and nothing at all (`[]`) float32. NumPy scalars in a
    list count as Python's numbers when their type is float64 or int64 and otherwise keep theirs.

    With `dtype`, Python values are converted only where nothing is lost by it: an int to a float
    but not a float to an int, and nothing to or from `bool` except `bool` to a number. Arrays are
    cast as NumPy casts (a float is truncated to an int).

    Unlike in TensorFlow, an integer that the type cannot hold is an error instead of wrapping
    around, and so is a complex array for a real type.

    Args:
        value: A scalar, a nested list or tuple, an array, or a `TensorShape` or `Dimension`.
        dtype: The type wanted; a reference type stands for its base. None infers it.

    Returns:
        The array. It is the caller's own unless `value` is an array that needed no conversion:
        then it is `value` itself, or a view of it.

    Raises:
        TypeError: `value`, or something in it, is of a type that cannot become `dtype`, or
            become a tensor at all.
        ValueError: `value` is None; the lists are ragged or nested too deeply; a number is out
            of range.
    """
    wanted = None if dtype is None else as_dtype(dtype).base_dtype
    if value is None:
        raise ValueError("None is no value for a tensor")
    if isinstance(value, TensorShape):
        value = [_known(dim) for dim in value]
        wanted = wanted or dtypes.int32
    if isinstance(value, np.ndarray | np.generic):
        return _cast(np.asarray(value), wanted)
    if not isinstance(value, str | bytes | builtins.bool | int | float | complex | list | tuple):
        if hasattr(value, "__array__"):
            return _cast(np.asarray(value), wanted)
        if isinstance(value, range):
            value = list(value)
    return _from_python(value, wanted)


# From Python values -----------------------------------------------------------------------------


def _from_python(value: object, wanted: DType | None) -> Array:
    leaves = _leaf_types(value, 0)
    if any(issubclass(leaf, Dimension) for leaf in leaves):
        value, leaves = _without_dimensions(value), {int} | leaves
        leaves = {leaf for leaf in leaves if not issubclass(leaf, Dimension)}
    if any(issubclass(leaf, np.ndarray) or _is_foreign_array(leaf) for leaf in leaves):
        # A list of arrays is an array of one rank more, and keeps their type.
        return _cast(_build(value, None), wanted)
    kinds = {_kind(leaf, value) for leaf in leaves}
    if "string" in kinds:
        if len(kinds) > 1:
            raise TypeError(f"{_brief(value)} mixes text and numbers")
        if wanted not in (None, dtypes.string):
            _refuse(value, leaves, wanted)
        return _encode(_build(value, np.object_))
    if wanted is None:
        wanted = _inferred(leaves, kinds)
        if wanted is None:
            return _integers(value)
    elif not kinds <= _accepted(wanted):
        _refuse(value, leaves, wanted)
    if wanted is dtypes.string:
        return _build(value, np.object_)
    if wanted.is_integer:
        return _in_range(_integers(value, narrow=False), wanted)
    # Through the widest type: not every NumPy type converts from every Python number.
    wide = np.complex128 if wanted.is_complex else None if wanted.is_bool else np.float64
    return _astype(_build(value, wide if kinds else np.float64), wanted)


def _leaf_types(value: object, depth: int) -> set[type]:
    """The types of what is in nested lists and tuples."""
    if not isinstance(value, list | tuple):
        return {type(value)}
    if depth > MAX_RANK:
        raise ValueError(f"lists nested more than {MAX_RANK} deep are no tensor")
    found = set(map(type, value))
    nested = {kind for kind in found if issubclass(kind, list | tuple)}
    if not nested:
        return found
    for item in value:
        if isinstance(item, list | tuple):
            found |= _leaf_types(item, depth + 1)
    return found - nested


def _kind(leaf: type, value: object) -> str:
    """Which of Python's scalar types a type counts as."""
    if issubclass(leaf, builtins.bool | np.bool_):
        return "bool"
    if issubclass(leaf, str | bytes):
        return "string"
    if issubclass(leaf, int | np.integer):
        return "int"
    if issubclass(leaf, complex | np.complexfloating):
        return "complex"
    if issubclass(leaf, float | np.floating):
        return "float"
    if issubclass(leaf, np.generic) and leaf in _NUMPY_SCALARS:
        return "float"
    raise TypeError(f"{_brief(value)}: a {leaf.__name__} is no element of a tensor")


# bfloat16 is not one of NumPy's own floating types.
_NUMPY_SCALARS: Final = frozenset(
    dtype.as_numpy_dtype for dtype in dtypes.ALL_TYPES if dtype is not dtypes.string
)


def _inferred(leaves: set[type], kinds: set[str]) -> DType | None:
    """The type of numbers of these types; None for integers whose values decide."""
    if not kinds:
        return dtypes.float32
    if leaves <= _NUMPY_SCALARS:
        common = as_dtype(np.result_type(*leaves))
        if common not in (dtypes.float64, dtypes.int64):
            return common
    for kind, dtype in (("complex", dtypes.complex128), ("float", dtypes.float32)):
        if kind in kinds:
            return dtype
    return None if "int" in kinds else dtypes.bool


def _accepted(wanted: DType) -> set[str]:
    if wanted.is_bool:
        return {"bool"}
    if wanted is dtypes.string:
        return set()
    kinds = {"bool", "int"}
    if not wanted.is_integer:
        kinds.add("float")
    if wanted.is_complex:
        kinds.add("complex")
    return kinds


def _refuse(value: object, leaves: set[type], wanted: DType | None) -> None:
    accepted = _accepted(wanted) if wanted is not None else set()
    name = wanted.name if wanted is not None else "a tensor"
    for leaf in leaves:
        if _kind(leaf, value) not in accepted:
            found = _first_of(value, leaf)
            raise TypeError(f"Expected {name}, but got {found!r} of type {leaf.__name__}")


def _first_of(value: object, leaf: type) -> object:
    if isinstance(value, list | tuple):
        for item in value:
            found = _first_of(item, leaf)
            if found is not None:
                return found
        return None
    return value if type(value) is leaf else None


def _integers(value: object, narrow: builtins.bool = True) -> Array:
    """Integers in int64, or uint64 where one needs it; in int32 where all fit and `narrow`."""
    try:
        array = _build(value, np.int64)
    except OverflowError:
        try:
            return _build(value, np.uint64)
        except OverflowError:
            raise ValueError(f"{_brief(value)}: an integer does not fit into 64 bits") from None
    if narrow and (not array.size or (_INT32.min <= array.min() and array.max() <= _INT32.max)):
        return array.astype(np.int32)
    return array


def _build(value: object, numpy_type: type | None) -> Array:
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            array = np.array(value, dtype=numpy_type)
    except ValueError as error:
        raise ValueError(f"{_brief(value)} is ragged: rows of one length are wanted") from error
    except OverflowError:
        if numpy_type in (np.float64, np.complex128):
            raise ValueError(f"{_brief(value)}: an integer too large for a float") from None
        raise
    if array.dtype == object and any(isinstance(item, list | tuple) for item in array.flat):
        raise ValueError(f"{_brief(value)} is ragged: rows of one length are wanted")
    return array


def _without_dimensions(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_without_dimensions(item) for item in value]
    return _known(value) if isinstance(value, Dimension) else value


def _known(dim: Dimension) -> int:
    if dim.value is None:
        raise ValueError("an unknown size is no value for a tensor")
    return dim.value


def _is_foreign_array(leaf: type) -> builtins.bool:
    return hasattr(leaf, "__array__") and not issubclass(leaf, np.generic)


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# From arrays ------------------------------------------------------------------------------------


def _cast(array: Array, wanted: DType | None) -> Array:
    try:
        found = as_dtype(array.dtype)
    except TypeError:
        raise TypeError(f"an array of dtype {array.dtype} is no tensor") from None
    if found is dtypes.string:
        if wanted is not None and wanted is not dtypes.string:
            raise TypeError(f"Expected {wanted.name}, but got an array of dtype {array.dtype}")
        return _encode(array)
    if wanted is None or wanted is found:
        return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))
    if wanted is dtypes.string:
        raise TypeError(f"Expected string, but got an array of dtype {array.dtype}")
    if found.is_complex and not (wanted.is_complex or wanted.is_bool):
        raise TypeError(f"Expected {wanted.name}, but got an array of dtype {array.dtype}")
    if found.is_integer and wanted.is_integer:
        return _in_range(array, wanted)
    return _astype(array, wanted)


def _astype(array: Array, wanted: DType) -> Array:
    # A float too large for the type becomes inf, and inf or NaN some integer, as in TensorFlow.
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(wanted.as_numpy_dtype, copy=False)


def _in_range(array: Array, wanted: DType) -> Array:
    if not array.size or np.can_cast(array.dtype, wanted.as_numpy_dtype):
        return array.astype(wanted.as_numpy_dtype, copy=False)
    low, high = int(array.min()), int(array.max())
    if low < wanted.min or high > wanted.max:
        culprit = low if low < wanted.min else high
        raise ValueError(
            f"{culprit} is out of the range of {wanted.name}, {wanted.min} to {wanted.max}"
        )
    return array.astype(wanted.as_numpy_dtype)


def _encode(array: Array) -> Array:
    """An object array of `bytes` of an `S`, `U` or object array."""
    if array.dtype == object and all(type(item) is bytes for item in array.flat):
        return array
    return as_objects((_as_bytes(item) for item in array.flat), array.size).reshape(array.shape)


def _as_bytes(item: object) -> bytes:
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, bytes):
        return bytes(item)
    raise TypeError(f"Expected text or bytes, but got {item!r} of type {type(item).__name__}")


def as_objects(items: Iterable[object], count: int) -> Array:
    """An object vector of `count` items (NumPy would look into them for more axes)."""
    array = np.empty(count, dtype=np.object_)
    for index, item in enumerate(items):
        array[index] = item
    return array
