"""`get_variable` and the scopes that say how variables are named, made and shared.

A variable scope is a prefix of names together with defaults for `get_variable`. It opens a scope
of op names of the same name, but the two are apart: a `name_scope` changes no variable's name, and
a scope that is entered again makes new op names and finds its old variables.

Thread rule: each thread has its own current scope in each graph and begins in the root scope;
variables are shared by all threads.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, TypeVar

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph, get_default_graph, graph_of
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.custom_getter import CustomGetter, check_custom_getter, composed
from paramserve._variables.partitioners import Partitioner
from paramserve._variables.replicas import VariableAggregation, VariableSynchronization
from paramserve._variables.scope import VariableScope
from paramserve._variables.shared_variables import (
    AUTO_REUSE,
    Regularizer,
    Reuse,
    SharedVariables,
)
from paramserve._variables.variable import Constraint

__all__ = [
    "AUTO_REUSE",
    "get_local_variable",
    "get_variable",
    "get_variable_scope",
    "variable_op_scope",
    "variable_scope",
]

T = TypeVar("T")

_KEY: Final = ("variable scopes",)
_creation_lock = threading.Lock()


class _Scopes(threading.local):
    """The current scope of each thread in one graph.

    Attributes:
        current: the innermost scope.
        opened: how often each scope was opened below those that are open now, so that a default
            name can be made unique and yet be the same when its parent is entered again.
    """

    def __init__(self) -> None:
        self.current = VariableScope(False)
        self.opened: dict[str, int] = {}

    def unique(self, prefix: str) -> str:
        """`prefix`, below the current scope, with a number if that was opened already."""
        above = f"{self.current.name}/" if self.current.name else ""
        name, number = prefix, 0
        while self.opened.get(above + name):
            number += 1
            name = f"{prefix}_{number}"
        return name

    @contextmanager
    def entered(self, scope: VariableScope, *, is_captured: bool) -> Iterator[VariableScope]:
        """Makes `scope` the current one for a block.

        Args:
            scope: the scope.
            is_captured: it was made by an earlier block, and may be anywhere.
        """
        outer = self.current
        self.opened[scope.name] = self.opened.get(scope.name, 0) + 1
        before = dict(self.opened) if is_captured else None
        self.current = scope
        try:
            yield scope
        finally:
            self.current = outer
            if before is not None:
                self.opened = before
            elif scope.name:
                below = f"{scope.name}/"
                self.opened = {k: n for k, n in self.opened.items() if not k.startswith(below)}


def _scopes_of(graph: Graph) -> _Scopes:
    kept = graph.get_collection_ref(_KEY)
    with _creation_lock:
        if not kept:
            kept.append(_Scopes())
    found: _Scopes = kept[0]
    return found


def get_variable_scope() -> VariableScope:
    """The current variable scope of this thread in the default graph."""
    return _scopes_of(get_default_graph()).current


def get_variable(
    name: str,
    shape: ShapeLike | None = None,
    dtype: DTypeLike | None = None,
    initializer: Any = None,
    regularizer: Regularizer | None = None,
    trainable: bool | None = True,
    collections: Iterable[Any] | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: CustomGetter | None = None,
    constraint: Constraint | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
) -> Any:
    """Makes a variable, or finds one that was made by this function, as the scope says.

    Args:
        name: the name, below the current variable scope.
        shape: the shape; needed for a new variable, unless `initializer` is a value.
        dtype: the type; by default that of the scope, which is float32 unless it says otherwise,
            or that of the initial value. Finding a variable without saying a type takes any.
        initializer: a function of a shape and a `dtype` that answers the initial value, or that
            value. By default that of the scope, else `glorot_uniform_initializer` for floats and
            zeros for other types.
        regularizer: a function of a new variable that answers a loss, or None; the loss goes to
            the collection `GraphKeys.REGULARIZATION_LOSSES`. By default that of the scope;
            `no_regularizer` for none.
        trainable: add it to the variables that optimizers change.
        collections: the collections to add it to; `[GraphKeys.GLOBAL_VARIABLES]` by default.
        caching_device: see `Variable`; by default that of the scope.
        partitioner: a function of `shape` and `dtype` that answers the number of parts per
            dimension; by default that of the scope.
        validate_shape: whether the shape of the initial value must be known.
        use_resource: see `Variable`; by default that of the scope.
        custom_getter: a function that is called in place of this one, as
            `custom_getter(getter, name, **arguments)` with the full name and the arguments after
            the scopes have had their say. What it answers is the result; `getter` makes or finds
            the variable. By default that of the scope.
        constraint: see `Variable`; by default that of the scope.
        synchronization: see `Variable`.
        aggregation: see `Variable`.

    Returns:
        A Variable; with a partitioner a PartitionedVariable; with a custom getter what that says.

    Raises:
        TypeError: an initial value that cannot become a tensor of the type.
        ValueError: the variable exists and the scope does not reuse, or the other way round; it
            exists with another shape, type or partitioning; a new one without a shape.
    """
    graph = get_default_graph()
    return _scopes_of(graph).current.get_variable(
        SharedVariables.of(graph),
        name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        regularizer=regularizer,
        trainable=trainable,
        collections=collections,
        caching_device=caching_device,
        partitioner=partitioner,
        validate_shape=validate_shape,
        use_resource=use_resource,
        custom_getter=custom_getter,
        constraint=constraint,
        synchronization=synchronization,
        aggregation=aggregation,
    )


def get_local_variable(
    name: str,
    shape: ShapeLike | None = None,
    dtype: DTypeLike | None = None,
    initializer: Any = None,
    regularizer: Regularizer | None = None,
    trainable: bool | None = False,
    collections: Iterable[Any] | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    validate_shape: bool = True,
    use_resource: bool | None = None,
    custom_getter: CustomGetter | None = None,
    constraint: Constraint | None = None,
    synchronization: VariableSynchronization = VariableSynchronization.AUTO,
    aggregation: VariableAggregation = VariableAggregation.NONE,
) -> Any:
    """`get_variable` for a variable of this process: neither trained nor saved.

    It is in `GraphKeys.LOCAL_VARIABLES` and initialised by `local_variables_initializer`.

    Args:
        name: the name, below the current variable scope.
        shape: see `get_variable`, as all that follow.
        dtype: the type.
        initializer: what makes the initial value.
        regularizer: answers a loss.
        trainable: of no effect.
        collections: where to add the variable, beside the local variables.
        caching_device: where the value is kept for readers.
        partitioner: how to cut it.
        validate_shape: whether the shape must be known.
        use_resource: read it anew by each use.
        custom_getter: called in place of this function.
        constraint: what optimizers apply after each update.
        synchronization: see `Variable`.
        aggregation: see `Variable`.

    Raises:
        ValueError: as `get_variable`.
    """
    return get_variable(
        name,
        shape,
        dtype,
        initializer,
        regularizer,
        False,
        [*(collections or ()), GraphKeys.LOCAL_VARIABLES],
        caching_device,
        partitioner,
        validate_shape,
        use_resource,
        custom_getter,
        constraint,
        synchronization,
        aggregation,
    )


@contextmanager
def variable_scope(
    name_or_scope: str | VariableScope | None,
    default_name: str | None = None,
    values: Sequence[Any] | None = None,
    initializer: Any = None,
    regularizer: Regularizer | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    reuse: Reuse | None = None,
    dtype: DTypeLike | None = None,
    custom_getter: CustomGetter | None = None,
    use_resource: bool | None = None,
    constraint: Constraint | None = None,
    auxiliary_name_scope: bool = True,
) -> Iterator[VariableScope]:
    """A block in which `get_variable` has a prefix and defaults.

        with ps.variable_scope("layer1"):
            w = ps.get_variable("w", [784, 200])  # "layer1/w:0"
        with ps.variable_scope("layer1", reuse=True):
            assert ps.get_variable("w") is w

    Args:
        name_or_scope: a name below the current scope; or a scope from an earlier block, which is
            entered with its own name and defaults whatever the current scope is; or None for
            `default_name`.
        default_name: a name that is made unique among the scopes opened next to this one.
        values: tensors of the graph that the block adds to.
        initializer: what makes initial values in the block; as around it by default, and so are
            all that follow.
        regularizer: a function that answers the loss of a new variable.
        caching_device: where values are kept for their readers.
        partitioner: how variables are cut.
        reuse: True: variables must exist; AUTO_REUSE: they may; None or False: as around.
        dtype: the type of new variables.
        custom_getter: a function that is called in place of `get_variable`, see there. Its true
            getter is the custom getter around the block, if there is one.
        use_resource: see `Variable`.
        constraint: see `Variable`.
        auxiliary_name_scope: open a scope of op names with it.

    Returns:
        The scope, which can be entered again.

    Raises:
        TypeError: no name, one that is neither a string nor a scope, or an
            `auxiliary_name_scope` that is no bool.
        ValueError: another `reuse`, `reuse` with a default name, a malformed name, values of
            different graphs, or a `custom_getter` that is no function.
    """
    if name_or_scope is None and default_name is None:
        raise TypeError("If default_name is None then name_or_scope is required")
    if not isinstance(name_or_scope, (str, VariableScope, type(None))):
        raise TypeError(
            "VariableScope: name_or_scope must be a string or VariableScope, got "
            f"{name_or_scope!r}."
        )
    if reuse not in (None, False, True, AUTO_REUSE):
        raise ValueError(f"The reuse parameter must be True, False, None or AUTO_REUSE: {reuse!r}.")
    if name_or_scope is None and reuse:
        raise ValueError("reuse=True cannot be used without a name_or_scope")
    if not isinstance(auxiliary_name_scope, bool):
        raise TypeError(f"auxiliary_name_scope must be a bool, got {auxiliary_name_scope!r}")
    if custom_getter is not None:
        check_custom_getter(custom_getter)
    graph = graph_of(values or ())
    is_captured = isinstance(name_or_scope, VariableScope)
    op_names = (
        _op_names(graph, name_or_scope, default_name)
        if auxiliary_name_scope
        else nullcontext(_prefix(graph.get_name_scope()))
    )
    with graph.as_default(), op_names as name_scope:
        scopes = _scopes_of(graph)
        if isinstance(name_or_scope, VariableScope):
            base, name, name_scope = name_or_scope, name_or_scope.name, name_or_scope._name_scope
        else:
            base = scopes.current
            local = scopes.unique(default_name or "") if name_or_scope is None else name_or_scope
            name = f"{base.name}/{local}" if base.name and local else base.name or local
        scope = VariableScope(
            reuse or base.reuse,
            name,
            _or(initializer, base.initializer),
            _or(regularizer, base.regularizer),
            _or(caching_device, base.caching_device),
            _or(partitioner, base.partitioner),
            name_scope,
            _or(dtype, base.dtype),
            composed(custom_getter, base.custom_getter),
            _or(use_resource, base.use_resource),
            _or(constraint, base.constraint),
        )
        with scopes.entered(scope, is_captured=is_captured):
            yield scope


def variable_op_scope(
    values: Sequence[Any],
    name_or_scope: str | VariableScope | None,
    default_name: str | None = None,
    initializer: Any = None,
    regularizer: Regularizer | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    reuse: Reuse | None = None,
    dtype: DTypeLike | None = None,
    custom_getter: CustomGetter | None = None,
    use_resource: bool | None = None,
    constraint: Constraint | None = None,
) -> AbstractContextManager[VariableScope]:
    """`variable_scope` with the arguments in their older order."""
    return variable_scope(
        name_or_scope,
        default_name,
        values,
        initializer,
        regularizer,
        caching_device,
        partitioner,
        reuse,
        dtype,
        custom_getter,
        use_resource,
        constraint,
    )


@contextmanager
def _op_names(
    graph: Graph, name_or_scope: str | VariableScope | None, default_name: str | None
) -> Iterator[str]:
    """The scope of op names that goes with a variable scope."""
    if isinstance(name_or_scope, VariableScope):
        name = name_or_scope.name.rpartition("/")[2]
    else:
        name = default_name or "" if name_or_scope is None else name_or_scope
    if not name:  # the root scope is entered again, which is no reason to leave the op names
        yield ""
        return
    with graph.name_scope(name) as scope:
        yield scope


def _prefix(name: str) -> str:
    return f"{name}/" if name else ""


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
