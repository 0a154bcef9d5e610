"""Adam.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops import control, state
from paramserve._optimizers.optimizer import Optimizer
from paramserve._variables.variable import Variable


class AdamOptimizer(Optimizer):
    """Adam, with the bias correction folded into the step size.

    For gradient `g` at step `t`:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        var -= learning_rate * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + epsilon)

    Slots: `m` (a variable `<var>/Adam`) and `v` (`<var>/Adam_1`). The powers of the betas are
    variables too, `beta1_power` and `beta2_power`, beside the first variable by name. A sparse
    gradient decays and moves its own rows only ("lazy Adam"), where TensorFlow's decays all rows,
    which reads and writes the whole table in every step.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; `epsilon` is
    the "epsilon hat" of its section 2.1.

    Args:
        learning_rate: a number, a scalar tensor, or a variable.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.
        epsilon: keeps the quotient finite.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops.
    """

    def __init__(
        self,
        learning_rate: TensorLike = 0.001,
        beta1: TensorLike = 0.9,
        beta2: TensorLike = 0.999,
        epsilon: TensorLike = 1e-8,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._beta1 = beta1
        self._beta2 = beta2
        self._epsilon = epsilon
        self._powers: tuple[Variable, Variable] | None = None

    def _own_variables(self) -> list[Variable]:
        return list(self._powers or ())

    def _create_slots(self, variables: Sequence[Variable]) -> None:
        first = min(variables, key=lambda v: str(v.name))
        if self._powers is None or self._powers[0].graph is not first.graph:
            with scopes.colocate_with(first.op):
                self._powers = (
                    Variable(self._beta1, name="beta1_power", trainable=False),
                    Variable(self._beta2, name="beta2_power", trainable=False),
                )
        for variable in variables:
            self._zeros_slot(variable, "m", self._name)
            self._zeros_slot(variable, "v", self._name)

    def _apply_dense(self, gradient: Tensor, variable: Variable) -> Any:
        return self._apply("ApplyAdam", variable, grad=gradient)

    def _apply_sparse(self, gradient: Tensor, indices: Tensor, variable: Variable) -> Any:
        return self._apply("SparseApplyAdam", variable, grad=gradient, indices=indices)

    def _apply(self, op: str, variable: Variable, **gradient: Tensor) -> Any:
        m, v = self.get_slot(variable, "m"), self.get_slot(variable, "v")
        assert m is not None
        assert v is not None
        assert self._powers is not None
        beta1_power, beta2_power = self._powers
        return apply_op(
            op,
            var=variable.ref(),
            m=m.ref(),
            v=v.ref(),
            beta1_power=self._scalar(beta1_power, variable, "beta1_power"),
            beta2_power=self._scalar(beta2_power, variable, "beta2_power"),
            lr=self._scalar(self._learning_rate, variable, "learning_rate"),
            beta1=self._scalar(self._beta1, variable, "beta1"),
            beta2=self._scalar(self._beta2, variable, "beta2"),
            epsilon=self._scalar(self._epsilon, variable, "epsilon"),
            use_locking=self._use_locking,
            **gradient,
        ).op

    def _finish(self, updates: Sequence[Any], name: str) -> Operation:
        """The powers move on once every variable was updated by the old ones."""
        assert self._powers is not None
        beta1_power, beta2_power = self._powers
        with scopes.control_dependencies(updates), scopes.colocate_with(beta1_power.op):
            moves = [
                state.assign(beta1_power, beta1_power * self._beta1).op,
                state.assign(beta2_power, beta2_power * self._beta2).op,
            ]
        return control.group(*updates, *moves, name=name)
