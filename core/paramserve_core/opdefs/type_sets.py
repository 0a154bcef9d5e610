"""Sets of dtypes that a type attribute may be, as TensorFlow's registry groups them.

The quantized types of that registry do not exist here, and neither does `variant`.

Thread rule: constants.
"""

from __future__ import annotations

from typing import Final

from paramserve_core.dtypes import (
    DType,
    bfloat16,
    complex64,
    complex128,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)

FLOATS: Final[tuple[DType, ...]] = (float32, float64, bfloat16, float16)
COMPLEX: Final[tuple[DType, ...]] = (complex64, complex128)
INEXACT: Final[tuple[DType, ...]] = FLOATS + COMPLEX
SIGNED: Final[tuple[DType, ...]] = (int8, int16, int32, int64)
UNSIGNED: Final[tuple[DType, ...]] = (uint8, uint16, uint32, uint64)
INTEGERS: Final[tuple[DType, ...]] = SIGNED + UNSIGNED
REALS: Final[tuple[DType, ...]] = FLOATS + INTEGERS
"""What can be ordered."""
NUMBERS: Final[tuple[DType, ...]] = REALS + COMPLEX
INDICES: Final[tuple[DType, ...]] = (int32, int64)
