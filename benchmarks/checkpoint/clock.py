"""How an operation is timed: with an idle disk, and with memory that the machine really has.

A virtual machine may give back to its host what it frees, after a second or two, and then waits for
the host when it uses that again: up to a second for a gigabyte. Who has its turn after somebody who
freed as much has it at once. So everybody's turn begins with as much memory having been freed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np


def timed(do: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def settle(nbytes: int) -> None:
    """Waits until the disk is idle, and makes the machine have so many bytes more, and a quarter.

    What anybody wrote before is on the disk then.
    """
    os.sync()
    np.ones(nbytes + nbytes // 4, np.uint8)
