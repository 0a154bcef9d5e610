"""A tensor that is saved without having been in memory: it is read when it is written.

A conversion is a save whose values lie in another checkpoint. They take the place of variables'
values, and each is there only while its own bytes are written.

Thread rule: an `Unread` has a lock; several threads write pieces of it at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from paramserve_core.checkpoint.stored import bytes_of


class Unread:
    """The value of a tensor of numbers, which somebody can read.

    Args:
        nbytes: bytes of all elements.
        read: answers the value; called once, when it is needed. It stays until this object goes.

    Attributes:
        nbytes: see there.
    """

    __slots__ = ("_content", "_lock", "_read", "nbytes")

    def __init__(self, nbytes: int, read: Callable[[], NDArray[Any]]) -> None:
        self.nbytes = nbytes
        self._read = read
        self._lock = threading.Lock()
        self._content: memoryview | None = None

    def __len__(self) -> int:
        return self.nbytes

    def content(self) -> memoryview:
        """The elements as they are stored; raises what reading them raises."""
        with self._lock:
            if self._content is None:
                self._content = bytes_of(self._read())
            return self._content


def content_of(data: memoryview | Unread) -> memoryview:
    """Bytes that are there, or are read now."""
    return data.content() if isinstance(data, Unread) else data
