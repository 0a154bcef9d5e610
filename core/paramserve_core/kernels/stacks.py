"""Stacks: what a loop leaves, iteration by iteration, for the loop that computes its gradient.

A stack lives as long as the step that made it. It may grow with every iteration, so what all
stacks of a step hold is bounded by the limit that holds for one tensor (`kernels.limits`): a stack
is the tensor of one loop variable over all iterations.

An element may be an array, a lease on a variable's value (an update then copies, and the element
stays what it was), or another stack.

Thread rule: the stages of a step run one after another on a task, so a stack is used by one thread
at a time; the budget is shared by all stacks of a step and has a lock, because a client could send
stages that do not keep to that.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import numpy as np

from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.kernels.limits import max_tensor_bytes

_ELEMENT_BYTES: Final = 64
"""What an element costs beyond its bytes, so that one without any counts too."""


class StackBudget:
    """The bytes that the stacks of one step hold together."""

    __slots__ = ("_lock", "_used_bytes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used_bytes = 0

    def change(self, delta_bytes: int, name: str) -> None:
        """Adds `delta_bytes` on behalf of the stack `name`.

        Raises:
            ResourceExhaustedError: the limit would be passed; nothing was added.
        """
        with self._lock:
            used, limit = self._used_bytes + delta_bytes, max_tensor_bytes()
            if delta_bytes > 0 and used > limit:
                raise ResourceExhaustedError(
                    None,
                    None,
                    f"{name}: {delta_bytes} more bytes would bring the stacks of this step to "
                    f"{used}, the limit is {limit}; a gradient keeps values of every iteration of "
                    "the loop, so loop less often, or raise the limit of the process that runs it",
                )
            self._used_bytes = used


class Stack:
    """Elements of one type, last in, first out.

    Args:
        name: the node that made it, for messages.
        max_size: the most elements; negative for any number.
        budget: counts the bytes.
    """

    __slots__ = ("_budget", "_elements", "_max_size", "_name")

    def __init__(self, name: str, max_size: int, budget: StackBudget) -> None:
        self._name = name
        self._max_size = max_size
        self._budget = budget
        self._elements: list[Any] | None = []

    def __repr__(self) -> str:
        return f"Stack({self._name!r})"

    def push(self, element: Any) -> None:
        """Adds an element.

        Raises:
            InvalidArgumentError: the stack is full or was closed.
            ResourceExhaustedError: the limit of bytes.
        """
        elements = self._open()
        if 0 <= self._max_size <= len(elements):
            raise InvalidArgumentError(
                None, None, f"Stack[{self._name}] overflowed its max_size ({self._max_size})"
            )
        if element.__class__ is np.ndarray:
            base = element.base
            if isinstance(base, np.ndarray) and base.nbytes > 2 * element.nbytes:
                element = element.copy()  # or it would keep all of what it is a small part of
        self._budget.change(_cost_bytes(element), self._name)
        elements.append(element)

    def pop(self) -> Any:
        """Removes the newest element and answers it.

        Raises:
            InvalidArgumentError: there is none, or the stack was closed.
        """
        elements = self._open()
        if not elements:
            raise InvalidArgumentError(
                None, None, f"Stack[{self._name}] is empty when calling Pop()."
            )
        element = elements.pop()
        self._budget.change(-_cost_bytes(element), self._name)
        return element

    def close(self) -> None:
        """Drops the elements; nothing can be pushed or popped any more."""
        for element in self._elements or ():
            self._budget.change(-_cost_bytes(element), self._name)
        self._elements = None

    def _open(self) -> list[Any]:
        if self._elements is None:
            raise InvalidArgumentError(None, None, f"Stack[{self._name}] has already been closed.")
        return self._elements


def _cost_bytes(element: Any) -> int:
    return _ELEMENT_BYTES + int(getattr(element, "nbytes", 0))
