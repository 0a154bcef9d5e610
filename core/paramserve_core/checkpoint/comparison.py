"""In what two checkpoints differ.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint.background import NOBODY
from paramserve_core.checkpoint.reader import CheckpointReader


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor that differs: in what, and by how much at most where that is a number."""

    name: str
    what: str
    largest: float | None = None


def differences(
    first: CheckpointReader,
    second: CheckpointReader,
    progressed: Callable[[float], None] = NOBODY.progressed,
) -> Iterator[Difference]:
    """The tensors that are not the same in both, sorted by name.

    Values count as the same if their bytes are: so not a number is the same as itself.

    Args:
        first: one of them.
        second: the other.
        progressed: told how much was compared, from 0 to 1.

    Raises:
        DataLossError: a file is damaged.
    """
    ours, theirs = first.index.tensors, second.index.tensors
    names = sorted(ours.keys() | theirs.keys())
    for number, name in enumerate(names):
        progressed(number / len(names))
        if name not in theirs:
            yield Difference(name, "only in the first")
            continue
        if name not in ours:
            yield Difference(name, "only in the second")
            continue
        a, b = ours[name], theirs[name]
        if a.dtype is not b.dtype:
            yield Difference(name, f"type {a.dtype.name} and {b.dtype.name}")
        elif a.shape != b.shape:
            yield Difference(name, f"shape {list(a.shape)} and {list(b.shape)}")
        else:
            found = _values(name, first.get_tensor(name), second.get_tensor(name))
            if found is not None:
                yield found


def _values(name: str, a: NDArray[Any], b: NDArray[Any]) -> Difference | None:
    if a.dtype == np.object_:
        count = int((a != b).sum())
        return Difference(name, f"{count} of {a.size} strings") if count else None
    width = a.dtype.itemsize
    unequal = a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8)
    count = int(unequal.reshape(-1, width).any(axis=1).sum()) if a.size else 0
    if not count:
        return None
    return Difference(name, f"{count} of {a.size} values", _largest(a, b))


def _largest(a: NDArray[Any], b: NDArray[Any]) -> float | None:
    """The largest difference; None where one is not a number."""
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    with np.errstate(all="ignore"):
        found = float(np.abs(a.astype(wide) - b.astype(wide)).max())
    return found if np.isfinite(found) else None
