"""Initial values that are computed from other variables.

`Variable(w * 2.0)` reads `w`, and initializers run in no order, so that `w` may have no value yet
when the new variable's initializer reads it. What such an initial value is computed with is
therefore made once more, with the `initialized_value()` of `w` in place of its value; then the
order does not matter.

Only pure ops are made again. Where a variable's value went through anything else on its way (an op
with state, a conditional, an explicit order), the program has arranged it, and it stays as it is.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor

_VARIABLE_OPS: Final = frozenset({"Variable", "VariableV2"})
_BRANCHING_OPS: Final = frozenset(
    {"IsVariableInitialized", "Merge", "RefMerge", "RefSwitch", "Switch"}
)


class _Variable(Protocol):
    """What is used of a `Variable`, whose module needs this one."""

    def ref(self) -> Tensor:
        """The reference."""

    def initialized_value(self) -> Tensor:
        """The value, or the initial value."""


def from_initialized_values(value: Tensor) -> Tensor:
    """An initial value that does not need other variables to have one.

    Args:
        value: an initial value.

    Returns:
        The same value, computed with initialized values; `value` itself where it depends on no
        variable, or depends on one through an op that is not made again.
    """
    ops = _ancestors(value.op)
    if not any(op.type in _VARIABLE_OPS for op in ops):
        return value
    variables = _variables_of(value.graph)
    reads: dict[Tensor, _Variable] = {}
    dependent: dict[Tensor, Operation] = {}
    for op in ops:
        if op.type in _VARIABLE_OPS:
            (ref,) = op.values()
            if ref not in variables:
                return value
            reads[ref] = variables[ref]
        elif reads.keys().isdisjoint(op.inputs) and dependent.keys().isdisjoint(op.inputs):
            continue
        elif not _is_pure(op):
            return value
        elif op.type == "Identity" and op.inputs[0] in reads:
            reads[op.values()[0]] = reads[op.inputs[0]]
        else:
            dependent.update(dict.fromkeys(op.values(), op))
    with value.graph.name_scope("Initializer"):
        again: dict[Tensor, Tensor] = {}
        for op in dict.fromkeys(dependent.values()):
            inputs = [_replaced(tensor, reads, again) for tensor in op.inputs]
            again.update(zip(op.values(), _made_again(op, inputs), strict=True))
        return _replaced(value, reads, again)


def _replaced(
    tensor: Tensor, reads: dict[Tensor, _Variable], again: dict[Tensor, Tensor]
) -> Tensor:
    if tensor in reads:
        return reads[tensor].initialized_value()
    return again.get(tensor, tensor)


def _made_again(op: Operation, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
    name = op.name.rpartition("/")[2]
    copy = op.graph.add_operation(
        op.definition, op.attrs, inputs, name, device=op.device, place=False
    )
    return copy.values()


def _is_pure(op: Operation) -> bool:
    return not (
        op.definition.is_stateful
        or op.control_inputs
        or op.control_flow is not None
        or any(arg.is_ref for arg in op.definition.inputs)
    )


def _ancestors(op: Operation) -> list[Operation]:
    """What `op` is computed from and itself, each after its inputs, none behind a conditional."""
    order: list[Operation] = []
    seen: set[Operation] = set()
    waiting = [(op, False)]
    while waiting:
        at, inputs_done = waiting.pop()
        if inputs_done:
            order.append(at)
        elif at not in seen and at.type not in _BRANCHING_OPS:
            seen.add(at)
            waiting.append((at, True))
            waiting += [(tensor.op, False) for tensor in at.inputs]
    return order


def _variables_of(graph: Graph) -> dict[Tensor, _Variable]:
    """The variables that the graph has collected, by their references."""
    keys = (GraphKeys.GLOBAL_VARIABLES, GraphKeys.LOCAL_VARIABLES)
    return {v.ref(): v for key in keys for v in graph.get_collection(key)}
