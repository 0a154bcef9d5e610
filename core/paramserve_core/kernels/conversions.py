"""Converting the elements of an array to another type, as C's casts do.

A complex number converts by its real part, also to bool. A float that an integer type cannot hold
converts to whatever the processor makes of it. With `truncate`, a float that loses digits is
rounded towards zero instead of to the nearest: the digits that go are cleared first.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any, Final

import ml_dtypes
import numpy as np

from paramserve_core.kernels.numerics import Array

_FRACTION_BITS: Final = {
    np.dtype(ml_dtypes.bfloat16): 7,
    np.dtype(np.float16): 10,
    np.dtype(np.float32): 23,
    np.dtype(np.float64): 52,
}


def convert(values: Array, dtype: np.dtype[Any], truncate: bool) -> Array:
    """`values` as numbers (or bools) of `dtype`; the array itself if they are that already."""
    if values.dtype == dtype:
        return values
    if values.dtype.kind == "c":
        if dtype.kind == "c":
            if truncate and dtype.itemsize < values.dtype.itemsize:
                result = np.empty(values.shape, dtype)
                result.real = convert(values.real, result.real.dtype, truncate)
                result.imag = convert(values.imag, result.real.dtype, truncate)
                return result
            return values.astype(dtype)
        values = values.real
    if truncate:
        values = _without_lost_digits(values, dtype)
    return values.astype(dtype)


def _without_lost_digits(values: Array, dtype: np.dtype[Any]) -> Array:
    before, after = _FRACTION_BITS.get(values.dtype), _FRACTION_BITS.get(dtype)
    if before is None or after is None or before <= after:
        return values
    bits = np.dtype(f"u{values.itemsize}")
    mask = bits.type((1 << 8 * bits.itemsize) - (1 << (before - after)))
    # A view of other elements needs a layout without gaps, which a real part does not have.
    cleared: Array = (np.ascontiguousarray(values).view(bits) & mask).view(values.dtype)
    return cleared.reshape(values.shape)
