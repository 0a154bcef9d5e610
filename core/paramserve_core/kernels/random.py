"""Kernels of random ops; each draws from the stream of its node (`kernels.random_streams`).

Numbers are made in the type that is asked for, float32 natively. Half precision is drawn as float32
and rounded, except uniform numbers: rounding would reach the excluded end of the interval.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

from paramserve_core.kernels.arguments import shape_value, size_value
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import (
    Array,
    check_rank,
    compute_dtype,
    invalid,
    is_half,
    quiet,
    scalar_value,
    shape_text,
)
from paramserve_core.kernels.registry import KernelNode, kernel

if TYPE_CHECKING:  # which imports this package
    from paramserve_core.executor.step import StepContext

_TRUNCATED_AT: Final = 2.0
_BLOCK: Final = 1 << 16
"""Numbers that are drawn and checked at a time, so that they are still in the cache."""

_SIGNIFICAND_BITS: Final = {np.dtype(np.float16): 11, np.dtype(ml_dtypes.bfloat16): 8}


def _output(node: KernelNode, shape: Array) -> tuple[list[int], np.dtype[Any]]:
    """The shape and type of a random tensor, once it is known to be within the size limit."""
    sizes = shape_value(node.op, "shape", shape)
    dtype = np.dtype(node.output_dtypes[0].as_numpy_dtype)
    checked_size(sizes, compute_dtype(dtype).itemsize)
    return sizes, dtype


@kernel("RandomStandardNormal", takes_step=True)
def _standard_normal(node: KernelNode, step: StepContext, shape: Array) -> Array:
    sizes, dtype = _output(node, shape)
    values = step.random_stream(node).standard_normal(sizes, compute_dtype(dtype))
    return values.astype(dtype, copy=False)


@kernel("TruncatedNormal", takes_step=True)
def _truncated_normal(node: KernelNode, step: StepContext, shape: Array) -> Array:
    sizes, dtype = _output(node, shape)
    stream = step.random_stream(node)
    result = np.empty(sizes, compute_dtype(dtype))
    flat = result.reshape(-1)
    for begin in range(0, flat.size, _BLOCK):
        block = flat[begin : begin + _BLOCK]
        stream.standard_normal(out=block, dtype=block.dtype)
        outside = np.flatnonzero(np.abs(block) > _TRUNCATED_AT)
        while outside.size:
            drawn = stream.standard_normal(outside.size, block.dtype)
            block[outside] = drawn
            outside = outside[np.abs(drawn) > _TRUNCATED_AT]
    return result.astype(dtype, copy=False)


@kernel("RandomUniform", takes_step=True)
def _uniform(node: KernelNode, step: StepContext, shape: Array) -> Array:
    sizes, dtype = _output(node, shape)
    stream = step.random_stream(node)
    if not is_half(dtype):
        return stream.random(sizes, dtype)
    bits = _SIGNIFICAND_BITS[dtype]
    numbers = stream.integers(1 << bits, size=sizes, dtype=np.uint16).astype(np.float32)
    return np.asarray(numbers * 2.0**-bits).astype(dtype)


@kernel("RandomUniformInt", takes_step=True)
def _uniform_int(
    node: KernelNode, step: StepContext, shape: Array, minval: Array, maxval: Array
) -> Array:
    sizes, dtype = _output(node, shape)
    low = int(scalar_value(node.op, "minval", minval))
    high = int(scalar_value(node.op, "maxval", maxval))
    if 0 in sizes:
        return np.empty(sizes, dtype)
    if low >= high:
        invalid(f"Need minval < maxval, got {low} >= {high}")
    return np.asarray(step.random_stream(node).integers(low, high, sizes, dtype))


@kernel("RandomGamma", takes_step=True)
def _gamma(node: KernelNode, step: StepContext, shape: Array, alpha: Array) -> Array:
    sizes = [*shape_value(node.op, "shape", shape), *alpha.shape]
    computed = compute_dtype(alpha.dtype)
    checked_size(sizes, computed.itemsize)
    if not (alpha >= 0).all():
        invalid(f"RandomGamma: alpha must be non-negative, but is {alpha.tolist()}")
    # The absolute value of -0.0, which the generator refuses, is 0.
    shapes = np.abs(alpha).astype(computed)
    values = step.random_stream(node).standard_gamma(shapes, sizes, computed)
    return np.asarray(values).astype(alpha.dtype, copy=False)


@kernel("RandomShuffle", takes_step=True)
def _shuffle(node: KernelNode, step: StepContext, value: Array) -> Array:
    if value.ndim == 0 or len(value) < 2:
        return value
    return value[step.random_stream(node).permutation(len(value))]


@kernel("Multinomial", takes_step=True)
@quiet
def _multinomial(node: KernelNode, step: StepContext, logits: Array, num_samples: Array) -> Array:
    check_rank(node.op, "logits", logits, 2)
    samples = size_value(node.op, "num_samples", num_samples)
    rows, classes = logits.shape
    checked_size((rows, samples), 8)
    if not classes:
        invalid(f"num_classes should be positive, got logits of shape {shape_text(logits.shape)}")
    result = np.empty((rows, samples), node.output_dtypes[0].as_numpy_dtype)
    stream = step.random_stream(node)
    for row, drawn in zip(logits.astype(np.float64), result, strict=True):
        possible = np.isfinite(row)
        if not possible.any():
            invalid(f"Multinomial: a row of logits has no finite element: {row.tolist()}")
        weights = np.where(possible, np.exp(row - row[possible].max()), 0.0)
        totals = np.cumsum(weights)
        # The first class whose running total exceeds the number; one of weight 0 never does.
        chosen = np.searchsorted(totals, stream.random(samples) * totals[-1], side="right")
        drawn[:] = np.minimum(chosen, np.flatnonzero(weights)[-1])
    return result
