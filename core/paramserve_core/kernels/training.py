"""Kernels that apply gradients to variables: the drivers of the rules in `update_rules`.

An update holds the locks of the variable and of its slots, checks every shape and index before the
first write, and then works in place, block by block and on several threads where the variable is
large (see `blocks`). So it is atomic, makes no temporary of the variable's size, and an error
leaves everything as it was.

Half-precision variables are widened, updated and rounded once, per block. In a sparse update the
rows of one block are gathered, updated by the same rule as a dense variable, and scattered back;
rows that are mentioned twice are updated in rounds (see `rows`). Rows larger than a block are
updated where they are, one after the other. With a compiled loop (see `fused`) rows are updated
where they are whatever their size.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import numpy as np

from paramserve_core.dtypes import DType
from paramserve_core.executor.updating import Ref, Update
from paramserve_core.kernels import rows, update_rules
from paramserve_core.kernels.blocks import BLOCK_BYTES, for_each_block
from paramserve_core.kernels.fused import FusedUpdate
from paramserve_core.kernels.numerics import (
    Array,
    compute_dtype,
    invalid,
    is_half,
    quiet,
    shape_text,
)
from paramserve_core.kernels.registry import (
    BatchKernel,
    KernelFunction,
    KernelNode,
    ShortForm,
    batch_kernel,
    kernel,
)
from paramserve_core.kernels.small_updates import short_update
from paramserve_core.kernels.update_rules import SCRATCH_ROWS, BlockUpdate, Rule
from paramserve_core.opdefs import find_op
from paramserve_core.opdefs.training import GRADIENTS

_RULES: Final[dict[str, Rule]] = {
    "GradientDescent": update_rules.fused_gradient_descent,
    "Momentum": update_rules.momentum,
    "Adagrad": update_rules.adagrad,
    "AdagradV2": update_rules.adagrad,
    "AdagradDA": update_rules.adagrad_dual_averaging,
    "Adadelta": update_rules.adadelta,
    "Adam": update_rules.adam,
    "AdamW": update_rules.adamw,
    "AdaMax": update_rules.adamax,
    "Lion": update_rules.lion,
    "RMSProp": update_rules.rmsprop,
    "CenteredRMSProp": update_rules.centered_rmsprop,
    "Ftrl": update_rules.ftrl,
    "FtrlV2": update_rules.ftrl,
    "ProximalGradientDescent": update_rules.proximal_gradient_descent,
    "ProximalAdagrad": update_rules.proximal_adagrad,
    "AddSign": update_rules.add_sign,
    "PowerSign": update_rules.power_sign,
}

_SHORT_RULES: Final[dict[str, Rule]] = {"GradientDescent": update_rules.gradient_descent}
"""The rules of short forms, where they are others."""

_INTO: Final = frozenset({update_rules.fused_gradient_descent})
"""The rules whose update takes `out`, where the new variable goes if not where the old one is: they
do so little that even copying a block first, which others do, can be felt."""


@functools.cache
def _compute_dtype_of(dtype: DType) -> np.dtype[Any]:
    return compute_dtype(np.dtype(dtype.as_numpy_dtype))


class _Layout:
    """Where the inputs of an op are."""

    def __init__(self, op: str) -> None:
        definition = find_op(op)
        assert definition is not None, f"no definition of {op}"
        names = [arg.name for arg in definition.inputs]
        self.ref_count = sum(arg.is_ref for arg in definition.inputs)
        self.grad = next(names.index(name) for name in GRADIENTS if name in names)
        self.indices = names.index("indices") if "indices" in names else None
        self.scalars = [
            (i, name)
            for i, name in enumerate(names)
            if i >= self.ref_count and i not in (self.grad, self.indices)
        ]

    def settings(self, node: KernelNode, inputs: Sequence[Any]) -> dict[str, Any]:
        """Attributes and hyperparameters by name, the latter in the type to compute in."""
        settings = dict(node.attrs)
        dtype = _compute_dtype_of(node.input_dtypes[0])
        for i, name in self.scalars:
            value = inputs[i]
            if value.ndim:
                invalid(f"{name} is not a scalar: its shape is {shape_text(value.shape)}")
            settings[name] = value[()] if value.dtype is dtype else value.astype(dtype)[()]
        return settings


def _kernel_of(op: str, rule: Rule) -> KernelFunction:
    layout = _Layout(op)

    @quiet
    def run(node: KernelNode, *inputs: Any) -> Ref:
        refs: Sequence[Ref] = inputs[: layout.ref_count]
        grad: Array = inputs[layout.grad]
        block_update = rule(layout.settings(node, inputs))
        is_whole = layout.indices is None
        fills = is_whole and grad.nbytes > BLOCK_BYTES
        update = Update(*refs, lease=node.reads_output, is_whole=is_whole, fills=fills)
        with update as arrays:
            _check_slots(refs, arrays, grad)
            name = refs[0].variable.name
            if layout.indices is None:
                _check_dense(name, arrays[0], grad)
                before = update.before if fills else arrays
                _update_dense(block_update, arrays, grad, before, takes_out=rule in _INTO)
            else:
                indices: Array = inputs[layout.indices]
                _check_sparse(name, arrays[0], grad, indices)
                _update_rows(block_update, arrays, grad, indices)
        return update.output

    return run


def _batch_kernel_of(op: str, rule: Rule) -> BatchKernel:
    layout = _Layout(op)

    def prepare(node: KernelNode, inputs: Sequence[Any]) -> ShortForm | None:
        dtype = np.dtype(node.input_dtypes[0].as_numpy_dtype)
        if is_half(dtype):
            return None
        return short_update(rule(layout.settings(node, inputs)), dtype, layout.ref_count)

    return BatchKernel((*range(layout.ref_count), layout.grad), prepare)


for _name, _rule in _RULES.items():
    for _op in (f"Apply{_name}", f"SparseApply{_name}"):
        if find_op(_op) is not None:
            kernel(_op)(_kernel_of(_op, _rule))
    _short_rule = _SHORT_RULES.get(_name, _rule)
    batch_kernel(f"Apply{_name}", _batch_kernel_of(f"Apply{_name}", _short_rule))


# Checks.


def _check_slots(refs: Sequence[Ref], arrays: Sequence[Array], grad: Array) -> None:
    dtype, shape = arrays[0].dtype, arrays[0].shape
    if grad.dtype is not dtype and grad.dtype != dtype:
        _refuse_dtype(refs, dtype, grad.dtype)
    for number in range(1, len(arrays)):
        array = arrays[number]
        if array.dtype is not dtype and array.dtype != dtype:
            _refuse_dtype(refs, dtype, array.dtype)
        if array.shape != shape:
            invalid(
                f"{refs[number].variable.name}: a slot of shape {shape_text(array.shape)} beside "
                f"{refs[0].variable.name} of shape {shape_text(shape)}; both must have the same "
                "shape"
            )


def _refuse_dtype(refs: Sequence[Ref], dtype: np.dtype[Any], found: np.dtype[Any]) -> NoReturn:
    invalid(
        f"{refs[0].variable.name}: an update of {dtype} by a slot or gradient of {found}; all must "
        "be of one type"
    )


def _check_dense(name: str, var: Array, grad: Array) -> None:
    if grad.shape != var.shape:
        invalid(
            f"{name}: a gradient of shape {shape_text(grad.shape)} for a variable of shape "
            f"{shape_text(var.shape)}; both must have the same shape"
        )


def _check_sparse(name: str, var: Array, grad: Array, indices: Array) -> None:
    if var.ndim == 0:
        invalid(f"{name}: a scalar has no rows to update; it must be of rank 1 or more")
    if indices.ndim != 1:
        invalid(f"{name}: indices must be a vector, but have shape {shape_text(indices.shape)}")
    wanted = indices.shape + var.shape[1:]
    if grad.shape != wanted:
        invalid(
            f"{name}: a gradient of shape {shape_text(grad.shape)} for {indices.size} rows of a "
            f"variable of shape {shape_text(var.shape)}; wanted {shape_text(wanted)}"
        )
    rows.check_indices(name, indices, var.shape[0])


# Updates.


def _update_dense(
    update: BlockUpdate,
    arrays: Sequence[Array],
    grad: Array,
    before: Sequence[Array],
    takes_out: bool = False,
) -> None:
    """Updates a variable and its slots.

    Args:
        update: by a rule.
        arrays: the buffers.
        grad: the gradient.
        before: what the variable and its slots were until now. Where that is not the buffer, which
            has arbitrary contents then, a block is copied just before it is updated: it is in the
            cache, and copying costs little.
        takes_out: whether the rule is one of `_INTO`.
    """
    half = is_half(grad.dtype)
    is_small = grad.nbytes <= BLOCK_BYTES and not half
    if is_small and grad.ndim == 1:  # the many biases of a model
        update(np.empty((SCRATCH_ROWS, grad.size), grad.dtype), grad, *arrays)
        return
    states = [_as_vector(array) for array in arrays]
    gradient = grad.reshape(-1)
    if is_small:
        update(np.empty((SCRATCH_ROWS, grad.size), grad.dtype), gradient, *states)
        return
    dtype = compute_dtype(grad.dtype)
    olds = [_as_vector(array) for array in before]
    moved = [
        (old, state)
        for old, state, was, array in zip(olds, states, before, arrays, strict=True)
        if was is not array
    ]

    def update_block(start: int, stop: int, scratch: Array) -> None:
        for old, state in moved:
            np.copyto(state[start:stop], old[start:stop])
        update(scratch, gradient[start:stop], *(state[start:stop] for state in states))

    def update_into_block(start: int, stop: int, scratch: Array) -> None:
        part = slice(start, stop)
        update(scratch, gradient[part], olds[0][part], out=states[0][part])

    def update_half_block(start: int, stop: int, scratch: Array) -> None:
        wide = scratch[SCRATCH_ROWS:]
        np.copyto(wide[-1], gradient[start:stop])
        for i, old in enumerate(olds):
            np.copyto(wide[i], old[start:stop])
        update(scratch, wide[-1], *wide[:-1])
        for i, state in enumerate(states):
            np.copyto(state[start:stop], wide[i], casting="same_kind")

    update_whole_block = update_into_block if moved and takes_out else update_block
    for_each_block(
        gradient.size,
        update_half_block if half else update_whole_block,
        item_bytes=dtype.itemsize,
        scratch_rows=SCRATCH_ROWS + (len(states) + 1 if half else 0),
        scratch_dtype=dtype,
    )


def _as_vector(array: Array) -> Array:
    """The elements of a variable's buffer; never a copy, into which updates would get lost."""
    assert array.flags.c_contiguous
    return array.reshape(-1)


