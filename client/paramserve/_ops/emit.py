"""`apply_op` with the kind of its result said, so that the op functions are typed.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.apply import apply_op
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor


def emit_tensor(op_type: str, name: str | None = None, **arguments: Any) -> Tensor:
    """Adds an op of one output tensor and answers that; see `apply_op`."""
    result: Tensor = apply_op(op_type, name, **arguments)
    return result


def emit_tensors(op_type: str, name: str | None = None, **arguments: Any) -> list[Tensor]:
    """Adds an op whose outputs are several tensors, or a list of them; see `apply_op`."""
    result: list[Tensor] = apply_op(op_type, name, **arguments)
    return result


def emit_operation(op_type: str, name: str | None = None, **arguments: Any) -> Operation:
    """Adds an op without outputs and answers the operation; see `apply_op`."""
    result: Operation = apply_op(op_type, name, **arguments)
    return result
