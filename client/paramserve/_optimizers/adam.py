"""Adam, and the forms of it that decay weights or leave rows alone.

Thread rule: see `optimizer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paramserve._framework import scopes
from paramserve._framework.graph import get_default_graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.types import TensorLike
from paramserve._ops import control, math_segment, state
from paramserve._ops.array import shape as shape_of
from paramserve._optimizers.fused import FusedOptimizer, precise_type
from paramserve._optimizers.optimizer import Gradient
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import DType


class _AdamFamily(FusedOptimizer):
    """The moments and the powers of their decays, which all forms of Adam keep."""

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
        self._beta1 = beta1
        self._beta2 = beta2
        self._hyper = {"lr": learning_rate, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        first = min(var_list, key=lambda v: str(v.name))
        for name, beta in (("beta1_power", self._beta1), ("beta2_power", self._beta2)):
            self._create_non_slot_variable(self._call_if_callable(beta), name, first)
        for var in var_list:
            self._zeros_slot(var, "m", self._name)
            self._zeros_slot(var, "v", self._name)

    def _get_beta_accumulators(self) -> tuple[Variable, Variable]:
        """The powers of `beta1` and `beta2` in the default graph, for the next step."""
        graph = get_default_graph()
        return (
            self._get_non_slot_variable("beta1_power", graph),
            self._get_non_slot_variable("beta2_power", graph),
        )

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        # The dense op is TensorFlow's, in which hyperparameters are of the variable's type.
        dtype = precise_type(var) if isinstance(grad, IndexedSlices) else var.dtype.base_dtype
        return self._adam("Adam", grad, var, dtype)

    def _adam(
        self, rule: str, grad: Gradient, var: Variable, dtype: DType, **inputs: Any
    ) -> Operation:
        powers = {
            name: self._get_non_slot_variable(name, var.graph)
            for name in ("beta1_power", "beta2_power")
        }
        slots = {name: name for name in ("m", "v")}
        return self._fused(rule, grad, var, slots, {**powers, **self._hyper}, dtype, **inputs)

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        """The powers move on once every variable was updated by the old ones."""
        moves = []
        betas = {"beta1": self._beta1, "beta2": self._beta2}
        with scopes.control_dependencies(update_ops):
            for power, name in zip(self._get_beta_accumulators(), betas, strict=True):
                with scopes.colocate_with(power.op):
                    factor = self._hyperparameter(name, betas[name], power.dtype.base_dtype)
                    moves.append(state.assign(power, power * factor, use_locking=True).op)
        return control.group(*update_ops, *moves, name=name_scope)


class AdamOptimizer(_AdamFamily):
    """Adam, with the bias correction folded into the step size.

    For the step `t`, which counts from 1:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        var -= learning_rate * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + epsilon)

    Slots: `m` (a variable `<var>/Adam`) and `v` (`<var>/Adam_1`). The powers of the betas are
    variables too, `beta1_power` and `beta2_power`, beside the first variable by name.

    A sparse gradient counts as 0 where it names no row, so every row decays and moves in every
    step, as in TensorFlow. That reads and writes the whole table; `LazyAdamOptimizer` does not.

    Also as in TensorFlow, hyperparameters are rounded to the type of the variable: in bfloat16 a
    `beta2` of 0.999 is 1, and in float16 an `epsilon` of 1e-8 is 0. Choose others for variables of
    these types, or `AdamWOptimizer`, which rounds to float32 at most.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; `epsilon` is
    the "epsilon hat" of its section 2.1.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        beta1: decay of the mean of gradients; as `learning_rate`.
        beta2: decay of the mean of squared gradients; as `learning_rate`.
        epsilon: keeps the quotient finite; as `learning_rate`.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.
    """

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Variable) -> Any:
        rows = shape_of(var.ref())[0]
        return self._apply(math_segment.unsorted_segment_sum(grad.values, grad.indices, rows), var)


class LazyAdamOptimizer(_AdamFamily):
    """Adam that changes only the rows that a sparse gradient names.

    A dense gradient is applied as by `AdamOptimizer`. The moments of a row that is not named do not
    decay and the row does not move, so an update costs by the rows it names and not by those that
    the table has. What is learned differs a little: a row's moments are as old as its last
    gradient.

    The name and the formula are those of `tf.contrib.opt.LazyAdamOptimizer`; here the sparse update
    is one op, which TensorFlow does not have, so a graph with it runs only here.

    Slots and arguments are those of `AdamOptimizer`.
    """


class AdamWOptimizer(_AdamFamily):
    """Adam with weight decay that is not part of the gradient.

    For the step `t`, which counts from 1:

        var -= learning_rate * weight_decay * var
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        var -= learning_rate * (m / (1 - beta1**t)) / (sqrt(v / (1 - beta2**t)) + epsilon)

    This is the form of the paper, and of PyTorch and optax; `epsilon` is added after the bias
    correction and not, as in `AdamOptimizer`, before. A sparse gradient changes, and decays, the
    rows that it names only. TensorFlow has no such optimizer and no such op, so a graph with it
    runs only here.

    Slots: `m` (a variable `<var>/AdamW`) and `v` (`<var>/AdamW_1`); `beta1_power` and
    `beta2_power` as of `AdamOptimizer`.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.

    Args:
        learning_rate: a number, a scalar tensor, a variable, or a function that answers one.
        weight_decay: as `learning_rate`.
        beta1: decay of the mean of gradients; as `learning_rate`.
        beta2: decay of the mean of squared gradients; as `learning_rate`.
        epsilon: keeps the quotient finite; as `learning_rate`.
        decays: whether a variable's weights decay; biases and scales usually should not. All do by
            default.
        use_locking: has no effect, since each update is atomic.
        name: prefix of the names of the ops and slots.
    """

    def __init__(
        self,
        learning_rate: TensorLike = 0.001,
        weight_decay: TensorLike = 0.01,
        beta1: TensorLike = 0.9,
        beta2: TensorLike = 0.999,
        epsilon: TensorLike = 1e-8,
        decays: Callable[[Variable], bool] | None = None,
        use_locking: bool = False,
        name: str = "AdamW",
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, use_locking, name)
        self._weight_decay = weight_decay
        self._decays = decays

    def _apply(self, grad: Gradient, var: Variable) -> Any:
        dtype = precise_type(var)
        if self._decays is None or self._decays(var):
            decay = self._hyperparameter("weight_decay", self._weight_decay, dtype)
        else:
            decay = self._hyperparameter("no_weight_decay", 0.0, dtype)
        return self._adam("AdamW", grad, var, dtype, weight_decay=decay)
