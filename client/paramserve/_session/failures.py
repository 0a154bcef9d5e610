"""From the error of a step to the line of the program that made the op.

A master names the node that failed; the graph knows where it was created.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Callable

from paramserve._framework.graph import Graph
from paramserve_core.errors import OpError, exception_type_from_error_code


def located(error: OpError, graph: Graph) -> OpError:
    """The error with its op and the op's creation site, or itself where the op is not known."""
    if not error.node_name or error.op is not None:
        return error
    try:
        op = graph.get_operation_by_name(error.node_name)
    except (KeyError, ValueError):
        return error
    kind: Callable[..., OpError] = exception_type_from_error_code(error.error_code)
    found = kind(op.node_def, op, error.message, task=error.task, created_at=op.created_at)
    found.__cause__ = error.__cause__
    return found
