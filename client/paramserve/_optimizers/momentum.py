"""Momentum.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.types import TensorLike
from paramserve._optimizers.fused import FusedOptimizer
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable


class MomentumOptimizer(FusedOptimizer):
    """Gradient descent along a decaying sum of gradients.

        accumulation = momentum * accumulation + g
        var -= learning_rate * accumulation

    With `use_nesterov` the last line is

        var -= learning_rate * (g + momentum * accumulation)

    Slots: `momentum`, a variable `<var>/Momentum`. A sparse gradient decays the rows that it names
    and no others, as in TensorFlow.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning",
    ICML 2013, whose velocity has the learning rate in it; here it is outside, so a change of the
    rate takes effect at once.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        momentum: as `learning_rate`.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.
        use_nesterov: see above.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        momentum: TensorLike,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(use_locking, name)
        self._hyper = {"lr": learning_rate, "momentum": momentum}
        self._use_nesterov = use_nesterov

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._zeros_slot(var, "momentum", self._name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        return self._fused(
            "Momentum",
            grad,
            var,
            {"accum": "momentum"},
            self._hyper,
            use_nesterov=self._use_nesterov,
        )
