"""The variables of a graph that `get_variable` has made, by name.

Sharing is by name and on purpose: a caller says whether he expects a variable to be there. What
makes or finds one is a `Request`, the call of `get_variable` after the scopes have had their say.

Thread rule: `_lock` is held while a variable is looked up and made, so that two threads that ask
for one name get one variable, or one of them the error.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from paramserve._framework.collections import GraphKeys
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph, get_default_graph
from paramserve._ops import indexing
from paramserve._variables.initializers import (
    PartitionInfo,
    call_initializer,
    parameters_of,
    zeros_initializer,
)
from paramserve._variables.partitioned import PartitionedVariable, slices_of
from paramserve._variables.partitioners import Partitioner
from paramserve._variables.replicas import VariableAggregation, VariableSynchronization
from paramserve._variables.save_slice import SaveSliceInfo
from paramserve._variables.variable import Constraint, Variable
from paramserve._variables.variance_scaling import glorot_uniform_initializer
from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape


class ReuseMode(enum.Enum):
    """What a scope expects of a variable, beside True (it exists) and False (it does not)."""

    AUTO_REUSE = 1


AUTO_REUSE: Final = ReuseMode.AUTO_REUSE
"""Get the variable if it exists, make it if not."""

Reuse: TypeAlias = "bool | ReuseMode"
Regularizer: TypeAlias = Callable[[Any], Any]

_KEY: Final = ("shared variables",)
_creation_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for.

    Attributes:
        dtype: None takes what is there, and for a new variable the type of the initial value or
            `default_dtype`.
        initializer: a function of a shape, a value, or None.
        reuse: whether the variable must exist, must not, or may.
        use_resource: whether each use reads it anew.
        constraint: what optimizers apply after each update.
    """

    name: str
    shape: TensorShape
    dtype: DType | None
    default_dtype: DType
    initializer: Any
    regularizer: Regularizer | None
    trainable: bool
    collections: Iterable[Any] | None
    caching_device: Any
    partitioner: Partitioner | None
    validate_shape: bool
    reuse: Reuse
    use_resource: bool | None = None
    constraint: Constraint | None = None
    synchronization: VariableSynchronization = VariableSynchronization.AUTO
    aggregation: VariableAggregation = VariableAggregation.NONE


