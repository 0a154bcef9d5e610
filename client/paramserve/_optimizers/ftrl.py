"""FTRL-proximal.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.math import add, divide
from paramserve._optimizers.fused import FusedOptimizer
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import DType


class FtrlOptimizer(FusedOptimizer):
    """Follow the regularized leader, proximally: for large sparse linear models.

    With `p = -learning_rate_power`:

        n = accum + g * g
        linear += g - (n**p - accum**p) / learning_rate * var
        shrunk = sign(linear) * max(|linear| - l1, 0)
        var = -shrunk / (n**p / learning_rate + 2 * l2)
        accum = n

    With `l2_shrinkage_regularization_strength`, the `g` that is added to `linear`, and only that,
    has twice the strength times `var` added: a penalty on magnitude, where the other L2 term is
    one that stabilizes. `beta`, of the paper's formula, adds `beta / (2 * learning_rate)` to `l2`.

    Slots: `accum`, a variable `<var>/Ftrl`, and `linear`, `<var>/Ftrl_1`. A sparse gradient
    changes its rows only.

    Source: McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one;
            positive. Unlike in TensorFlow, a step with another is refused: it would divide by it.
        learning_rate_power: not positive.
        initial_accumulator_value: what `accum` begins with; not negative.
        l1_regularization_strength: not negative.
        l2_regularization_strength: not negative.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.
        accum_name: the suffix of the variable of the slot `accum`, in place of `name`.
        linear_name: the suffix of the variable of the slot `linear`, in place of `name`.
        l2_shrinkage_regularization_strength: not negative.
        beta: not negative; None is 0.

    Raises:
        ValueError: a number of the wrong sign.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float | None = None,
    ) -> None:
        beta = beta or 0.0
        for what, number in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1_regularization_strength", l1_regularization_strength),
            ("l2_regularization_strength", l2_regularization_strength),
            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength),
            ("beta", beta),
        ):
            if number < 0.0:
                raise ValueError(f"{what} {number} needs to be positive or zero")
        if learning_rate_power > 0.0:
            raise ValueError(
                f"learning_rate_power {learning_rate_power} needs to be negative or zero"
            )
        super().__init__(use_locking, name)
        self._beta = beta
        self._initial = initial_accumulator_value
        self._accum_name = accum_name or name
        self._linear_name = linear_name or name
        self._rule = "Ftrl"
        self._hyper = {
            "lr": learning_rate,
            "l1": l1_regularization_strength,
            "l2": l2_regularization_strength,
            "lr_power": learning_rate_power,
        }
        if l2_shrinkage_regularization_strength > 0.0:
            self._rule = "FtrlV2"
            self._hyper["l2_shrinkage"] = l2_shrinkage_regularization_strength

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._filled_slot(var, self._initial, "accum", self._accum_name)
            self._zeros_slot(var, "linear", self._linear_name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        slots = {name: name for name in ("accum", "linear")}
        hyper = self._hyper
        if self._beta:
            hyper = {**hyper, "l2": lambda: self._l2_with_beta(var.dtype.base_dtype)}
        return self._fused(self._rule, grad, var, slots, hyper)

    def _l2_with_beta(self, dtype: DType) -> Tensor:
        rate = self._hyperparameter("learning_rate", self._hyper["lr"], dtype)
        return add(divide(self._beta / 2.0, rate), self._hyper["l2"])
