"""Restoring a tensor into a variable of another type, for savers that ask for it.

Types go up in the order bool, integer, floating point, complex, and within one of these to any
size: NumPy's "same kind" rule. What loses no more than precision is done. A number that would
become another one, an integer out of range or a finite one that would be infinite, is an error.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.dtypes import DType
from paramserve_core.errors import InvalidArgumentError

Array = NDArray[Any]

_NO_NUMBER: Final = -1


def may_cast(stored: DType, wanted: DType) -> bool:
    """Whether values of type `stored` may be restored as `wanted`, as far as types tell."""
    return _NO_NUMBER < _rank(stored) <= _rank(wanted)


def cast(array: Array, stored: DType, wanted: DType, key: str) -> Array:
    """The values in another type; `array` itself if they have it.

    Args:
        array: values of type `stored`, of any shape.
        stored: their type in the checkpoint.
        wanted: a type for which `may_cast`.
        key: names the tensor in errors.

    Raises:
        InvalidArgumentError: one of them is out of the range of `wanted`.
    """
    if stored is wanted:
        return array
    if stored.is_integer and wanted.is_integer and array.size:
        for found in (int(array.min()), int(array.max())):
            if not wanted.min <= found <= wanted.max:
                raise _out_of_range(key, found, stored, wanted)
    with np.errstate(over="ignore"):
        made: Array = array.astype(wanted.as_numpy_dtype)
    if not (wanted.is_floating or wanted.is_complex) or np.isfinite(made).all():
        return made
    lost = np.isfinite(array) & ~np.isfinite(made)
    if lost.any():
        raise _out_of_range(key, array[lost].flat[0], stored, wanted)
    return made


def _rank(dtype: DType) -> int:
    kinds = (dtype.is_bool, dtype.is_integer, dtype.is_floating, dtype.is_complex)
    return kinds.index(True) if any(kinds) else _NO_NUMBER


def _out_of_range(key: str, found: object, stored: DType, wanted: DType) -> InvalidArgumentError:
    return InvalidArgumentError(
        None,
        None,
        f"{key}: {found} of the checkpoint's {stored.name} values is out of the range of "
        f"{wanted.name}, the type in the graph; restore into a variable of type {stored.name}",
    )
