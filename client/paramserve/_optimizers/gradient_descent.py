"""Gradient descent.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.apply import apply_op
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops import state
from paramserve._optimizers.optimizer import Optimizer
from paramserve._variables.variable import Variable


class GradientDescentOptimizer(Optimizer):
    """Gradient descent: `var -= learning_rate * gradient`.

    It keeps no slots. A sparse gradient changes its rows only.

    Args:
        learning_rate: a number, a scalar tensor, or a variable.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        use_locking: bool = False,
        name: str = "GradientDescent",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate

    def _apply_dense(self, gradient: Tensor, variable: Variable) -> Any:
        return apply_op(
            "ApplyGradientDescent",
            var=variable.ref(),
            alpha=self._scalar(self._learning_rate, variable, "learning_rate"),
            delta=gradient,
            use_locking=self._use_locking,
        ).op

    def _apply_sparse(self, gradient: Tensor, indices: Tensor, variable: Variable) -> Any:
        step = gradient * self._scalar(self._learning_rate, variable, "learning_rate")
        return state.scatter_sub(variable, indices, step, use_locking=self._use_locking).op
