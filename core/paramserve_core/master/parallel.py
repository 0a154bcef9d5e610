"""Calls to several tasks side by side.

Thread rule: `run_all` may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from paramserve_core.runtime import Runtime

T = TypeVar("T")


def run_all(runtime: Runtime, thunks: Sequence[Callable[[], T]]) -> list[T]:
    """Runs every function, all but the last on other threads, and answers their results in order.

    Raises:
        Exception: the first error in the order of `thunks`, once all have ended.
    """
    if len(thunks) == 1:
        return [thunks[0]()]
    box = runtime.mailbox()
    results: dict[int, T] = {}
    errors: dict[int, BaseException] = {}

    def run(index: int) -> None:
        try:
            results[index] = thunks[index]()
        except BaseException as error:
            errors[index] = error
        box.put(index)

    for index in range(len(thunks)):
        runtime.submit(lambda index=index: run(index))  # type: ignore[misc] # binds it now
    for _ in thunks:
        box.get()
    if errors:
        raise errors[min(errors)]
    return [results[index] for index in range(len(thunks))]
