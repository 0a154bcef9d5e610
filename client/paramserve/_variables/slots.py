"""Slots: variables that an optimizer keeps beside a variable, such as a momentum.

A slot of `w` is a variable `w/<name>` on the task of `w`, of its shape unless said otherwise, not
trainable. The slot of a part is a part: in a checkpoint the slots of all parts of `w` are one
tensor `w/<name>`.

Thread rule: adds to the graph of the variable; see `Graph`.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._ops import array
from paramserve._variables.initializers import PartitionInfo, call_initializer
from paramserve._variables.save_slice import SaveSliceInfo
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import get_variable_scope
from paramserve_core.dtypes import as_dtype
from paramserve_core.shapes import TensorShape, as_shape


def create_slot(
    primary: Variable, val: TensorLike, name: str, colocate_with_primary: bool = True
) -> Variable:
    """A slot that begins as a given value.

    Args:
        primary: the variable that it belongs to.
        val: the initial value; its shape need not be known where that of `primary` is not.
        name: the slot's name, made unique among those of `primary`.
        colocate_with_primary: put it on the task of `primary`.
    """
    validate_shape = primary.shape.is_fully_defined()
    return _add_slot(primary, val, name, validate_shape, colocate_with_primary)


def create_slot_with_initializer(
    primary: Variable,
    initializer: Any,
    shape: ShapeLike,
    dtype: DTypeLike,
    name: str,
    colocate_with_primary: bool = True,
) -> Variable:
    """A slot whose initial value is made where the slot is.

    Args:
        primary: the variable that it belongs to.
        initializer: a function of a shape and a `dtype`.
        shape: the slot's shape.
        dtype: the slot's type.
        name: the slot's name, made unique among those of `primary`.
        colocate_with_primary: put it on the task of `primary`.

    Raises:
        ValueError: `shape` is not fully known.
    """
    sizes, wanted = as_shape(shape), as_dtype(dtype).base_dtype
    if not sizes.is_fully_defined():
        raise ValueError(f"{primary.op.name}/{name}: the shape of a slot must be known: {sizes}")
    info = primary._get_save_slice_info()
    part = None
    if info is not None and sizes == primary.shape:
        part = PartitionInfo(info.full_shape, info.var_offset)

    def make() -> Any:
        return call_initializer(initializer, sizes.as_list(), wanted, part)

    return _add_slot(primary, make, name, True, colocate_with_primary, sizes, wanted)


def create_zeros_slot(
    primary: Variable,
    name: str,
    dtype: DTypeLike | None = None,
    colocate_with_primary: bool = True,
) -> Variable:
    """A slot of the shape of `primary` that begins as zeros.

    Args:
        primary: the variable that it belongs to.
        name: the slot's name, made unique among those of `primary`.
        dtype: the slot's type; that of `primary` by default.
        colocate_with_primary: put it on the task of `primary`.
    """
    wanted = primary.dtype.base_dtype if dtype is None else as_dtype(dtype).base_dtype
    shape = primary.shape
    is_known = shape.is_fully_defined()

    def zeros() -> Any:
        if is_known:
            return array.zeros(shape, wanted)
        return array.zeros_like(primary.initialized_value(), wanted)

    return _add_slot(primary, zeros, name, is_known, colocate_with_primary, shape, wanted)


def _add_slot(
    primary: Variable,
    initial_value: Any,
    name: str,
    validate_shape: bool,
    colocate_with_primary: bool,
    shape: TensorShape | None = None,
    dtype: DTypeLike | None = None,
) -> Variable:
    graph = primary.graph
    beside = graph.colocate_with(primary.op) if colocate_with_primary else nullcontext()
    with graph.as_default(), graph.name_scope(None), beside:
        scope = get_variable_scope().name
        prefix = f"{scope}/" if scope else ""
        slot = Variable(
            initial_value,
            trainable=False,
            validate_shape=validate_shape,
            name=f"{prefix}{primary.op.name}/{name}",
            dtype=dtype,
            expected_shape=shape,
        )
    info = primary._get_save_slice_info()
    if info is not None and slot.shape == primary.shape:
        own_name = slot.op.name[len(f"{prefix}{primary.op.name}/") :]
        slot._set_save_slice_info(
            SaveSliceInfo(
                f"{prefix}{info.full_name}/{own_name}",
                info.full_shape,
                info.var_offset,
                info.var_shape,
            )
        )
    return slot
