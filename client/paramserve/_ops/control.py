"""Functions that order ops and choose between them.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from paramserve._framework.apply import apply_op
from paramserve._framework.operation import Operation

__all__ = ["no_op"]


def no_op(name: str | None = None) -> Operation:
    """An op that does nothing; control dependencies give it a use."""
    result: Operation = apply_op("NoOp", name)
    return result
