"""Large arrays in blocks that fit a core's cache, on as many threads as there are cores.

An update of several passes (Adam has twelve) over arrays that are larger than the cache reads and
writes main memory once per pass. Cut into blocks, it reads and writes each element once: the other
passes stay in the cache, and so do the temporaries, which are one block each. NumPy lets go of
the interpreter lock within a pass, so blocks of one array run side by side.

All kernels of the process share one `Workers`, which has one thread per core. A kernel computes on
the thread that called it and is *lent* the cores that are idle at that moment. Nobody queues for a
lent thread, so kernels cannot wait for each other, and the threads that compute are never more
than the cores (or than the callers, where there are more of them).

This is the one place, beside `fused`, that starts threads without being given a runtime. No thread
of it outlives the call that it works for, waits, or looks at a clock, and a result does not depend
on how many there are: for everybody else, a call that is shared out is a call.

Thread rule: `Workers` may be used from any thread; a scratch belongs to the call that it was given
to.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np

from paramserve_core.kernels.numerics import Array

BLOCK_BYTES: Final = 1 << 20
"""Of each array. Smaller blocks fit a nearer cache, and gain less by that than two threads lose
that hand the interpreter lock over more often: Adam on 100 MB took 65 ms in blocks of 128 KiB, and
33 ms in these (51 ms on one thread)."""

MIN_SHARED_BLOCKS: Final = 8
"""With fewer blocks, waking another thread costs more than it saves."""

BlockFunction = Callable[[int, int, Array], None]
"""Computes the items from a first up to a last one; its scratch is an array `[rows, items]`."""


class Workers:
    """The threads that compute parts of kernels.

    Args:
        limit: how many threads may compute at a time, those that call kernels included.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"at least one thread must compute, not {limit}")
        self._limit = limit
        self._lock = threading.Lock()
        self._computing = 0
        self._pool: ThreadPoolExecutor | None = None

    @property
    def limit(self) -> int:
        """How many threads may compute at a time."""
        return self._limit

    def share(self, work: Callable[[], None], most: int) -> None:
        """Runs `work` here and, at the same time, on up to `most` - 1 idle threads.

        `work` takes its parts from a place that all calls of it share, until none is left.
        Returns once every call has ended.

        Raises:
            Exception: what a call of `work` raised, the one here first.
        """
        lent = self._borrow(most - 1)
        helpers: list[Future[None]] = []
        # The pool keeps what it is given until one of its threads has looked at it once more. It
        # must not keep the arrays of an update that has ended: the next one would take it for a
        # reader, and copy them.
        handed = [work] * lent
        try:
            helpers += self._start(handed)
            work()
        finally:
            try:
                # One that did not start yet would find no part any more.
                started = [helper for helper in helpers if not helper.cancel()]
                errors = [helper.exception() for helper in started]
            finally:
                handed.clear()
                with self._lock:
                    self._computing -= 1 + lent
        for error in errors:
            if error is not None:
                raise error

    def _borrow(self, wanted: int) -> int:
        with self._lock:
            lent = max(0, min(wanted, self._limit - self._computing - 1))
            self._computing += 1 + lent
            return lent

    def _start(self, handed: list[Callable[[], None]]) -> list[Future[None]]:
        """Starts a thread for each thing in the list, which takes it from there and does it."""
        if not handed:
            return []
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._limit - 1, "paramserve-kernel")
            pool = self._pool
        try:
            return [pool.submit(lambda: handed.pop()()) for _ in range(len(handed))]
        except RuntimeError:  # the interpreter is ending: compute alone
            return []


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_workers = Workers(_available_cores())


def set_max_threads(limit: int) -> None:
    """Sets how many threads of this process may compute at a time; all cores by default.

    Raises:
        ValueError: the limit is not positive.
    """
    global _workers
    _workers = Workers(limit)


def _start_afresh() -> None:
    """In a forked child, which has none of the threads and perhaps a lock that one of them held."""
    set_max_threads(_workers.limit)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


def for_each_block(
    count: int,
    function: BlockFunction,
    *,
    item_bytes: int,
    scratch_rows: int = 0,
    scratch_dtype: np.dtype[Any] | None = None,
    workers: Workers | None = None,
) -> None:
    """Computes `count` items block by block, on several threads where there are many.

    Args:
        count: how many items there are.
        function: called with the first item of a block, the item after its last, and a scratch
            of `scratch_rows` rows of as many items. Blocks are computed in any order, and several
            at a time.
        item_bytes: bytes that one item takes in the largest of the arrays.
        scratch_rows: how many temporaries of a block's length the function needs.
        scratch_dtype: the type of the scratch, of items; bytes by default.
        workers: who computes; by default what the process has.

    Raises:
        Exception: what `function` raised; other blocks may have been computed, none still is.
    """
    block = max(1, BLOCK_BYTES // max(1, item_bytes))
    starts = range(0, count, block)
    if len(starts) < MIN_SHARED_BLOCKS:
        _compute(starts, count, block, function, scratch_rows, scratch_dtype)
        return
    remaining = deque(starts)

    def work() -> None:
        try:
            _compute(_taken(remaining), count, block, function, scratch_rows, scratch_dtype)
        except BaseException:
            remaining.clear()
            raise

    (workers or _workers).share(work, len(starts) // 2)


def _taken(remaining: deque[int]) -> Iterable[int]:
    while True:
        try:
            yield remaining.popleft()
        except IndexError:
            return


def _compute(
    starts: Iterable[int],
    count: int,
    block: int,
    function: BlockFunction,
    scratch_rows: int,
    scratch_dtype: np.dtype[Any] | None,
) -> None:
    scratch = np.empty((scratch_rows, min(block, count)), scratch_dtype or np.uint8)
    with np.errstate(all="ignore"):
        for start in starts:
            stop = min(start + block, count)
            function(start, stop, scratch[:, : stop - start])
