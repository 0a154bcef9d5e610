"""The ops that make up a variable in the graph, made anew or found again by their names.

A variable `w` is four things: the op `w` that holds it and gives a reference to it, the tensor of
its initial value, the op `w/Assign` that stores that, and the identity `w/read` through which
everybody reads it. The names are TensorFlow's, so that a graph means the same in both.

The initial value is there for the initializer alone: `w/Assign` and `w/read` go where the variable
is, and so do the ops that a *callable* makes the initial value with. It is called when the
variable op is there already, if its shape is known by then, because the place of an op cannot be
changed later.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph, get_default_graph, graph_of
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.initial_values import from_initialized_values
from paramserve._variables.save_slice import name_below
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.shapes import TensorShape, as_shape
from paramserve_protos.v1.variable_pb2 import VariableDef

_UNKNOWN: Final = TensorShape(None)


@dataclass(frozen=True, slots=True)
class VariableOps:
    """A variable as the graph has it.

    Attributes:
        ref: the reference that the variable op gives.
        initializer: the op that stores the initial value.
        snapshot: the value as everybody reads it.
        initial_value: what the initializer stores.
    """

    ref: Tensor
    initializer: Operation
    snapshot: Tensor
    initial_value: Tensor


def add_variable_ops(
    initial_value: Any,
    *,
    dtype: DTypeLike | None,
    shape: ShapeLike | None,
    validate_shape: bool,
    caching_device: Any,
    name: str | None,
) -> VariableOps:
    """Adds a variable to the graph, outside of all control dependencies and conditionals.

    Args:
        initial_value: a tensor or what becomes one, or a callable that answers it.
        dtype: the type; that of the initial value by default.
        shape: what the shape of the initial value will be, where that is known beforehand.
        validate_shape: refuse an initial value whose shape is not known, and later on values of
            another shape.
        caching_device: where the value is kept for its readers; where the variable is by default.
        name: the name; "Variable" by default.

    Raises:
        TypeError: the initial value cannot become a tensor of that type.
        ValueError: its shape is not known, a callable without a type, or no valid name.
    """
    is_made = callable(initial_value)
    graph = graph_of([] if is_made else [initial_value])
    with (
        graph.as_default(),
        graph.control_dependencies(None),
        graph.name_scope(name or "Variable") as scope,
    ):
        if is_made:
            ref, value = _from_callable(graph, initial_value, dtype, shape, validate_shape, scope)
        else:
            value = _independent(convert_to_tensor(initial_value, dtype, "initial_value"), scope)
            ref = _add_ref(_shape_of(value, validate_shape), value.dtype.base_dtype, scope)
        with graph.colocate_with(ref.op):
            assigned: Tensor = apply_op(
                "Assign", "Assign", ref=ref, value=value, validate_shape=validate_shape
            )
        at_variable = caching_device is None
        with graph.colocate_with(ref.op) if at_variable else graph.device(caching_device):
            snapshot: Tensor = apply_op("Identity", "read", input=ref)
    return VariableOps(ref, assigned.op, snapshot, value)


def _independent(value: Tensor, scope: str) -> Tensor:
    """The initial value, without need for another variable to have one."""
    if value.op.control_flow is not None:
        raise ValueError(
            f"{scope[:-1]}: the initial value {value.name!r} is computed inside a conditional or a "
            "loop, and a variable is initialised outside of it; pass a callable that makes the "
            "initial value"
        )
    return from_initialized_values(value)


def _from_callable(
    graph: Graph,
    make: Callable[[], Any],
    dtype: DTypeLike | None,
    shape: ShapeLike | None,
    validate_shape: bool,
    scope: str,
) -> tuple[Tensor, Tensor]:
    if dtype is None:
        raise ValueError(
            f"{scope[:-1]}: a callable initial_value does not say of which type the variable is; "
            "give the type in dtype"
        )
    wanted = as_dtype(dtype).base_dtype
    declared = _UNKNOWN if not validate_shape else as_shape(shape)
    if validate_shape and not declared.is_fully_defined():
        value = _made(graph, make, wanted, scope)
        return _add_ref(_shape_of(value, validate_shape), wanted, scope), value
    ref = _add_ref(declared, wanted, scope)
    with graph.colocate_with(ref.op):
        return ref, _made(graph, make, wanted, scope)


def _made(graph: Graph, make: Callable[[], Any], dtype: DType, scope: str) -> Tensor:
    with graph.name_scope("Initializer"):
        value = convert_to_tensor(make(), dtype, "initial_value")
    return _independent(value, scope)


def _shape_of(value: Tensor, validate_shape: bool) -> TensorShape:
    if not validate_shape:
        return _UNKNOWN
    if not value.shape.is_fully_defined():
        raise ValueError(
            f"initial_value must have a shape specified: {value!r}; set its shape, or pass "
            "validate_shape=False for a variable whose shape may change"
        )
    return value.shape


def _add_ref(shape: TensorShape, dtype: DType, scope: str) -> Tensor:
    ref: Tensor = apply_op("VariableV2", scope, shape=shape, dtype=dtype)
    return ref


def describe_variable_ops(ops: VariableOps, export_scope: str | None) -> VariableDef | None:
    """The names of a variable's ops, as a message.

    Args:
        ops: the ops.
        export_scope: leave this scope out of the names; None answers for a variable outside.
    """
    names = [ops.ref.name, ops.initializer.name, ops.snapshot.name, ops.initial_value.name]
    if export_scope is not None:
        below = [name_below(name, export_scope) for name in names]
        if below[0] is None:
            return None
        names = [name or "" for name in below]
    return VariableDef(
        variable_name=names[0],
        initializer_name=names[1],
        snapshot_name=names[2],
        initial_value_name=names[3],
    )


def find_variable_ops(message: VariableDef, import_scope: str | None = None) -> VariableOps:
    """The ops of a variable that is in the default graph already.

    Args:
        message: their names.
        import_scope: the scope that the graph was imported into.

    Raises:
        KeyError: an op is not in the graph.
        ValueError: the message is of a resource variable, or names what is no variable.
    """
    if message.is_resource:
        raise ValueError(
            f"{message.variable_name}: TensorFlow's resource variables are not known here; export "
            "the graph with tf.compat.v1.disable_resource_variables()"
        )
    graph = get_default_graph()

    def find(name: str) -> Any:
        return graph.as_graph_element(f"{import_scope}/{name}" if import_scope else name)

    ref, initializer = find(message.variable_name), find(message.initializer_name)
    snapshot = find(message.snapshot_name)
    if not isinstance(ref, Tensor) or not ref.dtype.is_ref:
        raise ValueError(f"{message.variable_name!r} is no variable in this graph but {ref!r}")
    if not isinstance(initializer, Operation) or len(initializer.inputs) != 2:
        raise ValueError(
            f"{ref.name}: the initializer {message.initializer_name!r} is no assignment but "
            f"{initializer!r}"
        )
    # Graphs of the oldest programs do not name the initial value.
    initial_value = initializer.inputs[1]
    if message.initial_value_name:
        initial_value = find(message.initial_value_name)
    for tensor in (snapshot, initial_value):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{ref.name}: its value and initial value are tensors, not {tensor!r}")
    return VariableOps(ref, initializer, snapshot, initial_value)
