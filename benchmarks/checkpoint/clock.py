"""How an operation is timed: while the disk has nothing else to write."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def timed(do: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def settle() -> None:
    """Waits until what anybody wrote before is on the disk."""
    os.sync()
