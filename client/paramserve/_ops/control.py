"""Functions that order ops.

`cond` and `case`, which choose between ops, are in `conditional`; assertions are in `checks`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from typing import Any

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.scopes import control_dependencies, device, name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import identity
from paramserve._ops.emit import emit_operation

__all__ = ["group", "no_op", "tuple", "with_dependencies"]


def no_op(name: str | None = None) -> Operation:
    """An op that does nothing; control dependencies give it a use."""
    return emit_operation("NoOp", name)


def group(*inputs: Any, name: str | None = None) -> Operation:
    """An op that is done when all inputs are.

    Args:
        *inputs: operations, tensors, variables, or lists of those.
        name: the name of the op.

    Raises:
        TypeError: an input that is none of those.
    """
    by_device: dict[str, list[Operation]] = {}
    for item in _flat(inputs):
        op = item if isinstance(item, Operation) else getattr(item, "op", None)
        if not isinstance(op, Operation):
            raise TypeError(f"group takes operations and tensors, got {item!r}")
        by_device.setdefault(op.device, []).append(op)
    with name_scope(name, "group_deps", [op for ops in by_device.values() for op in ops]) as scope:
        if not by_device:
            return no_op(name=scope)
        # One op per device, so that no device waits for what another still has to tell it.
        parts = list(by_device.items())
        if len(parts) == 1:
            return _after(*parts[0], name=scope)
        done = [_after(where, ops, name="NoOp") for where, ops in parts]
        with control_dependencies(done):
            return no_op(name=scope)


def _after(where: str, ops: Sequence[Operation], name: str) -> Operation:
    with control_dependencies(ops):
        if not where:
            return no_op(name=name)
        with device(where):
            return no_op(name=name)


def _flat(items: Iterable[Any]) -> Iterable[Any]:
    for item in items:
        if isinstance(item, (list, set, builtins.tuple)):
            yield from _flat(item)
        else:
            yield item


def tuple(
    tensors: Sequence[Any],
    name: str | None = None,
    control_inputs: Sequence[Any] | None = None,
) -> list[Any]:
    """The tensors, none of which has its value before all of them do.

    Args:
        tensors: tensors, IndexedSlices, and None, which stays None.
        name: the scope of the ops.
        control_inputs: what must be done too.

    Raises:
        ValueError: nothing but None.
        TypeError: a control input that is no operation or tensor.
    """
    with name_scope(name, "tuple", [t for t in tensors if t is not None]):
        gating = [t if isinstance(t, Operation) else t.op for t in tensors if t is not None]
        for item in control_inputs or ():
            op = item if isinstance(item, Operation) else getattr(item, "op", None)
            if not isinstance(op, Operation):
                raise TypeError(f"Control input must be Operation or Tensor: {item!r}")
            gating.append(op)
        if not gating:
            raise ValueError(f"Must have at least one Tensor: {tensors!r}")
        gate = group(*dict.fromkeys(gating))
        return [
            t if t is None or isinstance(t, Operation) else with_dependencies([gate], t)
            for t in tensors
        ]


def with_dependencies(
    dependencies: Sequence[Any], output_tensor: TensorLike, name: str | None = None
) -> Any:
    """The tensor, once the dependencies are done.

    Args:
        dependencies: operations or tensors.
        output_tensor: a tensor or an IndexedSlices.
        name: the name of the op.

    Returns:
        What `output_tensor` is: a Tensor, or an IndexedSlices.
    """
    with name_scope(name, "control_dependency", [*dependencies, output_tensor]) as scope:
        if isinstance(output_tensor, IndexedSlices):
            with control_dependencies(dependencies):
                return IndexedSlices(
                    identity(output_tensor.values),
                    identity(output_tensor.indices),
                    output_tensor.dense_shape,
                )
        source: Tensor = convert_to_tensor(output_tensor)
        with control_dependencies(dependencies):
            return identity(source, name=scope)
