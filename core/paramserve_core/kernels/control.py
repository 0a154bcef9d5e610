"""Kernels that decide what runs, and those of stacks.

The ends of a loop have kernels that pass a value on, which run nowhere: the executor takes a loop
apart when it compiles it (`executor.loops`).

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.dtypes import resource
from paramserve_core.errors import InternalError, InvalidArgumentError
from paramserve_core.kernels.registry import DEAD, KernelNode, kernel
from paramserve_core.kernels.stacks import Stack

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


@kernel("Enter", "RefEnter", "Exit", "RefExit", "NextIteration", "RefNextIteration", "LoopCond")
def _passed_on(node: KernelNode, value: Any) -> Any:
    return value


@kernel("StackV2", takes_step=True)
def _stack(node: KernelNode, step: Any, max_size: Array) -> Stack:
    if max_size.shape != ():
        raise InvalidArgumentError(
            None, None, f"Stack size must be a scalar, but has shape: {list(max_size.shape)}"
        )
    return Stack(node.name, int(max_size), step.stack_budget())


@kernel("StackPushV2")
def _stack_push(node: KernelNode, handle: Any, element: Any) -> Any:
    _stack_of(handle).push(element)
    return element


@kernel("StackPopV2")
def _stack_pop(node: KernelNode, handle: Any) -> Any:
    element = _stack_of(handle).pop()
    wanted = node.attrs["elem_type"]
    is_stack = element.__class__ is Stack
    if is_stack != (wanted is resource) or not (is_stack or element.dtype == wanted.as_numpy_dtype):
        found = "a stack" if is_stack else element.dtype
        raise InvalidArgumentError(
            None, None, f"the stack holds {found}, elem_type says {wanted.name}"
        )
    return element


@kernel("StackCloseV2")
def _stack_close(node: KernelNode, handle: Any) -> None:
    _stack_of(handle).close()


def _stack_of(handle: Any) -> Stack:
    if handle.__class__ is not Stack:
        raise InvalidArgumentError(None, None, "the handle is none of a stack; StackV2 makes one")
    found: Stack = handle
    return found


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
