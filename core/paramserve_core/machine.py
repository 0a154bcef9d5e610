"""What the machine has, or as much of it as this process may use.

Thread rule: pure functions.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Final

_GROUP_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@functools.cache
def memory_bytes() -> int:
    """The memory that the machine has, or that the container may use, in bytes."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _GROUP_LIMITS:
        try:
            whole = min(whole, int(path.read_text()))
        except (OSError, ValueError):
            continue  # There is no such file, or no limit in it.
    return whole
