"""A stack of defaults per thread: the default graph, the default session.

Thread rule: every thread has its own stack, so that a `with` block in one thread changes nothing
in another. A new thread starts with an empty stack.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class DefaultStack(threading.local, Generic[T]):
    """The innermost `with` block of this thread decides."""

    def __init__(self, *, enforce_nesting: bool = True) -> None:
        self._enforce_nesting = enforce_nesting
        self._stack: list[T] = []

    def get(self) -> T | None:
        """The innermost default of this thread, or None."""
        return self._stack[-1] if self._stack else None

    def reset(self) -> None:
        """Forgets all defaults of this thread."""
        self._stack = []

    @property
    def is_empty(self) -> bool:
        """Whether no block of this thread is open."""
        return not self._stack

    @contextmanager
    def entered(self, default: T) -> Iterator[T]:
        """Makes `default` the innermost one for the block.

        Raises:
            RuntimeError: Blocks were left in another order than they were entered in reverse.
        """
        self._stack.append(default)
        try:
            yield default
        finally:
            # A reset inside the block has emptied the stack already.
            if self._stack:
                if self._stack[-1] is default:
                    self._stack.pop()
                elif self._enforce_nesting:
                    raise RuntimeError(
                        f"nesting violated by default {type(default).__name__}: a block that was "
                        "entered later has not been left yet"
                    )
                elif default in self._stack:
                    self._stack.remove(default)
