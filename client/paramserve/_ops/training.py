"""Ops that apply a gradient to a variable and its slots; optimizers are made of them.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor
from paramserve_core.opdefs import find_op
from paramserve_core.opdefs.training import GRADIENTS

__all__: list[str] = []  # For optimizers; a program has those.


def apply_gradient(
    rule: str,
    refs: Mapping[str, Any],
    gradient: Tensor | IndexedSlices,
    inputs: Mapping[str, TensorLike],
    *,
    use_locking: bool = False,
    name: str | None = None,
    **attrs: Any,
) -> Tensor:
    """Updates a variable and its slots, all at once.

    Args:
        rule: which formula: the op is `Apply<rule>`, or `SparseApply<rule>` where the gradient is
            sparse.
        refs: the variable as `var`, and the slots, by the names of the op's arguments.
        gradient: of the variable's shape, or some rows of such a one.
        inputs: the hyperparameters, scalars, by the names of the op's arguments.
        use_locking: kept for TensorFlow's sake; every update is atomic.
        name: the name of the op.
        **attrs: further attributes.

    Returns:
        The variable's value after the update.

    Raises:
        InvalidArgumentError: at run time, where shapes do not fit or an index is out of range.
            Nothing is changed then.
        NotFoundError: there is no such op.
        TypeError: an argument of a type that the op does not take.
        ValueError: shapes that cannot fit.
    """
    given: dict[str, Any] = {**refs, **inputs}
    if isinstance(gradient, IndexedSlices):
        op_type = f"SparseApply{rule}"
        given["indices"], gradient = gradient.indices, gradient.values
    else:
        op_type = f"Apply{rule}"
    definition = find_op(op_type)
    takes = [] if definition is None else [arg.name for arg in definition.inputs]
    given[next((name for name in GRADIENTS if name in takes), "grad")] = gradient
    return emit_tensor(op_type, name, use_locking=use_locking, **given, **attrs)
