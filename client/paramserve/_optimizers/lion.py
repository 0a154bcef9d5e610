"""Lion.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.types import TensorLike
from paramserve._optimizers.fused import FusedOptimizer, precise_type
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable


class LionOptimizer(FusedOptimizer):
    """Steps of one size in every element, in the direction that a momentum says.

        direction = sign(beta1 * m + (1 - beta1) * g)
        var -= learning_rate * (direction + weight_decay * var)
        m = beta2 * m + (1 - beta2) * g

    It keeps half of what Adam keeps, and wants a learning rate three to ten times smaller.
    TensorFlow has no such optimizer and no such op, so a graph with it runs only here. A sparse
    gradient changes its rows only.

    Slots: `m`, a variable `<var>/Lion`.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        beta1: how much of the direction is old; as `learning_rate`.
        beta2: decay of the momentum; as `learning_rate`.
        weight_decay: as `learning_rate`.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.
    """

    def __init__(
        self,
        learning_rate: TensorLike = 0.0001,
        beta1: TensorLike = 0.9,
        beta2: TensorLike = 0.99,
        weight_decay: TensorLike = 0.0,
        use_locking: bool = False,
        name: str = "Lion",
    ) -> None:
        super().__init__(use_locking, name)
        self._hyper = {
            "lr": learning_rate,
            "beta1": beta1,
            "beta2": beta2,
            "weight_decay": weight_decay,
        }

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        for var in var_list:
            self._zeros_slot(var, "m", self._name)

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        return self._fused("Lion", grad, var, {"m": "m"}, self._hyper, precise_type(var))
