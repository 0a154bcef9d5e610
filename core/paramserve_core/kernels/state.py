"""Kernels that make, read and change variables.

Each change happens under the variable's lock and after every check, so a step that fails leaves
the variable as it was.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.errors import InvalidArgumentError, OutOfRangeError
from paramserve_core.executor.updating import Ref, Update
from paramserve_core.kernels import fused, rows
from paramserve_core.kernels.registry import (
    BatchKernel,
    KernelNode,
    ShortForm,
    batch_kernel,
    kernel,
)
from paramserve_core.kernels.small_updates import short_update
from paramserve_core.opdefs.state import declared_shape

Array = NDArray[Any]

_MAX_ROUNDS: Final = 8
"""Beyond this many mentions of one row, summing duplicates first is faster than rounds."""


@kernel("VariableV2", "Variable", takes_step=True)
def _variable(node: KernelNode, step: Any) -> Ref:
    attrs = node.attrs
    return Ref(
        step.store.get_or_create(
            attrs["shared_name"] or node.name,
            attrs["container"],
            attrs["dtype"],
            declared_shape(node.op, attrs["shape"]),
        )
    )


@kernel("IsVariableInitialized")
def _is_initialized(node: KernelNode, ref: Ref) -> Array:
    return np.asarray(ref.variable.is_initialized)


@kernel("Assign")
def _assign(node: KernelNode, ref: Ref, value: Array) -> Ref:
    stored = ref.variable.assign(
        value,
        adopt=node.owned[1] and value.flags.c_contiguous,
        validate_shape=node.attrs["validate_shape"],
        lease=node.reads_output,
    )
    return Ref(ref.variable, stored)


def _short_assign(node: KernelNode, _: Sequence[Any]) -> ShortForm:
    def overwrite(_: Sequence[Array], value: Array, var: Array) -> None:
        var[...] = value

    short = short_update(overwrite, np.dtype(node.input_dtypes[0].as_numpy_dtype))
    if not node.attrs["validate_shape"]:
        return short

    # A value of the old one's shape may still be of another than the variable was declared with.
    def assign(ref: Any, value: Any) -> bool:
        is_usual = ref.__class__ is Ref and value.__class__ is np.ndarray
        return is_usual and ref.variable.shape.is_compatible_with(value.shape) and short(ref, value)

    return assign


batch_kernel("Assign", BatchKernel((0, 1), _short_assign))


_ASSIGNED_CHANGES: Final = {"AssignAdd": np.add, "AssignSub": np.subtract}


@kernel(*_ASSIGNED_CHANGES)
def _assign_change(node: KernelNode, ref: Ref, value: Array) -> Ref:
    change = _ASSIGNED_CHANGES[node.op]
    update = Update(ref, lease=node.reads_output, is_whole=True, fills=True)
    with update as (array,):
        if value.shape != array.shape:
            raise InvalidArgumentError(
                None,
                None,
                f"{ref.variable.name}: a change of shape {list(value.shape)} to a value of shape "
                f"{list(array.shape)}; both must have the same shape",
            )
        change(update.before[0], value, out=array)
    return update.output


def _short_assign_change(node: KernelNode, _: Sequence[Any]) -> ShortForm:
    change = _ASSIGNED_CHANGES[node.op]

    def update(_: Sequence[Array], value: Array, var: Array) -> None:
        change(var, value, var)

    return short_update(update, np.dtype(node.input_dtypes[0].as_numpy_dtype))


for _op in _ASSIGNED_CHANGES:
    batch_kernel(_op, BatchKernel((0, 1), _short_assign_change))


@kernel("CountUpTo")
def _count_up_to(node: KernelNode, ref: Ref) -> Array:
    limit = node.attrs["limit"]
    with Update(ref) as (array,):
        if array.shape != ():
            raise InvalidArgumentError(
                None,
                None,
                f"{ref.variable.name}: counting takes a scalar variable, this one has shape "
                f"{list(array.shape)}",
            )
        if array >= limit:
            raise OutOfRangeError(None, None, f"Reached limit of {limit}")
        before = array.copy()
        array += 1
    return before


@kernel("ScatterUpdate")
def _scatter_update(node: KernelNode, ref: Ref, indices: Array, updates: Array) -> Ref:
    update = Update(ref, lease=node.reads_output)
    with update as (array,):
        _check_scatter(ref.variable.name, array, indices, updates)
        if indices.size:
            target = rows.as_rows(array)
            if updates.shape == ():
                target[indices.reshape(-1)] = updates
            else:
                rows.scatter(target, indices.reshape(-1), updates.reshape(indices.size, -1))
    return update.output


@kernel("ScatterAdd", "ScatterSub", "ScatterMul", "ScatterDiv", "ScatterMax", "ScatterMin")
def _scatter_change(node: KernelNode, ref: Ref, indices: Array, updates: Array) -> Ref:
    change, combine = _CHANGES[node.op]
    update = Update(ref, lease=node.reads_output)
    with update as (array,):
        name = ref.variable.name
        _check_scatter(name, array, indices, updates)
        if change is _divide and array.dtype.kind in "iu" and not updates.all():
            raise InvalidArgumentError(
                None, None, f"{name}: an update divides by zero; nothing was changed"
            )
        if indices.size and array.size:
            target = rows.as_rows(array)
            if updates.shape == ():
                updates = np.broadcast_to(updates, (indices.size, target.shape[1]))
            change_rows(
                target, indices.reshape(-1), updates.reshape(indices.size, -1), change, combine
            )
    return update.output


def _divide(a: Array, b: Array, out: Array) -> None:
    """Division as in C: that of integers drops the fraction, where NumPy rounds down."""
    if a.dtype.kind == "i":
        quotient = a // b
        quotient += (quotient * b != a) & ((a < 0) != (b < 0))
        out[...] = quotient
    elif a.dtype.kind == "u":
        np.floor_divide(a, b, out=out)
    else:
        np.divide(a, b, out=out)


_CHANGES: Final[dict[str, tuple[Callable[..., Any], np.ufunc | None]]] = {
    "ScatterAdd": (np.add, np.add),
    "ScatterSub": (np.subtract, np.add),
    "ScatterMul": (np.multiply, np.multiply),
    "ScatterDiv": (_divide, None),
    "ScatterMax": (np.maximum, np.maximum),
    "ScatterMin": (np.minimum, np.minimum),
}
"""How an update changes a row, and how two updates of one row combine into one."""


def change_rows(
    target: Array,
    indices: Array,
    updates: Array,
    change: Callable[..., Any],
    combine: np.ufunc | None,
) -> None:
    """Changes rows by updates, one after the other where a row is named twice.

    Args:
        target: `[rows, width]`.
        indices: row numbers that are known to be inside, of shape `[n]`.
        updates: `[n, width]`.
        change: how an update changes a row.
        combine: how two updates of one row become one; None where they do not.
    """
    if fused.add_rows(change, target, indices, updates):
        return
    if not rows.has_duplicates(indices):
        _change_distinct_rows(target, indices, updates, change)
        return
    order, begins = rows.sorted_segments(indices)
    most = int(np.diff(begins, append=len(order)).max())
    if combine is not None and most > _MAX_ROUNDS:
        combined = combine.reduceat(updates[order], begins, axis=0, dtype=updates.dtype)
        _change_distinct_rows(target, indices[order[begins]], combined, change)
        return
    for positions in rows.rounds(order, begins):
        _change_distinct_rows(target, indices[positions], updates[positions], change)


def _change_distinct_rows(
    target: Array, indices: Array, updates: Array, change: Callable[..., Any]
) -> None:
    values = np.empty((len(indices), target.shape[1]), target.dtype)
    rows.gather(target, indices, values)
    change(values, updates, out=values)
    rows.scatter(target, indices, values)


def _check_scatter(name: str, array: Array, indices: Array, updates: Array) -> None:
    """Refuses a scatter whose shapes do not fit or whose indices are out of range."""
    if array.ndim == 0:
        raise InvalidArgumentError(
            None,
            None,
            f"{name}: a scalar has no rows to scatter into; it must be of rank 1 or more",
        )
    wanted = indices.shape + array.shape[1:]
    if updates.shape not in (wanted, ()):
        raise InvalidArgumentError(
            None,
            None,
            f"{name}: updates of shape {list(updates.shape)} for indices of shape "
            f"{list(indices.shape)} into a variable of shape {list(array.shape)}; wanted "
            f"{list(wanted)}, the shape of the indices and then of a row",
        )
    rows.check_indices(name, indices, array.shape[0])
