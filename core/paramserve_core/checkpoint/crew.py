"""Work on many pieces with a few threads.

The caller is one of the workers, and the pieces are taken from a queue. So the work gets done
even if the runtime's pool is busy and no helper ever starts, and two jobs that wait for the same
pool cannot wait for each other.

Thread rule: `for_each` may be called from any thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from paramserve_core.runtime import Runtime

T = TypeVar("T")

WIDTH: Final = min(4, os.cpu_count() or 1)
"""Threads that work on one job. Checksums and copies are bound by memory: more gain nothing."""


def for_each(
    runtime: Runtime, pieces: Iterable[T], work: Callable[[T], None], *, width: int = WIDTH
) -> None:
    """Calls `work` on every piece; blocks until all are done.

    Args:
        runtime: where helpers come from.
        pieces: what to work on, in the order in which it is begun.
        work: called once per piece, on several threads at a time.
        width: how many threads at most, the caller's included.

    Raises:
        Exception: the first error of `work`; what was not begun by then is left.
    """
    queue = deque(pieces)
    errors: list[BaseException] = []

    def drain() -> None:
        while queue and not errors:
            try:
                piece = queue.popleft()
            except IndexError:
                return
            try:
                work(piece)
            except BaseException as error:
                errors.append(error)

    ended = runtime.mailbox()
    lock = threading.Lock()
    started = 0
    is_over = False

    def help_out() -> None:
        nonlocal started
        with lock:
            if is_over:
                return
            started += 1
        drain()
        ended.put(None)

    for _ in range(min(width, len(queue)) - 1):
        runtime.submit(help_out)
    drain()
    with lock:
        is_over = True
    for _ in range(started):
        ended.get()
    if errors:
        raise errors[0]