def _update_rows(update: BlockUpdate, arrays: Sequence[Array], grad: Array, indices: Array) -> None:
    if not grad.size:
        return
    tables = [rows.as_rows(array) for array in arrays]
    gradients = grad.reshape(len(indices), tables[0].shape[1])
    if gradients[0].nbytes > BLOCK_BYTES:
        for index, gradient in zip(indices.tolist(), gradients, strict=True):
            states = [table[index] for table in tables]
            _update_dense(update, states, gradient, before=states)
        return
    if isinstance(update, FusedUpdate) and update.update_rows(gradients, indices, tables):
        return
    if not rows.has_duplicates(indices):
        _update_distinct_rows(update, tables, gradients, indices)
        return
    for positions in rows.rounds(*rows.sorted_segments(indices)):
        _update_distinct_rows(update, tables, gradients[positions], indices[positions])


def _update_distinct_rows(
    update: BlockUpdate, tables: Sequence[Array], gradients: Array, indices: Array
) -> None:
    width = gradients.shape[1]
    dtype = compute_dtype(gradients.dtype)
    half = is_half(gradients.dtype)

    def update_block(start: int, stop: int, scratch: Array) -> None:
        chosen, gradient = indices[start:stop], gradients[start:stop]
        states = scratch[SCRATCH_ROWS:-1]
        if half:
            np.copyto(scratch[-1], gradient)
            gradient = scratch[-1]
        for table, state in zip(tables, states, strict=True):
            if half:
                np.copyto(state, np.take(table, chosen, axis=0))
            else:
                rows.gather(table, chosen, state)
        update(scratch, gradient, *states)
        for table, state in zip(tables, states, strict=True):
            rows.scatter(table, chosen, state.astype(table.dtype, copy=False))

    for_each_block(
        len(indices),
        update_block,
        item_bytes=width * dtype.itemsize,
        scratch_rows=SCRATCH_ROWS + len(tables) + 1,
        scratch_dtype=np.dtype((dtype, (width,))),
    )
