"""RMSProp.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.types import TensorLike
from paramserve._optimizers.fused import FusedOptimizer
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable


class RMSPropOptimizer(FusedOptimizer):
    """Gradient descent with a rate per element, by a moving average of squared gradients.

        rms = decay * rms + (1 - decay) * g * g
        mom = momentum * mom + learning_rate * g / sqrt(rms + epsilon)
        var -= mom

    With `centered`, a moving average `mg` of gradients is kept too, and the root is of
    `rms - mg * mg + epsilon`: the variance in place of the mean square.

    Slots: `rms`, a variable `<var>/RMSProp`, `mg` with `centered`, and `momentum`, the last two
    numbered `_1` and `_2` as they come. As in TensorFlow, `rms` begins as ones, so that the first
    steps are small, and a sparse gradient changes its rows only.

    Source: Tieleman and Hinton, "Lecture 6.5: rmsprop", Coursera, 2012; centered: Graves,
    "Generating Sequences With Recurrent Neural Networks", 2013.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        decay: of the moving averages; as `learning_rate`.
        momentum: as `learning_rate`.
        epsilon: keeps the quotient finite; as `learning_rate`.
        use_locking: has no effect, since each update is atomic.
        centered: see above.
        name: prefix of the names of the ops and slots.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        decay: TensorLike = 0.9,
        momentum: TensorLike = 0.0,
        epsilon: TensorLike = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(use_locking, name)
        self._hyper = {
            "lr": learning_rate,
            "rho": decay,
            "momentum": momentum,
            "epsilon": epsilon,
        }
        self._centered = centered

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._filled_slot(var, 1.0, "rms", self._name)
            if self._centered:
                self._zeros_slot(var, "mg", self._name)
            self._zeros_slot(var, "momentum", self._name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        slots = {"ms": "rms", "mom": "momentum"}
        if not self._centered:
            return self._fused("RMSProp", grad, var, slots, self._hyper)
        return self._fused("CenteredRMSProp", grad, var, {"mg": "mg", **slots}, self._hyper)
