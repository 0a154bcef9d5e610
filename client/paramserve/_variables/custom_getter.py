"""A program's own say in `get_variable`: a function that is called in its place.

A custom getter gets the true getter and the arguments of the call, with the full name of the
variable, and answers what the caller gets: usually a variable that the true getter made by changed
arguments, or a tensor that is computed from one. Getters of nested scopes are called from the
inside out: what is the true getter to the inner one is the outer one.

    def in_half_precision(getter, name, **kwargs):
        return ps.cast(getter(name, **kwargs), ps.float16)

Thread rule: a getter is called by the thread that asks for the variable, with no lock held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.initializers import parameters_of
from paramserve._variables.partitioners import Partitioner
from paramserve._variables.replicas import (
    VariableAggregation,
    VariableSynchronization,
    is_trainable,
)
from paramserve._variables.shared_variables import (
    AUTO_REUSE,
    Regularizer,
    Request,
    Reuse,
    SharedVariables,
)
from paramserve._variables.variable import Constraint
from paramserve_core.dtypes import as_dtype, float32
from paramserve_core.shapes import as_shape

CustomGetter: TypeAlias = Callable[..., Any]


def check_custom_getter(getter: Any) -> None:
    """Refuses what cannot be called.

    Raises:
        ValueError: `getter` is no function.
    """
    if not callable(getter):
        raise ValueError(f"Passed a custom_getter which is not callable: {getter!r}")


def composed(inner: CustomGetter | None, outer: CustomGetter | None) -> CustomGetter | None:
    """The getter of a scope within a scope.

    Args:
        inner: that of the inner scope; it is called first.
        outer: that of the outer scope; the inner one calls it as the true getter.
    """
    if inner is None or outer is None:
        return inner or outer

    def getter(true_getter: CustomGetter, *args: Any, **kwargs: Any) -> Any:
        return inner(partial(outer, true_getter), *args, **kwargs)

    return getter


def get_through(getter: CustomGetter, store: SharedVariables, request: Request) -> Any:
    """What a custom getter answers to a request.

    Args:
        getter: the custom getter; it is given those arguments that it takes.
        store: where the true getter looks and makes.
        request: the call of `get_variable`, after the scopes have had their say.

    Raises:
        ValueError: `getter` is no function.
    """
    check_custom_getter(getter)
    arguments = {
        "name": request.name,
        "shape": None if request.shape.ndims is None else request.shape,
        "dtype": _dtype_of(request),
        "initializer": request.initializer,
        "regularizer": request.regularizer,
        "reuse": request.reuse,
        "trainable": request.trainable,
        "collections": request.collections,
        "caching_device": request.caching_device,
        "partitioner": request.partitioner,
        "validate_shape": request.validate_shape,
        "use_resource": request.use_resource,
        "constraint": request.constraint,
        "synchronization": request.synchronization,
        "aggregation": request.aggregation,
    }
    takes = parameters_of(getter)
    if takes is not None:
        arguments = {key: value for key, value in arguments.items() if key in takes}
    return getter(partial(_true_getter, store), **arguments)


def _dtype_of(request: Request) -> Any:
    """The type that a getter sees; None where only the initial value says it."""
    if request.dtype is not None:
        return request.dtype
    if request.initializer is None or callable(request.initializer):
        return request.default_dtype
    return getattr(request.initializer, "dtype", None)


def _true_getter(
    store: SharedVariables,
    name: str,
    shape: ShapeLike | None = None,
    dtype: DTypeLike | None = float32,
    initializer: Any = None,
    regularizer: Regularizer | None = None,
    reuse: Reuse | None = None,
    trainable: bool | None = None,
    collections: Iterable[Any] | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    constraint: Constraint | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
) -> Any:
    """What a custom getter calls: makes a variable of that full name, or finds it."""
    return store.get(
        Request(
            name=name,
            shape=as_shape(shape),
            dtype=None if dtype is None else as_dtype(dtype),
            default_dtype=float32,
            initializer=initializer,
            regularizer=regularizer,
            trainable=is_trainable(trainable, synchronization),
            collections=collections,
            caching_device=caching_device,
            partitioner=partitioner,
            validate_shape=validate_shape,
            reuse=AUTO_REUSE if reuse is None else reuse,
            use_resource=use_resource,
            constraint=constraint,
            synchronization=synchronization,
            aggregation=aggregation,
        )
    )
