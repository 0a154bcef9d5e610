"""What all optimizers have in common: gradients, slots, and the step that applies them.

A subclass says which slots a variable has and which op updates it, by the methods that begin with
an underscore; their names and arguments are TensorFlow's, so that a program's own optimizer moves
here unchanged. Most subclasses are of `FusedOptimizer`, whose update is one op.

Thread rule: adds to the graph of the variables; see `Graph`. An optimizer is used by one thread at
a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final

from paramserve._framework import scopes
from paramserve._framework.collections import GraphKeys
from paramserve._framework.convert import convert_to_tensor, convert_to_tensor_or_indexed_slices
from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._gradients.walk import gradients
from paramserve._ops import control, indexing, math_segment
from paramserve._ops.array import cast
from paramserve._ops.array import shape as shape_of
from paramserve._variables.collected import trainable_variables
from paramserve._variables.slots import (
    create_slot,
    create_slot_with_initializer,
    create_zeros_slot,
)
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import (
    DType,
    bfloat16,
    complex64,
    complex128,
    float16,
    float32,
    float64,
)

Gradient = Tensor | IndexedSlices
GradientsAndVariables = list[tuple[Gradient | None, Variable]]

_VALID: Final = frozenset({float16, bfloat16, float32, float64, complex64, complex128})


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
        self._unowned: dict[tuple[str, Graph], Variable] = {}
        self._scope = ""
        self._hyperparameters: dict[tuple[str, DType], Tensor] = {}

    def get_name(self) -> str:
        """The name that the optimizer was made with."""
        return self._name

    def minimize(
        self,
        loss: Tensor | Callable[[], Tensor],
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
            loss: what to make small, usually a scalar; or a function that answers it.
            global_step: a variable to add one to after the variables were updated.
            var_list: the variables to update; all trainable ones by default.
            gate_gradients: with `GATE_GRAPH`, no gradient is used before all are there; with
                `GATE_OP`, none of an op's before all of that op are. Updates need neither: what a
                step has read of a variable stays as it was read.
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
        loss: Tensor | Callable[[], Tensor],
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
        loss = self._call_if_callable(loss)
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
        if gate_gradients == Optimizer.GATE_GRAPH and any(g is not None for g in found):
            found = control.tuple(found)
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
        with scopes.control_dependencies(None):
            self._create_slots([variable for _, variable in converted])
        with scopes.name_scope(name, self._name) as scope:
            self._scope = scope
            self._hyperparameters = {}
            self._prepare()
            updates = []
            for gradient, variable in converted:
                with (
                    scopes.name_scope(f"update_{variable.op.name}"),
                    scopes.colocate_with(variable.op),
                ):
                    updates.append(self._update(gradient, variable))
            if global_step is None:
                train = self._finish(updates, scope)
            else:
                with (
                    scopes.control_dependencies([self._finish(updates, "update")]),
                    scopes.colocate_with(global_step.op),
                ):
                    train = global_step.assign_add(1, name=scope).op
        collected = train.graph.get_collection_ref(GraphKeys.TRAIN_OP)
        if train not in collected:
            collected.append(train)
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
        return sorted([*slots, *self._unowned.values()], key=lambda v: str(v.name))

    # What subclasses define.

    def _create_slots(self, var_list: Sequence[Variable]) -> None:
        """Makes the slots of variables that have none yet."""

    def _prepare(self) -> None:
        """Makes what all updates of a step share."""

    def _apply_dense(self, grad: Tensor, var: Variable) -> Any:
        """The op that updates a variable by a gradient of its shape."""
        raise NotImplementedError(f"{type(self).__name__} has no update for a dense gradient")

    def _apply_sparse(self, grad: IndexedSlices, var: Variable) -> Any:
        """The op that updates some rows of a variable; no row is named twice."""
        raise NotImplementedError(f"{type(self).__name__} has no update for a sparse gradient")

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Variable) -> Any:
        """The op that updates some rows of a variable; a row may be named twice.

        Adds up the rows of one number and calls `_apply_sparse`. An optimizer for which two
        updates by two rows are one update by their sum does without.
        """
        return self._apply_sparse(_without_duplicates(grad), var)

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        """An op, of that name, that is done when all updates are."""
        return control.group(*update_ops, name=name_scope)

    # What subclasses use.

    def _hyperparameter(self, name: str, value: Any, dtype: DType) -> Tensor:
        """A hyperparameter in some type: a constant, if it is a number.

        All updates of a step that want that type share one. A constant goes with the plan to every
        task that wants it, so sharing costs a step nothing.

        Args:
            name: the name of the op.
            value: a number, a tensor, a variable, or a function that answers one of those.
            dtype: the type.
        """
        known = self._hyperparameters.get((name, dtype))
        if known is None:
            known = self._made_hyperparameter(name, value, dtype)
            self._hyperparameters[name, dtype] = known
        return known

    def _made_hyperparameter(self, name: str, value: Any, wanted: DType) -> Tensor:
        value = self._call_if_callable(value)
        with scopes.colocate_with(None, ignore_existing=True), scopes.name_scope(self._scope):
            if hasattr(value, "dtype"):
                tensor: Tensor = cast(convert_to_tensor(value, name=name), wanted)
                return tensor
            with scopes.control_dependencies(None):
                return convert_to_tensor(value, wanted, name=name)

    def _call_if_callable(self, param: Any) -> Any:
        """The value of a hyperparameter that may be given as a function."""
        return param() if callable(param) else param

    def _zeros_slot(self, var: Variable, slot_name: str, op_name: str) -> Variable:
        """The slot of that name, made of zeros if there is none; a variable `<var>/<op_name>`."""
        slots = self._slots.setdefault(slot_name, {})
        if var not in slots:
            slots[var] = create_zeros_slot(var, op_name)
        return slots[var]

    def _get_or_make_slot(
        self, var: Variable, val: TensorLike, slot_name: str, op_name: str
    ) -> Variable:
        """The slot of that name, made with that value if there is none."""
        slots = self._slots.setdefault(slot_name, {})
        if var not in slots:
            slots[var] = create_slot(var, val, op_name)
        return slots[var]

    def _get_or_make_slot_with_initializer(
        self,
        var: Variable,
        initializer: Any,
        shape: ShapeLike,
        dtype: DTypeLike,
        slot_name: str,
        op_name: str,
    ) -> Variable:
        """The slot of that name, made by an initializer where it is going to be."""
        slots = self._slots.setdefault(slot_name, {})
        if var not in slots:
            slots[var] = create_slot_with_initializer(var, initializer, shape, dtype, op_name)
        return slots[var]

    def _create_non_slot_variable(
        self, initial_value: TensorLike, name: str, colocate_with: Variable
    ) -> Variable:
        """A variable of that name that belongs to no other; made if the graph has none yet."""
        key = (name, colocate_with.graph)
        if key not in self._unowned:
            with scopes.colocate_with(colocate_with.op):
                self._unowned[key] = Variable(initial_value, name=name, trainable=False)
        return self._unowned[key]

    def _get_non_slot_variable(self, name: str, graph: Graph) -> Variable:
        """What `_create_non_slot_variable` has made."""
        return self._unowned[name, graph]

    def _update(self, gradient: Gradient, variable: Variable) -> Any:
        _check_dtype(gradient, f"the gradient of {variable.op.name}")
        if isinstance(gradient, Tensor):
            update = self._apply_dense(gradient, variable)
        else:
            update = self._apply_sparse_duplicate_indices(gradient, variable)
        if variable.constraint is None:
            return update
        with scopes.control_dependencies([update]):
            return variable.assign(variable.constraint(variable.read_value()))


def _without_duplicates(gradient: IndexedSlices) -> IndexedSlices:
    """Each number once, with the sum of the rows that had it."""
    numbers, positions = indexing.unique(gradient.indices)
    count = shape_of(numbers)[0]
    rows = math_segment.unsorted_segment_sum(gradient.values, positions, count)
    return IndexedSlices(rows, numbers, gradient.dense_shape)


def _flat(variables: Iterable[Any]) -> Iterable[Any]:
    """The variables, the parts of a partitioned one in its place."""
    for variable in variables:
        if hasattr(variable, "_get_variable_list"):
            yield from variable._get_variable_list()
        else:
            yield variable


def _check_dtype(gradient: Gradient, what: str) -> None:
    if gradient.dtype.base_dtype not in _VALID:
        names = ", ".join(sorted(t.name for t in _VALID))
        raise ValueError(
            f"Invalid type {gradient.dtype.base_dtype.name} for {what} ({gradient.name}), "
            f"expected: {names}."
        )
