"""Vectors as sets: distinct elements, and what one has that another has not.

Elements are equal as NumPy compares them: 0.0 equals -0.0, and nan equals nothing. Text is hashed,
numbers are sorted.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.kernels.numerics import Array, check_rank, compute_dtype

Positions = NDArray[np.intp]


def unique(op: str, x: Array) -> tuple[Positions, Positions, Positions]:
    """The distinct elements of a vector, in the order in which they first occur.

    Returns:
        The position in `x` of each distinct element; for each element of `x` the number of the
        distinct one that equals it; how often each distinct one occurs.

    Raises:
        InvalidArgumentError: `x` is no vector.
    """
    check_rank(op, "x", x, 1)
    _, first, which, counts = np.unique(
        _sortable(x), return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    by_occurrence = np.argsort(first)
    rank = np.empty_like(by_occurrence)
    rank[by_occurrence] = np.arange(len(rank))
    return first[by_occurrence], rank[which.reshape(-1)], counts[by_occurrence]


def difference(op: str, x: Array, y: Array) -> Positions:
    """Positions of the elements of the vector `x` that are not in the vector `y`.

    Raises:
        InvalidArgumentError: one of them is no vector.
    """
    check_rank(op, "x", x, 1)
    check_rank(op, "y", y, 1)
    if x.dtype.hasobject:
        known = set(y.tolist())
        return np.flatnonzero(np.array([item not in known for item in x.tolist()], np.bool_))
    return np.flatnonzero(np.isin(_sortable(x), _sortable(y), invert=True))


def _sortable(x: Array) -> NDArray[Any]:
    """`x`, or numbers in its place that NumPy sorts fast and that are equal where it is."""
    if not x.dtype.hasobject:
        return x.astype(compute_dtype(x.dtype), copy=False)
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(item, len(numbers)) for item in x.tolist()], np.int64)
