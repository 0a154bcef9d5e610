"""From the name of an operation ("weights") or of a tensor ("weights:0") to the thing itself.

Thread rule: reads the graph's table of operations.
"""

from __future__ import annotations

from collections.abc import Mapping

from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor


def find_element(
    operations: Mapping[str, Operation], name: str, allow_tensor: bool, allow_operation: bool
) -> Tensor | Operation:
    """What `name` names.

    Args:
        operations: the graph's operations by name.
        name: a name; with a ":", a tensor's.
        allow_tensor: whether it may be a tensor's.
        allow_operation: whether it may be an operation's.

    Raises:
        KeyError: the graph has nothing of that name.
        ValueError: it is not a name of the kind allowed.
    """
    if ":" in name and allow_tensor:
        return _find_tensor(operations, name)
    if not allow_operation:
        found = "an Operation" if name in operations else "neither an Operation nor a Tensor"
        raise ValueError(
            f"The name {name!r} refers to {found}, and a Tensor is wanted. Tensor names are of the "
            f'form "<op_name>:<output_index>", such as {name + ":0"!r}.'
        )
    if ":" in name:
        raise ValueError(f"Name {name!r} appears to refer to a Tensor, not an Operation.")
    if name not in operations:
        raise KeyError(f"The name {name!r} refers to an Operation not in the graph.")
    return operations[name]


def _find_tensor(operations: Mapping[str, Operation], name: str) -> Tensor:
    op_name, _, index = name.partition(":")
    if not (index.isascii() and index.isdigit() and len(index) < 10):
        raise ValueError(
            f"The name {name!r} looks like a Tensor name, but is not a valid one. Tensor names "
            'are of the form "<op_name>:<output_index>".'
        )
    op = operations.get(op_name)
    if op is None:
        raise KeyError(
            f"The name {name!r} refers to a Tensor which does not exist. The operation, "
            f"{op_name!r}, does not exist in the graph."
        )
    outputs = op.values()
    if int(index) >= len(outputs):
        raise KeyError(
            f"The name {name!r} refers to a Tensor which does not exist. The operation, "
            f"{op_name!r}, exists but has {len(outputs)} outputs."
        )
    return outputs[int(index)]
