"""A bar on the terminal while something takes longer than a second.

Nothing is shown where stderr is no terminal, as in a batch job, and nothing is imported for it.

Thread rule: the bar is drawn by threads of its own; the block runs on the caller's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.progress import Progress

_PATIENCE_S: Final = 1.0


@contextmanager
def shown(what: str, patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Shows what is going on, and for how long, until the block ends.

    Args:
        what: the text, such as "saving model.ckpt-40".
        patience_s: how long nothing is shown.
    """
    if not sys.stderr.isatty():
        yield
        return
    bar = _Bar(what)
    timer = threading.Timer(patience_s, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        bar.end()


class _Bar:
    """A bar that is drawn from `start` to `end`; after `end` it starts no more."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self._has_ended = False
        self._progress: Progress | None = None

    def start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._has_ended:
                return
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TimeElapsedColumn(),
                console=Console(file=sys.stderr),
                transient=True,
            )
            self._progress.add_task(self._what, total=None)
            self._progress.start()

    def end(self) -> None:
        with self._lock:
            self._has_ended = True
            if self._progress is not None:
                self._progress.stop()
