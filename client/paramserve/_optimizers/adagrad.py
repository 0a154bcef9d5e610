"""Adagrad, its proximal form, and its dual averaging form.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import cast, identity
from paramserve._optimizers.fused import FusedOptimizer
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import int64


class _AccumulatingOptimizer(FusedOptimizer):
    """Keeps a sum of squared gradients in the slot `accumulator`."""

    def __init__(
        self, initial_accumulator_value: float, hyper: dict[str, Any], use_locking: bool, name: str
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(
                f"initial_accumulator_value must be positive: {initial_accumulator_value}"
            )
        super().__init__(use_locking, name)
        self._initial = initial_accumulator_value
        self._hyper = hyper

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._filled_slot(var, self._initial, "accumulator", self._name)


class AdagradOptimizer(_AccumulatingOptimizer):
    """Gradient descent with a rate per element that shrinks with the gradients it has seen.

        accumulator += g * g
        var -= learning_rate * g / sqrt(accumulator)

    Slots: `accumulator`, a variable `<var>/Adagrad`. A sparse gradient changes its rows only.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", JMLR 2011.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        initial_accumulator_value: what the accumulator begins with; positive.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.

    Raises:
        ValueError: `initial_accumulator_value` is not positive.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        super().__init__(initial_accumulator_value, {"lr": learning_rate}, use_locking, name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        return self._fused("Adagrad", grad, var, {"accum": "accumulator"}, self._hyper)


class ProximalAdagradOptimizer(_AccumulatingOptimizer):
    """Adagrad, then a step towards zero that L1 and L2 regularization ask for.

        accumulator += g * g
        rate = learning_rate / sqrt(accumulator)
        step = var - rate * g
        var = sign(step) * max(|step| - rate * l1, 0) / (1 + rate * l2)

    Slots: `accumulator`, a variable `<var>/ProximalAdagrad`. A sparse gradient changes its rows
    only.

    Source: Duchi and Singer, "Efficient Online and Batch Learning Using Forward Backward
    Splitting", JMLR 2009.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        initial_accumulator_value: what the accumulator begins with; positive.
        l1_regularization_strength: as `learning_rate`; not negative.
        l2_regularization_strength: likewise.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.

    Raises:
        ValueError: `initial_accumulator_value` is not positive.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: TensorLike = 0.0,
        l2_regularization_strength: TensorLike = 0.0,
        use_locking: bool = False,
        name: str = "ProximalAdagrad",
    ) -> None:
        hyper = {
            "lr": learning_rate,
            "l1": l1_regularization_strength,
            "l2": l2_regularization_strength,
        }
        super().__init__(initial_accumulator_value, hyper, use_locking, name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        return self._fused("ProximalAdagrad", grad, var, {"accum": "accumulator"}, self._hyper)


class AdagradDAOptimizer(FusedOptimizer):
    """Adagrad by dual averaging: the variable is computed anew from sums of gradients.

    For the step `t`, which counts from 1:

        gradients += g
        squares += g * g
        shrunk = sign(gradients) * max(|gradients| - l1 * t, 0)
        var = -learning_rate * shrunk / (l2 * t * learning_rate + sqrt(squares))

    It makes sparse models with `l1_regularization_strength`, in which an element that has seen no
    gradient is 0 whatever it began as. A sparse gradient regularizes the rows that it names when
    they are named, with the step of that moment.

    Slots: `gradient_accumulator`, a variable `<var>/AdagradDA`, and
    `gradient_squared_accumulator`, `<var>/AdagradDA_1`.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", JMLR 2011.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        global_step: the variable that counts the steps.
        initial_gradient_squared_accumulator_value: what the squares begin with; positive.
        l1_regularization_strength: as `learning_rate`; not negative.
        l2_regularization_strength: likewise.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.

    Raises:
        ValueError: `initial_gradient_squared_accumulator_value` is not positive.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        global_step: Variable,
        initial_gradient_squared_accumulator_value: float = 0.1,
        l1_regularization_strength: TensorLike = 0.0,
        l2_regularization_strength: TensorLike = 0.0,
        use_locking: bool = False,
        name: str = "AdagradDA",
    ) -> None:
        initial = initial_gradient_squared_accumulator_value
        if initial <= 0.0:
            raise ValueError(
                f"initial_gradient_squared_accumulator_value must be positive: {initial}"
            )
        super().__init__(use_locking, name)
        self._global_step = global_step
        self._initial = initial
        self._hyper = {
            "lr": learning_rate,
            "l1": l1_regularization_strength,
            "l2": l2_regularization_strength,
        }
        self._step: Tensor | None = None

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._zeros_slot(var, "gradient_accumulator", self._name)
            self._filled_slot(var, self._initial, "gradient_squared_accumulator", self._name)

    def _prepare(self) -> None:
        self._step = cast(identity(self._global_step), int64) + 1

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        slots = {name: name for name in ("gradient_accumulator", "gradient_squared_accumulator")}
        return self._fused("AdagradDA", grad, var, slots, self._hyper, global_step=self._step)
