"""What the `with` blocks around a piece of a program have set, per thread.

Thread rule: every thread has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from paramserve._framework.operation import Operation
    from paramserve._framework.tensor import Tensor

DeviceFunction = Callable[[Any], Any]


class ControlFlow(Protocol):
    """One branch of a conditional, or a loop, while it is built.

    Every operation that is made inside `Graph.control_flow(region)` passes through `admit` before
    it is made and through `entered` once it is in the graph. Regions nest; what enters one enters
    those around it too.
    """

    def admit(
        self, op_type: str, inputs: Sequence[Tensor], control_inputs: Sequence[Operation]
    ) -> tuple[Sequence[Tensor], Sequence[Operation]]:
        """What a new operation takes in place of the inputs and control inputs that it was given.

        A tensor from outside comes into a branch through a switch and into a loop through an
        enter, and an operation that would run unconditionally waits for the region. `admit` may
        add operations itself; it leaves the block (`with graph.control_flow(None)`) while it does.
        """

    def awaited(self, op: Operation) -> Operation:
        """What an operation of the region waits for in place of `op`."""

    def entered(self, op: Operation) -> None:
        """`op` is in the graph and belongs to the region."""


class ControlDependencies:
    """One `control_dependencies` block."""

    __slots__ = ("_seen", "ops")

    def __init__(self, ops: tuple[Operation, ...]) -> None:
        self.ops = ops
        self._seen: set[Operation] = set()

    def saw(self, op: Operation) -> None:
        """An operation was created in the block, so it waits for `ops`."""
        self._seen.add(op)

    def dominates(self, input_ops: set[Operation]) -> bool:
        """Whether what takes these operations' outputs waits for `ops` already."""
        return not self._seen.isdisjoint(input_ops)


class Stacks(threading.local):
    """The state of one thread in one graph.

    Attributes:
        name_scope: without a "/" at its end.
        devices: device functions, innermost last; None passes over those before it.
        controls: the `control_dependencies` blocks, innermost last.
        control_flow: the innermost branch or loop.
        colocations: the operations to be placed with, innermost last.
        container: where variables go on the server.
        gradient_names: op type to the name of another gradient function.
    """

    def __init__(self) -> None:
        self.name_scope = ""
        self.devices: list[DeviceFunction | None] = []
        self.controls: list[ControlDependencies] = []
        self.control_flow: ControlFlow | None = None
        self.colocations: list[Operation] = []
        self.container = ""
        self.gradient_names: dict[str, str] = {}
