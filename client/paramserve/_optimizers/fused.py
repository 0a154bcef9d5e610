"""Optimizers whose update of a variable is one op, dense or sparse.

A subclass names the op, says which input is which slot, and gives the hyperparameters. The op runs
where the variable and its slots are, changes all of them at once, and makes no temporary of the
variable's size.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops.array import constant, fill
from paramserve._ops.array import shape as shape_of
from paramserve._ops.training import apply_gradient
from paramserve._optimizers.optimizer import Gradient, Optimizer
from paramserve._variables.initializers import constant_initializer
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import DType, complex128, float32, float64

_NODE_NAMES = {"lr": "learning_rate", "alpha": "learning_rate"}
"""What a hyperparameter's op is called where it is not as the input."""


def precise_type(var: Variable) -> DType:
    """The type for hyperparameters of ops that let it be chosen: at least float32."""
    is_wide = var.dtype.base_dtype in (float64, complex128)
    return float64 if is_wide else float32


class FusedOptimizer(Optimizer):
    """The base of optimizers that update a variable by an op such as `ApplyMomentum`."""

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        """The op that updates a variable by a dense gradient, or by one without duplicates."""
        raise NotImplementedError

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        return self._apply(grad, var)

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        return self._apply(grad, var)

    def _filled_slot(self, var: Variable, value: float, slot_name: str, op_name: str) -> Variable:
        """The slot of that name, all its elements that value if there is none yet."""
        dtype = var.dtype.base_dtype
        if var.shape.is_fully_defined():
            initializer = constant_initializer(value)
            return self._get_or_make_slot_with_initializer(
                var, initializer, var.shape, dtype, slot_name, op_name
            )
        filled = fill(shape_of(var.initialized_value()), constant(value, dtype))
        return self._get_or_make_slot(var, filled, slot_name, op_name)

    def _fused(
        self,
        rule: str,
        grad: Gradient,
        var: Variable,
        slots: Mapping[str, str],
        hyperparameters: Mapping[str, Any],
        hyperparameter_dtype: DType | None = None,
        **arguments: Any,
    ) -> Operation:
        """The op that updates a variable and its slots.

        Args:
            rule: the formula's name, see `apply_gradient`.
            grad: the gradient.
            var: the variable.
            slots: the slot that each further reference of the op is.
            hyperparameters: what becomes a scalar, by input.
            hyperparameter_dtype: the type of those; that of the variable by default.
            **arguments: further inputs and attributes.
        """
        refs = {"var": var.ref()}
        for argument, slot_name in slots.items():
            slot = self.get_slot(var, slot_name)
            assert slot is not None, f"{var.op.name} has no slot {slot_name!r}"
            refs[argument] = slot.ref()
        dtype = hyperparameter_dtype or var.dtype.base_dtype
        inputs = {
            argument: self._hyperparameter(_NODE_NAMES.get(argument, argument), value, dtype)
            for argument, value in hyperparameters.items()
        }
        use_locking = self._use_locking
        return apply_gradient(rule, refs, grad, inputs, use_locking=use_locking, **arguments).op
