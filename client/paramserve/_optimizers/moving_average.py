"""Moving averages of variables, to evaluate with instead of the variables themselves.

Thread rule: adds to the graph of the calling thread; see `Graph`. An `ExponentialMovingAverage` is
used by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from paramserve._framework import scopes
from paramserve._framework.collections import GraphKeys
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops import control, state
from paramserve._ops.array import cast, zeros
from paramserve._ops.math import minimum
from paramserve._ops.training import apply_gradient
from paramserve._variables.collected import (
    global_variables,
    moving_average_variables,
    trainable_variables,
)
from paramserve._variables.slots import create_slot, create_zeros_slot
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import get_variable_scope
from paramserve_core.dtypes import bfloat16, float16, float32, float64

_AVERAGED: Final = frozenset({float16, bfloat16, float32, float64})


class ExponentialMovingAverage:
    """Keeps, for each of some variables or tensors, an average in which old values fade.

        average = decay * average + (1 - decay) * value

    The averages of variables often predict better than the variables. `apply` answers the op that
    updates them, to be run after each step of the optimizer; an evaluation restores the averages
    into the variables:

        ema = ps.train.ExponentialMovingAverage(decay=0.999)
        with ps.control_dependencies([train]):
            train_and_average = ema.apply([w, b])

        saver = ps.train.Saver(ema.variables_to_restore())  # where it is evaluated

    The average of a variable is a variable `<variable>/ExponentialMovingAverage` beside it, which
    begins as the variable does; that of a tensor begins as zeros. `apply` reads a variable when
    the control dependencies around it are done, so in the example after the step.

    Args:
        decay: a number near 1, or a scalar tensor.
        num_updates: how often the averages were updated before; the decay is then at most
            `(1 + num_updates) / (10 + num_updates)`, so that averages move faster at first.
        zero_debias: divide averages of tensors by what they would be of ones, which makes up for
            their beginning as zeros.
        name: the suffix of the names of the averages.
    """

    def __init__(
        self,
        decay: TensorLike,
        num_updates: TensorLike | None = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        self._decay = decay
        self._num_updates = num_updates
        self._zero_debias = zero_debias
        self._name = name
        self._averages: dict[Variable | Tensor, Variable] = {}

    @property
    def name(self) -> str:
        """The suffix of the names of the averages."""
        return self._name

    def apply(self, var_list: Iterable[Variable | Tensor] | None = None) -> Operation:
        """An op that updates the averages; makes those that are not there yet.

        Args:
            var_list: variables and tensors; all trainable variables by default.

        Raises:
            TypeError: one of them is not of a floating-point type.
            ValueError: one of them has an average by this object already, or is a tensor whose
                shape is not known.
        """
        targets = list(trainable_variables() if var_list is None else var_list)
        for target in targets:
            if target.dtype.base_dtype not in _AVERAGED:
                raise TypeError(f"The variables must be half, float, or double: {target.name}")
            if target in self._averages:
                raise ValueError(f"Moving average already computed for: {target.name}")
            with scopes.control_dependencies(None):
                self._averages[target] = self._made_average(target)
        with scopes.name_scope(self._name) as scope:
            decay = convert_to_tensor(self._decay, float32, name="decay")
            if self._num_updates is not None:
                count = cast(_read(self._num_updates), float32, name="num_updates")
                decay = minimum(decay, (count + 1.0) / (count + 10.0))
            updates = []
            for target in targets:
                average = self._averages[target]
                debiases = self._zero_debias and not isinstance(target, Variable)
                updates.append(assign_moving_average(average, target, decay, debiases))
            return control.group(*updates, name=scope)

    def average(self, var: Variable | Tensor) -> Variable | None:
        """The variable that holds the average of `var`; None if it has none."""
        return self._averages.get(var)

    def average_name(self, var: Variable | Tensor) -> str:
        """The name that the average of `var` has, or would have; a saver finds it by that."""
        average = self._averages.get(var)
        if average is not None:
            return average.op.name
        return var.op.graph.unique_name(f"{var.op.name}/{self._name}", mark_as_used=False)

    def variables_to_restore(
        self, moving_avg_variables: Iterable[Variable] | None = None
    ) -> dict[str, Variable]:
        """What a saver takes to restore averages into the variables that they are averages of.

        Args:
            moving_avg_variables: the variables that get averages; by default all that are
                trainable, or have an average.

        Returns:
            A dictionary from names in the checkpoint to variables: every variable of the graph by
            its own name, but those by the name of the average.
        """
        if moving_avg_variables is None:
            moving_avg_variables = [*trainable_variables(), *moving_average_variables()]
        averaged = dict.fromkeys(moving_avg_variables)
        found = {self.average_name(variable): variable for variable in averaged}
        for variable in global_variables():
            if variable not in averaged:
                found.setdefault(variable.op.name, variable)
        return found

    def _made_average(self, target: Variable | Tensor) -> Variable:
        if isinstance(target, Variable):
            average = create_slot(target, target.initialized_value(), self._name)
            target.graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, target)
            return average
        if not target.shape.is_fully_defined():
            raise ValueError(
                f"{target.name}: the moving average of a tensor is a variable of its shape, and "
                f"{target.shape} is not fully known; set its shape"
            )
        scope = get_variable_scope().name
        name = f"{scope}/{target.op.name}" if scope else target.op.name
        with target.graph.as_default(), target.graph.name_scope(None):
            initial = zeros(target.shape, target.dtype.base_dtype)
            return Variable(initial, trainable=False, name=f"{name}/{self._name}")


def assign_moving_average(
    variable: Variable,
    value: Variable | Tensor,
    decay: TensorLike,
    zero_debias: bool = True,
    name: str | None = None,
) -> Tensor:
    """Moves a variable towards a value: `variable = decay * variable + (1 - decay) * value`.

    Args:
        variable: the average, of a floating-point type.
        value: of its type and shape; a variable is read when the control dependencies are done.
        decay: a scalar.
        zero_debias: let `variable` be that average divided by `1 - decay ** updates`, and the
            average itself be a variable `<variable>/biased`, which begins as zeros. The count of
            updates is `<variable>/local_step`.
        name: the scope of the ops.

    Returns:
        The value of `variable` after the update.
    """
    with (
        scopes.name_scope(name, "AssignMovingAvg", [variable, value, decay]) as scope,
        scopes.colocate_with(variable.op),
    ):
        dtype = variable.dtype.base_dtype
        rest = cast(1.0 - convert_to_tensor(decay, name="decay"), dtype)
        new = _read(value)
        if not zero_debias:
            return _move(variable, new, rest, scope)
        with scopes.control_dependencies(None):
            biased = create_zeros_slot(variable, "biased")
            updates = create_slot(variable, zeros([], dtype), "local_step")
        moved = _move(biased, new, rest, None)
        count = updates.assign_add(1)
        return state.assign(variable, moved / (1 - (1 - rest) ** count), name=scope)


def _read(value: Any) -> Any:
    """The value of a variable when the control dependencies are done; what is no variable."""
    return value.read_value() if isinstance(value, Variable) else value


def _move(average: Variable, value: Tensor, rest: Tensor, name: str | None) -> Tensor:
    """Average ← average − rest (average − value), which is a step of gradient descent.

    The op for that makes no temporary of its own.
    """
    refs = {"var": average.ref()}
    difference = average - value
    return apply_gradient("GradientDescent", refs, difference, {"alpha": rest}, name=name)
