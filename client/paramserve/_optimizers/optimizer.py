"""What all optimizers have in common: gradients, slots, and the step that applies them.

A subclass says which slots a variable has and which op updates it. The op runs on the task of the
variable; slots live beside it; hyperparameters are constants that travel once, with the plan.

Thread rule: adds to the graph of the variables; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

from paramserve._framework import scopes
from paramserve._framework.convert import convert_to_tensor, convert_to_tensor_or_indexed_slices
from paramserve._framework.graph import get_default_graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._gradients.walk import gradients
from paramserve._ops import control, indexing, math_segment
from paramserve._ops.array import shape as shape_of
from paramserve._variables.collected import trainable_variables
from paramserve._variables.slots import create_slot, create_zeros_slot
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import bfloat16, float16, float32, float64

Gradient = Tensor | IndexedSlices
GradientsAndVariables = list[tuple[Gradient | None, Variable]]

_VALID: Final = frozenset({float16, bfloat16, float32, float64})


class Optimizer:
    """The base of all optimizers.

    `minimize` does both halves of a step. To change gradients between the halves, call
    `compute_gradients` and `apply_gradients`; a gradient may also come from outside the graph:
    `apply_gradients([(placeholder, variable)])`.

    Args:
        use_locking: has no effect, since each update is atomic; kept for programs that pass it.
        name: prefix of the names of the ops.
    """

    GATE_NONE: ClassVar[int] = 0
    GATE_OP: ClassVar[int] = 1
    GATE_GRAPH: ClassVar[int] = 2

    def __init__(self, use_locking: bool, name: str) -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking = use_locking
        self._name = name
        self._slots: dict[str, dict[Variable, Variable]] = {}

    def get_name(self) -> str:
        """The name that the optimizer was made with."""
        return self._name

    def minimize(
        self,
        loss: Tensor,
        global_step: Variable | None = None,
        var_list: Sequence[Variable] | None = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: TensorLike | None = None,
    ) -> Operation:
        """An op that takes one step downhill.

        Args:
            loss: what to make small; usually a scalar.
            global_step: a variable to add one to after the variables were updated.
            var_list: the variables to update; all trainable ones by default.
            gate_gradients: accepted; gradients of one step are always of one moment.
            aggregation_method: see `AggregationMethod`.
            colocate_gradients_with_ops: compute each gradient on the device of its op.
            name: the name of the op.
            grad_loss: the gradient of the loss itself; ones by default.

        Raises:
            ValueError: no variable has a gradient; the message lists them.
        """
        pairs = self.compute_gradients(
            loss,
            var_list=var_list,
            gate_gradients=gate_gradients,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
            grad_loss=grad_loss,
        )
        if all(gradient is None for gradient, _ in pairs):
            raise ValueError(
                "No gradients provided for any variable, check your graph for ops that do not "
                f"support gradients, between variables {[str(v.name) for _, v in pairs]} and loss "
                f"{loss}."
            )
        return self.apply_gradients(pairs, global_step=global_step, name=name)

    def compute_gradients(
        self,
        loss: Tensor,
        var_list: Sequence[Variable] | None = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: TensorLike | None = None,
    ) -> GradientsAndVariables:
        """The gradients of `loss`, the first half of `minimize`; see there.

        Returns:
            (gradient, variable) pairs, in the order of the variables; None where `loss` does not
            depend on the variable.

        Raises:
            TypeError: `var_list` holds something that is no variable.
            ValueError: there are no variables, or `gate_gradients` is unknown.
        """
        if gate_gradients not in (Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH):
            raise ValueError(
                "gate_gradients must be one of: Optimizer.GATE_NONE, Optimizer.GATE_OP, "
                f"Optimizer.GATE_GRAPH. Not {gate_gradients}"
            )
        _check_dtype(convert_to_tensor(loss), "loss")
        variables = trainable_variables() if var_list is None else list(_flat(var_list))
        for variable in variables:
            if not isinstance(variable, Variable):
                raise TypeError(f"Argument is not a variable: {variable!r}")
        if not variables:
            raise ValueError("No variables to optimize.")
        found = gradients(
            loss,
            variables,
            grad_ys=grad_loss,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
            gate_gradients=gate_gradients == Optimizer.GATE_OP,
            aggregation_method=aggregation_method,
        )
        return list(zip(found, variables, strict=True))

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[TensorLike | None, Variable]],
        global_step: Variable | None = None,
        name: str | None = None,
    ) -> Operation:
        """An op that updates variables by their gradients, the second half of `minimize`.

        Args:
            grads_and_vars: (gradient, variable) pairs; a pair with None is passed over.
            global_step: a variable to add one to after all updates.
            name: the name of the op.

        Raises:
            TypeError: a gradient is no tensor or IndexedSlices, or a variable none.
            ValueError: there is no gradient at all; the message lists the variables.
        """
        pairs = list(grads_and_vars)
        if not pairs:
            raise ValueError("No variables provided.")
        converted: list[tuple[Gradient, Variable]] = []
        for gradient, variable in pairs:
            if not isinstance(variable, Variable):
                raise TypeError(f"Variable must be a Variable: {variable!r}")
            if gradient is None:
                continue
            try:
                tensor = convert_to_tensor_or_indexed_slices(gradient)
            except TypeError:
                raise TypeError(
                    f"Gradient must be convertible to a Tensor or IndexedSlices, or None: "
                    f"{gradient!r}"
                ) from None
            converted.append((tensor, variable))
        if not converted:
            raise ValueError(
                f"No gradients provided for any variable: {[v.name for _, v in pairs]}."
            )
        variables = [variable for _, variable in converted]
        with scopes.control_dependencies(None):
            self._create_slots(variables)
        with scopes.name_scope(name, self._name) as scope:
            self._prepare()
            updates = []
            for gradient, variable in converted:
                with (
                    scopes.name_scope(f"update_{variable.op.name}"),
                    scopes.colocate_with(variable.op),
                ):
                    updates.append(self._update(gradient, variable))
            finish_name = "update" if global_step is not None else scope[:-1].rpartition("/")[2]
            if global_step is None:
                train: Operation = self._finish(updates, scope)
            else:
                finished = self._finish(updates, finish_name)
                with (
                    scopes.control_dependencies([finished]),
                    scopes.colocate_with(global_step.op),
                ):
                    train = global_step.assign_add(1, name=scope).op
        graph = get_default_graph()
        if train not in graph.get_collection_ref("train_op"):
            graph.add_to_collection("train_op", train)
        return train

    def get_slot(self, var: Variable, name: str) -> Variable | None:
        """The slot of that name that the optimizer keeps for a variable; None if there is none."""
        return self._slots.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """The names of the slots that the optimizer keeps, sorted."""
        return sorted(self._slots)

    def variables(self) -> list[Variable]:
        """Every variable that the optimizer made, by name."""
        slots = [slot for by_variable in self._slots.values() for slot in by_variable.values()]
        return sorted([*slots, *self._own_variables()], key=lambda v: str(v.name))

    # What subclasses define.

    def _own_variables(self) -> list[Variable]:
        """Variables that belong to no other."""
        return []

    def _create_slots(self, variables: Sequence[Variable]) -> None:
        """Makes the slots of variables that have none yet."""

    def _prepare(self) -> None:
        """Makes what all updates of a step share."""

    def _apply_dense(self, gradient: Tensor, variable: Variable) -> Any:
        """The op that updates a variable by a gradient of its shape."""
        raise NotImplementedError

    def _apply_sparse(self, gradient: Tensor, indices: Tensor, variable: Variable) -> Any:
        """The op that updates some rows of a variable; no row is named twice."""
        raise NotImplementedError

    def _finish(self, updates: Sequence[Any], name: str) -> Operation:
        """An op that is done when all updates are."""
        return control.group(*updates, name=name)

    # What subclasses use.

    def _scalar(self, value: TensorLike, variable: Variable, name: str) -> Tensor:
        """A hyperparameter in the type of a variable."""
        wanted = variable.dtype.base_dtype
        tensor = convert_to_tensor(value) if isinstance(value, Tensor | Variable) else None
        if tensor is None:
            return convert_to_tensor(value, wanted, name=name)
        if tensor.dtype.base_dtype is wanted:
            return tensor
        from paramserve._ops.array import cast

        return cast(tensor, wanted)

    def _zeros_slot(self, variable: Variable, slot_name: str, op_name: str) -> Variable:
        """The slot of that name, made of zeros if there is none; a variable `<var>/<op_name>`."""
        slots = self._slots.setdefault(slot_name, {})
        if variable not in slots:
            slots[variable] = create_zeros_slot(variable, op_name)
        return slots[variable]

    def _filled_slot(
        self, variable: Variable, value: TensorLike, slot_name: str, op_name: str
    ) -> Variable:
        """The slot of that name, made with that value if there is none."""
        slots = self._slots.setdefault(slot_name, {})
        if variable not in slots:
            slots[variable] = create_slot(variable, value, op_name)
        return slots[variable]

    def _update(self, gradient: Gradient, variable: Variable) -> Any:
        if isinstance(gradient, Tensor):
            _check_dtype(gradient, f"the gradient of {variable.op.name}")
            return self._apply_dense(gradient, variable)
        values, indices = _distinct(gradient)
        return self._apply_sparse(values, indices, variable)


def _distinct(gradient: IndexedSlices) -> tuple[Tensor, Tensor]:
    """The rows of a gradient, those of one number added up, and the numbers, each once."""
    numbers, positions = indexing.unique(gradient.indices)
    count = shape_of(numbers)[0]
    return math_segment.unsorted_segment_sum(gradient.values, positions, count), numbers


def _flat(variables: Iterable[Any]) -> Iterable[Any]:
    """The variables, the parts of a partitioned one in its place."""
    for variable in variables:
        if hasattr(variable, "_get_variable_list"):
            yield from variable._get_variable_list()
        else:
            yield variable


def _check_dtype(tensor: Tensor, what: str) -> None:
    if tensor.dtype.base_dtype not in _VALID:
        names = ", ".join(sorted(t.name for t in _VALID))
        raise ValueError(
            f"Invalid type {tensor.dtype.base_dtype.name} for {what} ({tensor.name}), expected: "
            f"{names}."
        )
