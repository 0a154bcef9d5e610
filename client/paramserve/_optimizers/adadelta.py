"""Adadelta.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.types import TensorLike
from paramserve._optimizers.fused import FusedOptimizer
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable


class AdadeltaOptimizer(FusedOptimizer):
    """Gradient descent whose steps have the size of recent steps.

        accum = rho * accum + (1 - rho) * g * g
        update = sqrt(accum_update + epsilon) / sqrt(accum + epsilon) * g
        var -= learning_rate * update
        accum_update = rho * accum_update + (1 - rho) * update * update

    Slots: `accum`, a variable `<var>/Adadelta`, and `accum_update`, `<var>/Adadelta_1`. A sparse
    gradient changes its rows only.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012. The paper has no learning
    rate, which is one of 1; the default here is TensorFlow's.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        rho: the decay, as `learning_rate`.
        epsilon: gets the first steps going and keeps the quotient finite; as `learning_rate`.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.
    """

    def __init__(
        self,
        learning_rate: TensorLike = 0.001,
        rho: TensorLike = 0.95,
        epsilon: TensorLike = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:
        super().__init__(use_locking, name)
        self._hyper = {"lr": learning_rate, "rho": rho, "epsilon": epsilon}

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._zeros_slot(var, "accum", self._name)
            self._zeros_slot(var, "accum_update", self._name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        slots = {name: name for name in ("accum", "accum_update")}
        return self._fused("Adadelta", grad, var, slots, self._hyper)
