"""What programs may give a variable, checked.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paramserve._framework.collections import GraphKeys
from paramserve._framework.indexed_slices import IndexedSlices


def checked_collections(collections: Iterable[Any] | None) -> list[Any]:
    """The collections that a variable is added to; those of all variables if none are given.

    Raises:
        ValueError: they are no list.
    """
    if collections is None:
        return [GraphKeys.GLOBAL_VARIABLES]
    if not isinstance(collections, (list, tuple, set, frozenset)):
        raise ValueError(
            "collections argument to Variable constructor must be a list, tuple, or set. Got "
            f"{collections!r} of type {type(collections).__name__}"
        )
    return list(collections)


def checked_slices(sparse_delta: Any) -> IndexedSlices:
    """The rows of a sparse update.

    Raises:
        TypeError: they are no IndexedSlices.
    """
    if not isinstance(sparse_delta, IndexedSlices):
        raise TypeError(
            f"sparse_delta is not IndexedSlices: {sparse_delta!r}; wrap the rows and their numbers "
            "in IndexedSlices(values, indices)"
        )
    return sparse_delta
