"""Changing some rows of a variable: checks, duplicates, and moving rows in and out.

A sparse update names rows of a variable by number, and may name one twice. NumPy's own answer to
duplicates (`ufunc.at`) takes its slow path for rows, ten times the time of the rest. So the
updates are cut into *rounds*: the first holds the first mention of each row, the next the second
mention, and so on. Within a round no row occurs twice, and gather, compute, scatter is right. Few
duplicates, the usual case, make few rounds.

Rows move as opaque items of a row's size, which NumPy copies one `memcpy` each.

Thread rule: pure functions; the caller holds whatever guards the arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.errors import InvalidArgumentError
from paramserve_core.kernels import fused

Array = NDArray[Any]
Positions = NDArray[np.intp]


def check_indices(name: str, indices: Array, bound: int) -> None:
    """Refuses a row number outside ``[0, bound)``.

    Args:
        name: the variable, for the message.
        indices: signed integers of any shape.
        bound: the number of rows.

    Raises:
        InvalidArgumentError: the first such index, where it is, and the bound.
    """
    # One pass instead of two: a negative number, read as unsigned, is larger than any other.
    largest = min(bound, 1 << (8 * indices.itemsize - 1))
    if indices.size == 0 or int(indices.view(f"u{indices.itemsize}").max()) < largest:
        return
    outside = (indices < 0) | (indices >= bound)
    where = tuple(int(i) for i in np.argwhere(outside)[0])
    place = ", ".join(map(str, where))
    raise InvalidArgumentError(
        None,
        None,
        f"{name}: indices[{place}] = {int(indices[where])} is not in [0, {bound}), the rows of "
        "the variable; nothing was changed",
    )


def as_rows(array: Array) -> Array:
    """A view of `array`, which is C-contiguous and of rank 1 or more, as ``[rows, row size]``."""
    width = 1
    for size in array.shape[1:]:
        width *= size
    view = array.view()
    view.shape = (array.shape[0], width)
    return view


def gather(rows: Array, indices: Array, out: Array) -> None:
    """Copies the rows of those (checked) numbers into `out` of shape ``[len(indices), width]``."""
    if not fused.copy_rows(rows, indices, out):
        # "clip" because "raise" copies through a buffer; nothing is out of range any more.
        np.take(rows, indices, axis=0, out=out, mode="clip")


def scatter(rows: Array, indices: Array, values: Array) -> None:
    """Stores `values`, one row each, at those (checked) numbers; of equal numbers the last wins."""
    width = rows.shape[1]
    if rows.dtype == object or width == 0 or not values.flags.c_contiguous:
        rows[indices] = values
        return
    item = np.dtype((np.void, width * rows.itemsize))
    rows.view(item).reshape(-1)[indices] = values.view(item).reshape(-1)


def has_duplicates(indices: Array) -> bool:
    """Whether two of the 1-D `indices` are equal."""
    ordered = np.sort(indices)
    return bool((ordered[1:] == ordered[:-1]).any())


def sorted_segments(indices: Array) -> tuple[Positions, Positions]:
    """Groups equal indices.

    Returns:
        The positions of `indices` in an order in which equal ones are neighbours (earlier ones
        first), and where in that order each group begins.
    """
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    begins = np.empty(len(order), np.bool_)
    begins[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=begins[1:])
    return order, np.flatnonzero(begins)


def rounds(order: Positions, begins: Positions) -> list[Positions]:
    """Positions of updates in rounds, so that no row occurs twice within a round.

    Args:
        order: see `sorted_segments`.
        begins: see `sorted_segments`.
    """
    lengths = np.diff(begins, append=len(order))
    nth = np.arange(len(order)) - np.repeat(begins, lengths)
    by_round = np.argsort(nth, kind="stable")
    ends = np.cumsum(np.bincount(nth))[:-1]
    return np.split(order[by_round], ends)
