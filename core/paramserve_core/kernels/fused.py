"""Updates and gathers by compiled loops, where `[fast]` is installed and one is ready; else NumPy.

The first large update of a kind (a formula, and the type of the elements) asks for its loop and
goes on in NumPy. A thread in the background compiles it, or loads it from the cache on disk, and
the blocks and updates that begin afterwards use it. The results are the same to the bit (see
`fused_loops`), so it does not matter which of the two computed what.

Nothing else changes: the caller has made every check and holds every lock, and blocks are shared
out as before (see `blocks`). Where numba is not installed, or `PARAMSERVE_FAST=0`, or a loop does
not compile, NumPy goes on; small updates, which gain nothing, never ask. So a program that has
only small ones does not import numba.

The thread is here rather than in a `Runtime` for the reason that `blocks` has for its own: what it
does cannot be told from outside. It ends when nothing is left to compile, and with the loop at hand
when the main thread has ended; it is no daemon, which could be stopped in the middle of LLVM.

Thread rule: all of it may be used from any thread.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from paramserve_core.kernels import fused_loops
from paramserve_core.kernels.numerics import Array

_log = logging.getLogger(__name__)

FAST_VARIABLE: Final = "PARAMSERVE_FAST"

MIN_BYTES: Final = 1 << 16
"""Of a gradient that is worth asking for a loop."""

Loop = Callable[..., None]
Key = tuple[Loop, np.dtype[Any]]
_DTYPES: Final = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


class Compiler:
    """Loops in machine code, once they were asked for and are ready.

    Args:
        compile_loop: compiles one for a type of element. Called in a background thread, for one
            loop at a time.
        is_wanted: whether anything is to be compiled at all; asked when the first loop is.
    """

    def __init__(
        self,
        compile_loop: Callable[[Loop, np.dtype[Any]], Loop],
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._compile_loop = compile_loop
        self._is_wanted = is_wanted
        self._ready: dict[Key, Loop] = {}
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._asked: set[Key] = set()
        self._queue: deque[Key] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def close(self) -> None:
        """Compiles nothing more than what is being compiled; what is ready stays ready."""
        self._is_closed = True

    def close_after_fork(self) -> None:
        """In a forked child, which lacks the thread: perhaps it held a lock of the compiler."""
        self._start_afresh()
        self.close()

    def find(self, loop: Loop, dtype: np.dtype[Any]) -> Loop | None:
        """The compiled loop, or None while there is none."""
        return self._ready.get((loop, dtype))

    def ask(self, loop: Loop, dtype: np.dtype[Any]) -> None:
        """Has the loop compiled, once; does not wait for it."""
        key = (loop, dtype)
        if self._is_closed or key in self._asked:
            return
        with self._lock:
            if key in self._asked:
                return
            if not self._asked and not self._is_wanted():
                self.close()
                return
            self._asked.add(key)
            self._queue.append(key)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="paramserve-compiler")
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is ending
                    self.close()
                else:
                    self._thread = thread

    def wait(self) -> None:
        """Returns once everything that was asked for is compiled, or has failed to be."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while (key := self._next()) is not None:
            loop, dtype = key
            try:
                self._ready[key] = self._compile_loop(loop, dtype)
                _log.info("%s for %s is compiled", loop.__name__, dtype)
            except Exception:
                _log.warning(
                    "%s for %s did not compile; it runs in NumPy, with the same results "
                    "(%s=0 tries no compiling)",
                    loop.__name__,
                    dtype,
                    FAST_VARIABLE,
                    exc_info=True,
                )

    def _next(self) -> Key | None:
        with self._lock:
            ends = self._is_closed or not threading.main_thread().is_alive()
            if ends or not self._queue:
                self._thread = None
                return None
            return self._queue.popleft()


def _compile(loop: Loop, dtype: np.dtype[Any]) -> Loop:
    from paramserve_core.kernels import fused_numba

    return fused_numba.compile_loop(loop, dtype)


def _is_wanted() -> bool:
    return os.environ.get(FAST_VARIABLE) != "0" and importlib.util.find_spec("numba") is not None


_compiler = Compiler(_compile, _is_wanted)


def compiler() -> Compiler:
    """The compiler of this process; it compiles nothing where `[fast]` is off or missing."""
    return _compiler


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_compiler.close_after_fork)


