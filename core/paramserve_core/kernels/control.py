"""Kernels that decide what runs.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.errors import InternalError, InvalidArgumentError
from paramserve_core.kernels.registry import DEAD, KernelNode, kernel

Array = NDArray[Any]


@kernel("NoOp", "ControlTrigger")
def _no_op(node: KernelNode) -> None:
    return None


@kernel("Switch", "RefSwitch")
def _switch(node: KernelNode, data: Any, pred: Array) -> tuple[Any, Any]:
    if pred.shape != ():
        raise InvalidArgumentError(
            None,
            None,
            f"the predicate of a conditional must be a scalar, it has shape {list(pred.shape)}",
        )
    return (DEAD, data) if pred else (data, DEAD)


@kernel("Merge", "RefMerge")
def _merge(node: KernelNode, *inputs: Any) -> tuple[Any, Array]:
    for index, value in enumerate(inputs):
        if value is not DEAD:
            return value, np.asarray(index, np.int32)
    raise InternalError(None, None, "a Merge ran and none of its inputs was alive")


@kernel("Assert")
def _assert(node: KernelNode, condition: Array, *data: Array) -> None:
    if condition.shape != ():
        raise InvalidArgumentError(
            None,
            None,
            f"the condition of an assertion must be a scalar, it has shape {list(condition.shape)}",
        )
    if not condition:
        shown = " ".join(_summary(value, node.attrs["summarize"]) for value in data)
        raise InvalidArgumentError(None, None, f"assertion failed: {shown}")


def _summary(value: Array, count: int) -> str:
    """The first `count` elements (all of them if negative), and the dtype if there are more."""
    flat = value.reshape(-1)
    shown = flat if count < 0 else flat[:count]
    texts = [
        "[" + (v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v)) + "]"
        if value.shape == ()
        else (v.decode("utf-8", "backslashreplace") if isinstance(v, bytes) else str(v))
        for v in shown.tolist()
    ]
    if value.shape == ():
        return texts[0] if texts else "[]"
    more = "..." if len(shown) < len(flat) else ""
    return "[" + " ".join(texts) + more + "]"
