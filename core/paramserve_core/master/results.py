"""The arrays that a step answers: each the caller's own.

Thread rule: called by the thread that the step answers, which holds each array once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.transport.ownership import is_exclusive

Array = NDArray[Any]

_MANY: Final = 8
"""So many are looked at together first."""

_OWN: Final = 0x0004 | 0x0400
"""NumPy's flags OWNDATA and WRITEABLE; see `ndarray.flags.num`."""


def own_all(arrays: list[Array]) -> list[Array]:
    """The arrays, each writable and the caller's own; copies where they are not yet.

    Args:
        arrays: fetched values; the caller keeps no other reference to them or to the list.
    """
    if len(arrays) >= _MANY and _all_own(arrays):
        return arrays
    for index, array in enumerate(arrays):
        if sys.getrefcount(array) > _UNSHARED or not is_exclusive(array):
            arrays[index] = np.array(array)
    return arrays


def _all_own(arrays: list[Array]) -> bool:
    """Whether all of them have memory of their own, which is all that `own_all` wants to know."""
    return max(map(sys.getrefcount, arrays)) <= _UNSHARED_IN_MAP and {
        array.flags.num & _OWN for array in arrays
    } == {_OWN}


def let_go(tensors: Sequence[Array]) -> None:
    """Empties a list of arrays that were taken from it.

    The thread that received them may hold the list for a moment yet, and an array in two lists is
    one that `own_all` copies.
    """
    if isinstance(tensors, list):
        tensors.clear()


def _references(arrays: list[Array]) -> int:
    """The count that `own_all` sees of an array that only its list holds; Pythons differ."""
    for _, array in enumerate(arrays):
        return sys.getrefcount(array)
    return 0


_UNSHARED: Final = _references([np.empty(1)])
_UNSHARED_IN_MAP: Final = max(map(sys.getrefcount, [np.empty(1)]))
