"""Python's collector of cycles, held back while a checkpoint's many objects are made.

The collector looks at all young objects whenever some hundred more were made than freed, and at
all that there are when they have grown by a quarter. The entries, the index and the values of
100,000 variables are a million objects without a cycle among them, beside a graph of several
million: looking for cycles there takes as long as saving or restoring them.

Only what makes objects without end is done inside: not the waiting for a disk, during which other
threads go on and need their cycles collected.

Thread rule: blocks may nest, and overlap on several threads; `_lock` guards the count of them.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pause:
    """How many blocks there are, and whether the collector runs when there is none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._runs_otherwise = False

    def begin(self) -> None:
        with self._lock:
            if not self._blocks:
                self._runs_otherwise = gc.isenabled()
                gc.disable()
            self._blocks += 1

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks and self._runs_otherwise:
                gc.enable()

    def forget(self) -> None:
        """In a forked process, where the threads that were inside do not exist."""
        self._lock = threading.Lock()
        if self._blocks and self._runs_otherwise:
            gc.enable()
        self._blocks = 0


_pause = _Pause()
os.register_at_fork(after_in_child=_pause.forget)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keeps the collector from running until the block ends, unless it was off before."""
    _pause.begin()
    try:
        yield
    finally:
        _pause.end()
