"""Kernels that pack values for TensorBoard.

A histogram has the buckets that TensorBoard expects: limits that grow by a tenth from 1e-12 to
1e20, the same below zero, and what lies beyond in one bucket on each side. Of neighbouring buckets
that are empty one is written.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from paramserve_core.kernels.numerics import invalid, shape_text
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_protos.v1.summary_pb2 import HistogramProto, Summary

Array = NDArray[Any]

_LARGEST: Final = sys.float_info.max
_BLOCK: Final = 1 << 18
"""Values looked at together: as float64, they stay in the cache."""


@kernel("ScalarSummary")
def _scalar_summary(node: KernelNode, tags: Array, values: Array) -> Array:
    if tags.shape != values.shape:
        first = f" (tag '{_text(tags.item())}')" if tags.size == 1 else ""
        invalid(
            "tags and values are not the same shape: "
            f"{shape_text(tags.shape)} != {shape_text(values.shape)}{first}"
        )
    summary = Summary()
    for tag, value in zip(tags.ravel().tolist(), values.ravel(), strict=True):
        summary.value.add(tag=_text(tag), simple_value=float(value))
    return _encoded(summary)


@kernel("HistogramSummary")
def _histogram_summary(node: KernelNode, tag: Array, values: Array) -> Array:
    if tag.ndim:
        invalid(f"HistogramSummary: tag must be a scalar, its shape is {shape_text(tag.shape)}")
    name = _text(tag.item())
    summary = Summary()
    summary.value.add(tag=name, histo=histogram(values, name))
    return _encoded(summary)


@kernel("MergeSummary")
def _merge_summary(node: KernelNode, *inputs: Array) -> Array:
    merged = Summary()
    tags: set[str] = set()
    for array in inputs:
        for encoded in array.ravel().tolist():
            try:
                summary = Summary.FromString(encoded)
            except DecodeError:
                invalid("MergeSummary: an input is no encoded Summary")
            for value in summary.value:
                if value.tag in tags:
                    invalid(f"Duplicate tag {value.tag} found in summary inputs")
                tags.add(value.tag)
            merged.MergeFrom(summary)
    return _encoded(merged)


def histogram(values: Array, what: str) -> HistogramProto:
    """The distribution of real values of any shape.

    Args:
        values: real numbers.
        what: names them, for the error.

    Raises:
        InvalidArgumentError: a value is not finite.
    """
    limits = _limits()
    counts = np.zeros(limits.size, np.int64)
    low, high, total, squares = _LARGEST, -_LARGEST, 0.0, 0.0
    flat = values.reshape(-1)
    for begin in range(0, flat.size, _BLOCK):
        block = flat[begin : begin + _BLOCK].astype(np.float64)
        if not np.isfinite(block).all():
            kind = "Nan" if np.isnan(block).any() else "Infinity"
            invalid(f"{kind} in summary histogram for: {what}")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        with np.errstate(over="ignore"):
            total += float(block.sum())
            squares += float(np.dot(block, block))
        buckets = np.searchsorted(limits[:-1], block, side="right")
        counts += np.bincount(buckets, minlength=limits.size)
    result = HistogramProto(min=low, max=high, num=flat.size, sum=total, sum_squares=squares)
    # Of a run of empty buckets, the last one stands for all.
    kept = (counts > 0) | np.append(counts[1:] > 0, True)
    result.bucket_limit.extend(limits[kept].tolist())
    result.bucket.extend(counts[kept].tolist())
    return result


@cache
def _limits() -> NDArray[np.float64]:
    """The upper limits of the buckets, ascending."""
    positive = []
    limit = 1e-12
    while limit < 1e20:
        positive.append(limit)
        limit *= 1.1
    positive.append(_LARGEST)
    return np.array([*(-limit for limit in reversed(positive)), 0.0, *positive])


def _text(tag: bytes) -> str:
    try:
        return tag.decode()
    except UnicodeDecodeError:
        invalid(f"the tag {tag[:100]!r} is not UTF-8")


def _encoded(summary: Summary) -> Array:
    return np.array(summary.SerializeToString(), np.object_)