class FusedUpdate:
    """An update that takes the compiled loop when there is one; a `BlockUpdate`.

    Args:
        loop: of `fused_loops.ROWS`.
        scalars: its first arguments, of the type to compute in.
        numpy: what does the same in NumPy.
        into: a loop that puts the new variable elsewhere, for an update that can.
    """

    __slots__ = ("_into", "_loop", "_numpy", "_scalars")

    def __init__(
        self,
        loop: Loop,
        scalars: Sequence[Any],
        numpy: Callable[..., None],
        into: Loop | None = None,
    ) -> None:
        self._loop = loop
        self._scalars = scalars
        self._numpy = numpy
        self._into = into

    def __call__(
        self, scratch: Array, grad: Array, *states: Array, out: Array | None = None
    ) -> None:
        """Updates arrays of one shape in place; the scratch is for NumPy.

        Where there is `out`, vectors, and the new variable goes there.
        """
        if out is not None:
            self._update_into(out, scratch, grad, *states)
            return
        loop = _find(self._loop, grad, states)
        if loop is None:
            self._numpy(scratch, grad, *states)
        elif grad.ndim == 1:
            loop(*self._scalars, grad, *states)
        else:  # a block of gathered rows; a view of each, as they are contiguous
            loop(*self._scalars, *(array.reshape(-1) for array in (grad, *states)))

    def _update_into(self, out: Array, scratch: Array, grad: Array, *states: Array) -> None:
        loop = None if self._into is None else _find(self._into, grad, (*states, out))
        if loop is None:
            self._numpy(scratch, grad, *states, out=out)
        else:
            loop(*self._scalars, grad, *states, out)

    def update_rows(self, gradients: Array, indices: Array, tables: Sequence[Array]) -> bool:
        """Updates rows of `tables` in place, or answers False.

        Args:
            gradients: of shape ``[len(indices), width]``.
            indices: checked; one that occurs twice is updated twice, in order.
            tables: of shape ``[rows, width]``.
        """
        loop = _find(fused_loops.ROWS[self._loop], gradients, tables)
        if loop is None:
            return False
        loop(*self._scalars, gradients, _as_row_numbers(indices), *tables)
        return True


def add_rows(change: Any, table: Array, indices: Array, updates: Array) -> bool:
    """Adds to rows of `table` in place, or subtracts, or answers False.

    Args:
        change: `np.add` or `np.subtract`; anything else is not done here.
        table: of shape ``[rows, width]``.
        indices: checked; what one row gets several of is added in order.
        updates: of shape ``[len(indices), width]``.
    """
    factor = _FACTORS.get(change)
    if factor is None:
        return False
    loop = _find(fused_loops.subtract_rows, updates, (table,))
    if loop is None:
        return False
    loop(table.dtype.type(factor), updates, _as_row_numbers(indices), table)
    return True


def copy_rows(table: Array, indices: Array, out: Array) -> bool:
    """Copies rows of `table` into `out`, or answers False.

    Args:
        table: of shape ``[rows, width]``.
        indices: checked.
        out: of shape ``[len(indices), width]``.
    """
    loop = _find(fused_loops.copy_rows, out, (table,))
    if loop is None:
        return False
    loop(table, _as_row_numbers(indices), out)
    return True


_FACTORS: Final[dict[Any, int]] = {np.add: -1, np.subtract: 1}
"""Of what `fused_loops.subtract` subtracts."""


def _as_row_numbers(indices: Array) -> Array:
    return np.require(indices, np.intp, ["C", "A"])


def _find(loop: Loop, grad: Array, states: Sequence[Array]) -> Loop | None:
    """The compiled loop, if there is one and those arrays are of a kind that it takes."""
    dtype = grad.dtype
    if dtype not in _DTYPES:
        return None
    compiled = compiler().find(loop, dtype)
    if compiled is None:
        if grad.nbytes >= MIN_BYTES:
            compiler().ask(loop, dtype)
        return None
    return compiled if all(_is_plain(array, dtype) for array in (grad, *states)) else None


def _is_plain(array: Array, dtype: np.dtype[Any]) -> bool:
    flags = array.flags
    return bool(flags.c_contiguous and flags.aligned) and array.dtype == dtype
