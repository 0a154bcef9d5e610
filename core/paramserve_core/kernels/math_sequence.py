"""Kernels of evenly spaced sequences, and of counts of the members of one.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import numpy as np

from paramserve_core.kernels.arguments import size_value
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import Array, check_rank, invalid, quiet, shape_text
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_core.opdefs.math_sequence import range_length


@kernel("Range")
@quiet
def _range(node: KernelNode, start: Array, limit: Array, delta: Array) -> Array:
    for what, value in (("start", start), ("limit", limit), ("delta", delta)):
        check_rank("Range", what, value, 0)
    try:
        length = range_length(start, limit, delta)
    except ValueError as error:
        invalid(str(error))
    checked_size((length,), 8)
    if start.dtype.kind in "iu":
        # Modulo 2**64, so that it is exact for every type and a step may be negative.
        first, step = (np.uint64(int(value) % (1 << 64)) for value in (start, delta))
        return (first + step * np.arange(length, dtype=np.uint64)).astype(start.dtype)
    # In float64 and rounded once: adding up in the type itself drifts away.
    members = float(start) + float(delta) * np.arange(length, dtype=np.float64)
    return members.astype(start.dtype)


@kernel("LinSpace")
@quiet
def _lin_space(node: KernelNode, start: Array, stop: Array, num: Array) -> Array:
    check_rank("LinSpace", "start", start, 0)
    check_rank("LinSpace", "stop", stop, 0)
    count = size_value("LinSpace", "num", num)
    if count == 0:
        invalid("Requires num > 0: 0")
    checked_size((count,), 8)
    return np.linspace(float(start), float(stop), count).astype(start.dtype)


@kernel("Bincount")
def _bincount(node: KernelNode, arr: Array, size: Array, weights: Array) -> Array:
    bins = size_value("Bincount", "size", size)
    checked_size((bins,), 8)
    if weights.size and weights.shape != arr.shape:
        invalid(
            f"Bincount: weights must have no elements, or the shape of arr, "
            f"{shape_text(arr.shape)}, but have {shape_text(weights.shape)}"
        )
    if arr.size and arr.min() < 0:
        invalid(f"Input arr must be non-negative! Its least element is {int(arr.min())}")
    # A number that has no bin is not counted.
    counted = arr < bins
    if not weights.size:
        return np.bincount(arr[counted], minlength=bins).astype(weights.dtype)
    result = np.zeros(bins, weights.dtype)
    np.add.at(result, arr[counted], weights[counted])
    return result
