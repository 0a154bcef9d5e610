"""Whether what an op is given is what its definition says.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paramserve._framework.tensor import Tensor
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.opdefs import OpDef


def check_inputs(
    graph: object, definition: OpDef, attrs: Mapping[str, Any], inputs: Sequence[Tensor]
) -> None:
    """Checks the inputs of an op that is about to be added to a graph.

    Raises:
        TypeError: another number of them, or one that is no tensor or of another type.
        ValueError: one of another graph.
    """
    wanted = definition.input_dtypes(attrs)
    if len(wanted) != len(inputs):
        raise TypeError(f"op {definition.name!r} takes {len(wanted)} inputs, got {len(inputs)}")
    for tensor, dtype in zip(inputs, wanted, strict=True):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"an input of an op must be a Tensor, got {tensor!r}")
        if tensor.graph is not graph:
            raise ValueError(f"{tensor!r} must be from the same graph as the op that takes it.")
        found = tensor.dtype
        # A reference is read where a value is wanted.
        if found is not dtype and found.base_dtype is not dtype:
            raise TypeError(f"op {definition.name!r} takes {dtype.name}, got {tensor!r}")


def check_types(
    op_type: str, verb: str, found: Sequence[DType], expected: Sequence[Any] | None
) -> None:
    """Checks the types that an op takes or gives against those that its maker expects, if any.

    Raises:
        TypeError: they differ.
    """
    if expected is None:
        return
    wanted = [as_dtype(dtype).base_dtype for dtype in expected]
    if wanted != [dtype.base_dtype for dtype in found]:
        names = ", ".join(dtype.name for dtype in found) or "nothing"
        raise TypeError(f"op {op_type!r} {verb} {names}; the caller expects {list(expected)}")