class SharedVariables:
    """The shared variables of one graph."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._variables: dict[str, Variable] = {}
        self._partitioned: dict[str, PartitionedVariable] = {}

    @staticmethod
    def of(graph: Graph) -> SharedVariables:
        """Those of a graph."""
        # Kept in the graph, which they refer to and should die with; no export sees this key.
        kept = graph.get_collection_ref(_KEY)
        with _creation_lock:
            if not kept:
                kept.append(SharedVariables())
        found: SharedVariables = kept[0]
        return found

    def get(self, request: Request) -> Variable | PartitionedVariable:
        """Finds or makes a variable.

        Raises:
            TypeError: no valid initializer.
            ValueError: it exists and should not, or the other way round, or with another shape,
                type or partitioning; no shape for a new one; a partitioner that makes no sense.
        """
        with self._lock:
            if request.partitioner is not None and request.shape.ndims != 0:
                return self._get_partitioned(request, request.partitioner)
            if request.name in self._partitioned:
                whole = self._partitioned[request.name]
                _check_found(request, whole, "Partitioned variable with name", next(iter(whole)))
                return whole
            found = self._variables.get(request.name)
            if found is not None:
                _check_found(request, found, "Variable", found)
                return found
            _check_may_be_made(request)
            variable = self._variables[request.name] = _make(request, None)
            return variable

    def _get_partitioned(self, request: Request, partitioner: Partitioner) -> PartitionedVariable:
        name = request.name
        whole = self._partitioned.get(name)
        if whole is not None:
            _check_found(request, whole, "Partitioned variable with name", next(iter(whole)))
            wanted = list(partitioner(shape=whole.shape, dtype=whole.dtype))
            if wanted != whole._get_partitions():
                raise ValueError(
                    f"Trying to reuse partitioned variable {name}, but specified partitions "
                    f"{wanted} and found partitions {whole._get_partitions()}."
                )
            return whole
        if name in self._variables:
            raise ValueError(
                f"A partitioner was provided, but an unpartitioned version of the variable was "
                f"found: {name}. Perhaps a variable of the same name was already created without "
                f"partitioning?{_made_at(self._variables[name])}"
            )
        _check_may_be_made(request)
        whole = self._partitioned[name] = _make_in_parts(request, partitioner)
        return whole


def _check_found(
    request: Request, found: Variable | PartitionedVariable, what: str, made: Variable
) -> None:
    if not request.reuse:
        raise ValueError(
            f"{what} {request.name} already exists, disallowed. Did you mean to set reuse=True or "
            f"reuse=AUTO_REUSE in VarScope?{_made_at(made)}"
        )
    if not request.shape.is_compatible_with(found.shape):
        raise ValueError(
            f"Trying to share variable {request.name}, but specified shape {request.shape} and "
            f"found shape {found.shape}.{_made_at(made)}"
        )
    if request.dtype is not None and not request.dtype.is_compatible_with(found.dtype):
        raise ValueError(
            f"Trying to share variable {request.name}, but specified dtype {request.dtype.name} "
            f"and found dtype {found.dtype.base_dtype.name}.{_made_at(made)}"
        )


def _check_may_be_made(request: Request) -> None:
    if request.reuse is True:
        raise ValueError(
            f"Variable {request.name} does not exist, or was not created with get_variable(). Did "
            "you mean to set reuse=None or reuse=AUTO_REUSE in VarScope?"
        )


def _made_at(variable: Variable) -> str:
    where = variable.op.created_at
    return "" if where is None else f" Originally defined at {where}"


def _make_in_parts(request: Request, partitioner: Partitioner) -> PartitionedVariable:
    name, shape = request.name, request.shape
    dtype = request.dtype or request.default_dtype
    if _is_value(request.initializer):
        _check_type(request)
        with get_default_graph().control_dependencies(None):
            value = convert_to_tensor(request.initializer, request.dtype)
        shape, dtype = shape.merge_with(value.shape), value.dtype.base_dtype
        request = replace(request, dtype=dtype, initializer=value)
    if not shape.is_fully_defined():
        raise ValueError(
            f"Shape of a new partitioned variable ({name}) must be fully defined, but instead was "
            f"{shape}."
        )
    partitions = partitioner(shape=shape, dtype=dtype)
    if not isinstance(partitions, (list, tuple)):
        raise ValueError(f"{name}: Partitioner must return a sequence, but saw: {partitions!r}")
    parts = []
    for i, place in enumerate(slices_of(name, shape, partitions)):
        part = replace(request, name=f"{name}/part_{i}", shape=TensorShape(place.var_shape))
        variable = _make(part, place)
        variable._set_save_slice_info(place)
        parts.append(variable)
    return PartitionedVariable(name, shape, dtype, parts, partitions)


def _make(request: Request, place: SaveSliceInfo | None) -> Variable:
    if place is None and _is_value(request.initializer):
        _check_type(request)
        if request.shape.ndims is not None:
            raise ValueError(f"{request.name}: If initializer is a constant, do not specify shape.")
        initial_value, dtype = request.initializer, request.dtype
    else:
        dtype = (request.dtype or request.default_dtype).base_dtype
        initial_value = _initial_value(request, dtype, place)
    # Scopes of names are for ops; a shared variable has its name whatever ops surround it.
    with get_default_graph().name_scope(None):
        variable = Variable(
            initial_value,
            trainable=request.trainable,
            collections=request.collections,
            validate_shape=request.validate_shape,
            caching_device=request.caching_device,
            name=request.name,
            dtype=dtype,
            expected_shape=request.shape,
            constraint=request.constraint,
            use_resource=request.use_resource,
            synchronization=request.synchronization,
            aggregation=request.aggregation,
        )
    _regularize(request, variable)
    return variable


def _initial_value(
    request: Request, dtype: DType, place: SaveSliceInfo | None
) -> Callable[[], Any]:
    """A function that makes the initial value, to be called where the variable is."""
    name, shape, initializer = request.name, request.shape, request.initializer
    if place is not None and _is_value(initializer):
        return lambda: indexing.slice(initializer, list(place.var_offset), list(place.var_shape))
    if initializer is None:
        initializer = glorot_uniform_initializer() if dtype.is_floating else zeros_initializer()
    if isinstance(initializer, type):
        initializer = initializer()
    if not shape.is_fully_defined():
        if parameters_of(initializer) == frozenset():
            made: Callable[[], Any] = initializer
            return made
        raise ValueError(
            f"Shape of a new variable ({name}) must be fully defined, but instead was {shape}; "
            "give the shape, or an initial value instead of an initializer"
        )
    part = None if place is None else PartitionInfo(place.full_shape, place.var_offset)
    return lambda: call_initializer(initializer, shape.as_list(), dtype, part)


def _is_value(initializer: Any) -> bool:
    return initializer is not None and not callable(initializer)


def _check_type(request: Request) -> None:
    """Refuses an initial value of another type than was asked for."""
    found = getattr(request.initializer, "dtype", None)
    wanted = request.dtype
    if wanted is not None and found is not None and not wanted.is_compatible_with(found):
        raise ValueError(
            f"{request.name}: Initializer type '{found}' and explicit dtype '{wanted.name}' don't "
            "match."
        )


def _regularize(request: Request, variable: Variable) -> None:
    if request.regularizer is None:
        return
    graph = variable.graph
    with (
        graph.colocate_with(variable.op),
        graph.name_scope(None),
        graph.name_scope(f"{request.name}/Regularizer/"),
    ):
        loss = request.regularizer(variable)
    if loss is not None:
        graph.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)
