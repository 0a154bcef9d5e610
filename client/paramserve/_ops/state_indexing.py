"""Functions that change slices of variables, by index vectors or by brackets.

`variable[1:3, 0]` is a tensor like any other; it also has a method `assign`, which changes that
part of the variable. What the brackets were is in the graph, so the method finds it there.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.emit import emit_tensor

__all__ = ["scatter_nd_add", "scatter_nd_sub", "scatter_nd_update"]

_PASSED_ON: Final = frozenset({"Enter", "Identity", "Switch"})
"""Ops between a variable and the brackets: its reading, and the way into a branch or a loop."""


def scatter_nd_update(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = True,
    name: str | None = None,
) -> Tensor:
    """Replaces elements or slices of a variable. Of two for one place, one remains.

    Args:
        ref: the variable.
        indices: positions, integers of shape `[..., d]`: `d` leading indices of `ref` each.
        updates: of shape `indices.shape[:-1] + ref.shape[d:]`.
        use_locking: kept for old programs; every update is atomic.
        name: the name of the op.

    Raises:
        InvalidArgumentError: at run time, where a position is out of range. The variable is
            unchanged then.
        FailedPreconditionError: at run time, where the variable has no value.
    """
    return _scatter("ScatterNdUpdate", ref, indices, updates, use_locking, name)


def scatter_nd_add(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Adds to elements or slices of a variable; two for one place are both added.

    Arguments and errors as of `scatter_nd_update`.
    """
    return _scatter("ScatterNdAdd", ref, indices, updates, use_locking, name)


def scatter_nd_sub(
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None = False,
    name: str | None = None,
) -> Tensor:
    """Subtracts from elements or slices of a variable. See `scatter_nd_add`."""
    return _scatter("ScatterNdSub", ref, indices, updates, use_locking, name)


def _scatter(
    op_type: str,
    ref: Any,
    indices: TensorLike,
    updates: TensorLike,
    use_locking: bool | None,
    name: str | None,
) -> Tensor:
    return emit_tensor(
        op_type, name, ref=ref, indices=indices, updates=updates, use_locking=use_locking
    )


def _assign(self: Tensor) -> Callable[..., Tensor]:
    """For a slice of a variable, such as `v[0]`: a function that changes that part of it.

    `v[0].assign(value, name=None)` takes a value of the slice's type and shape, and answers the
    whole variable after the update.

    Raises:
        AttributeError: the tensor is no slice of a variable.
    """
    ref = _sliced_variable(self)
    if ref is None:
        raise AttributeError(f"'{self.name}' is no slice of a variable, so it has no assign")
    op = self.op

    def assign(value: TensorLike, name: str | None = None) -> Tensor:
        masks = {key: mask for key, mask in op.attrs.items() if key.endswith("_mask")}
        begin, end, strides = op.inputs[1:]
        return emit_tensor(
            "StridedSliceAssign",
            name or f"{op.name.rpartition('/')[2]}_assign",
            ref=ref,
            begin=begin,
            end=end,
            strides=strides,
            value=value,
            **masks,
        )

    return assign


def _sliced_variable(tensor: Tensor) -> Tensor | None:
    """The reference of the variable that `tensor` is a slice of."""
    if tensor.op.type != "StridedSlice":
        return None
    source = tensor.op.inputs[0]
    while not source.dtype.is_ref:
        if source.op.type not in _PASSED_ON:
            return None
        source = source.op.inputs[0]
    return source


Tensor.override_operator("assign", property(_assign))
