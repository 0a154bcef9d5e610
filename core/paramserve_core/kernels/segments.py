"""Combining rows that share a number.

Equal numbers are made neighbours, and then each run of rows is combined. Which way is fast depends
on how long the runs are. For long ones it is `ufunc.reduceat`; it spends a microsecond per run,
so where there are about as many runs as rows, the first rows of all runs are combined with all the
second ones, the result with all the third ones, and only what is then left of a run by itself.
(4096 rows of 64 floats in 2600 runs: 0.2 ms instead of 1.7.)

Half precision is combined in float32, and rounded by the caller.

Thread rule: pure functions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.kernels.numerics import Array, compute_dtype
from paramserve_core.kernels.rows import sorted_segments

Positions = NDArray[np.intp]

_LONG_RUN: Final = 4
_MAX_ROUNDS: Final = 8


def combine(ufunc: np.ufunc, numbers: Array, rows: Array) -> tuple[Array, Positions, Array]:
    """The rows of each number, combined into one.

    Args:
        ufunc: how two rows become one; of the kind that has a `reduce`.
        numbers: one per row, in any order.
        rows: of shape ``[len(numbers), ...]``.

    Returns:
        The distinct numbers, ascending; how many rows each had; the combined row of each, in
        float32 for half precision.
    """
    if (numbers[1:] < numbers[:-1]).any():
        order, begins = sorted_segments(numbers)
        rows = rows.take(order, axis=0)
        distinct = numbers[order[begins]]
    else:
        begins = run_begins(numbers)
        distinct = numbers[begins]
    # Contiguous: `take` would copy all of the rows first, every time.
    rows = np.ascontiguousarray(rows, compute_dtype(rows.dtype))
    lengths = np.diff(begins, append=len(numbers))
    return distinct, lengths, _combine_runs(ufunc, rows, begins, lengths)


def run_begins(numbers: Array) -> Positions:
    """Where each run of equal `numbers` begins."""
    is_first = np.ones(len(numbers), np.bool_)
    np.not_equal(numbers[1:], numbers[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)


def _combine_runs(ufunc: np.ufunc, rows: Array, begins: Positions, lengths: Positions) -> Array:
    width = rows[:1].size
    if not len(begins) or not width:
        return np.empty((len(begins), *rows.shape[1:]), rows.dtype)
    if width == 1 or len(rows) >= _LONG_RUN * len(begins):
        return np.asarray(ufunc.reduceat(rows, begins, axis=0, dtype=rows.dtype))
    result = rows.take(begins, axis=0)
    for nth in range(1, _MAX_ROUNDS):
        runs = np.flatnonzero(lengths > nth)
        if not len(runs):
            return result
        result[runs] = ufunc(result.take(runs, axis=0), rows.take(begins[runs] + nth, axis=0))
    for run in np.flatnonzero(lengths > _MAX_ROUNDS):
        begin, end = begins[run], begins[run] + lengths[run]
        rest = ufunc.reduce(rows[begin + _MAX_ROUNDS : end], axis=0, dtype=rows.dtype)
        result[run] = ufunc(result[run], rest)
    return result
