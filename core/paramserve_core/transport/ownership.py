"""Arrays on memory that somebody else manages: a pooled segment, a mapping lent by another process.

Such memory has a *holder*, an object that lives exactly as long as an array on the memory does and
then gives the memory back. What makes that work is how NumPy chains bases: a view's base is the
array that the memory was first seen through, not whatever that array stands on, because the memory
itself is of a subclass of its own. So the count of references to an array made by `array_on` tells
whether there are views of it, just as with an array that owns its memory.

Thread rule: pure functions; a holder's end may come on any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class Holder(Protocol):
    """Keeps memory, and gives it back in its `__del__`."""

    @property
    def is_exclusive(self) -> bool:
        """Nobody else sees what is written to the memory."""


class HeldMemory(np.ndarray[Any, Any]):
    """The bytes of a buffer, with their holder.

    Attributes:
        holder: lives as long as the memory is used.
    """

    holder: Holder


def hold(buffer: Any, holder: Holder) -> HeldMemory:
    """The memory of an object with the buffer protocol, held by `holder`."""
    memory = HeldMemory((len(buffer),), np.uint8, buffer=buffer)
    memory.holder = holder
    return memory


def array_on(memory: HeldMemory, shape: Sequence[int], dtype: DTypeLike, offset: int = 0) -> Array:
    """An array on a part of held memory; read-only where the memory is."""
    return np.ndarray(shape, dtype, buffer=memory, offset=offset)


def holder_of(array: Array) -> Holder | None:
    """Who holds the memory behind an array or a view; None for ordinary memory."""
    base = array.base
    while type(base) is np.ndarray:
        base = base.base
    return base.holder if isinstance(base, HeldMemory) else None


def is_exclusive(array: Array) -> bool:
    """Whether an array may be kept and written to by whoever holds the only reference to it.

    That is so for one that owns its memory, and for one that was made by `array_on` (not a view of
    it) on memory that nobody else sees.
    """
    if not array.flags.writeable:
        return False
    base = array.base
    if isinstance(base, HeldMemory):
        return base.holder.is_exclusive
    return array.flags.owndata
