"""Gradient descent, and its proximal form.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.types import TensorLike
from paramserve._ops import state
from paramserve._optimizers.fused import FusedOptimizer
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable


class GradientDescentOptimizer(FusedOptimizer):
    """Gradient descent: `var -= learning_rate * g`.

    It keeps no slots. A sparse gradient changes its rows only.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
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

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        return self._fused("GradientDescent", grad, var, {}, {"alpha": self._learning_rate})

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Variable) -> Any:
        rate = self._hyperparameter("learning_rate", self._learning_rate, var.dtype.base_dtype)
        return state.scatter_sub(var, grad.indices, grad.values * rate, self._use_locking).op


class ProximalGradientDescentOptimizer(FusedOptimizer):
    """Gradient descent, then a step towards zero that L1 and L2 regularization ask for.

        step = var - learning_rate * g
        var = sign(step) * max(|step| - learning_rate * l1, 0) / (1 + learning_rate * l2)

    It keeps no slots.

    Source: Duchi and Singer, "Efficient Online and Batch Learning Using Forward Backward
    Splitting", JMLR 2009.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        l1_regularization_strength: as `learning_rate`; not negative.
        l2_regularization_strength: likewise.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops.
    """

    def __init__(
        self,
        learning_rate: TensorLike,
        l1_regularization_strength: TensorLike = 0.0,
        l2_regularization_strength: TensorLike = 0.0,
        use_locking: bool = False,
        name: str = "ProximalGradientDescent",
    ) -> None:
        super().__init__(use_locking, name)
        self._hyper = {
            "alpha": learning_rate,
            "l1": l1_regularization_strength,
            "l2": l2_regularization_strength,
        }

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        return self._fused("ProximalGradientDescent", grad, var, {}, self._hyper)
