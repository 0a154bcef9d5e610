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
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph, get_default_graph, graph_of
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.partitioners import Partitioner
from paramserve._variables.shared_variables import (
    AUTO_REUSE,
    Regularizer,
    Request,
    Reuse,
    ReuseMode,
    SharedVariables,
)
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import DType, as_dtype, float32
from paramserve_core.shapes import as_shape

__all__ = [
    "AUTO_REUSE",
    "VariableScope",
    "get_variable",
    "get_variable_scope",
    "no_regularizer",
    "variable_op_scope",
    "variable_scope",
]

T = TypeVar("T")

_KEY: Final = ("variable scopes",)
_creation_lock = threading.Lock()


def no_regularizer(_: Any) -> None:
    """A regularizer that adds nothing, to say so where a scope has one."""


class VariableScope:
    """Defaults for `get_variable`, and the prefix of the names.

    Args:
        reuse: True: variables must exist; None or False: they must not; AUTO_REUSE: either.
        name: the prefix.
        initializer: what makes initial values.
        regularizer: a function of a new variable that answers a loss, or None.
        caching_device: see `Variable`.
        partitioner: how variables are cut.
        name_scope: the scope of op names that was opened with this one.
        dtype: the type of new variables.
    """

    def __init__(
        self,
        reuse: Reuse | None,
        name: str = "",
        initializer: Any = None,
        regularizer: Regularizer | None = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        name_scope: str = "",
        dtype: DTypeLike = float32,
    ) -> None:
        self._reuse: Reuse = reuse if isinstance(reuse, ReuseMode) else bool(reuse)
        self._name = name
        self._initializer = initializer
        self._regularizer = regularizer
        self._caching_device = caching_device
        self._partitioner = partitioner
        self._name_scope = name_scope
        self._dtype = as_dtype(dtype)

    @property
    def name(self) -> str:
        """The prefix of the names, without a "/" at its end."""
        return self._name

    @property
    def original_name_scope(self) -> str:
        """The scope of op names that was opened when this scope was entered first."""
        return self._name_scope

    @property
    def reuse(self) -> Reuse:
        """Whether variables must exist (True), must not (False), or may (AUTO_REUSE)."""
        return self._reuse

    @property
    def initializer(self) -> Any:
        """What makes initial values; None for the usual."""
        return self._initializer

    @property
    def regularizer(self) -> Regularizer | None:
        """The function that answers the loss of a new variable."""
        return self._regularizer

    @property
    def caching_device(self) -> Any:
        """Where values are kept for their readers."""
        return self._caching_device

    @property
    def partitioner(self) -> Partitioner | None:
        """How variables are cut."""
        return self._partitioner

    @property
    def dtype(self) -> DType:
        """The type of new variables."""
        return self._dtype

    def reuse_variables(self) -> None:
        """From now on variables must exist in this scope; there is no way back but leaving it."""
        self._reuse = True

    def set_initializer(self, initializer: Any) -> None:
        """Sets what makes initial values."""
        self._initializer = initializer

    def set_regularizer(self, regularizer: Regularizer | None) -> None:
        """Sets the function that answers the loss of a new variable."""
        self._regularizer = regularizer

    def set_caching_device(self, caching_device: Any) -> None:
        """Sets where values are kept for their readers."""
        self._caching_device = caching_device

    def set_partitioner(self, partitioner: Partitioner | None) -> None:
        """Sets how variables are cut."""
        self._partitioner = partitioner

    def set_dtype(self, dtype: DTypeLike) -> None:
        """Sets the type of new variables."""
        self._dtype = as_dtype(dtype)

    def get_collection(self, name: Any) -> list[Any]:
        """What a collection of the default graph has of this scope."""
        prefix = f"{self._name}/" if self._name else ""
        items = get_default_graph().get_collection(name)
        return [item for item in items if getattr(item, "name", "").startswith(prefix)]

    def global_variables(self) -> list[Variable]:
        """The variables of this scope that are shared and saved."""
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def trainable_variables(self) -> list[Variable]:
        """The variables of this scope that optimizers change."""
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def local_variables(self) -> list[Variable]:
        """The variables of this scope that belong to one process."""
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def get_variable(
        self,
        var_store: SharedVariables,
        name: str,
        shape: ShapeLike | None = None,
        dtype: DTypeLike | None = None,
        initializer: Any = None,
        regularizer: Regularizer | None = None,
        trainable: bool = True,
        collections: Iterable[Any] | None = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        validate_shape: bool = True,
    ) -> Any:
        """The function `get_variable` in this scope.

        Args:
            var_store: the shared variables of the graph.
            name: the name, without the prefix.
            shape: see `get_variable`, as all that follow.
            dtype: the type.
            initializer: what makes the initial value.
            regularizer: answers a loss.
            trainable: for optimizers to change.
            collections: where to add the variable.
            caching_device: where the value is kept for readers.
            partitioner: how to cut it.
            validate_shape: whether the shape must be known.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a variable is a string, got {name!r}")
        if not name or name.endswith("/"):
            raise ValueError(f"{name!r} is no name for a variable in scope {self._name!r}")
        partitioner = partitioner or self._partitioner
        if partitioner is not None and not callable(partitioner):
            raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}")
        return var_store.get(
            Request(
                name=f"{self._name}/{name}" if self._name else name,
                shape=as_shape(shape),
                dtype=None if dtype is None else as_dtype(dtype),
                default_dtype=self._dtype,
                initializer=self._initializer if initializer is None else initializer,
                regularizer=regularizer or self._regularizer,
                trainable=trainable,
                collections=collections,
                caching_device=caching_device or self._caching_device,
                partitioner=partitioner,
                validate_shape=validate_shape,
                reuse=self._reuse,
            )
        )

    def __repr__(self) -> str:
        return f"<paramserve.VariableScope '{self._name}' reuse={self._reuse}>"


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
    trainable: bool = True,
    collections: Iterable[Any] | None = None,
    caching_device: Any = None,
    partitioner: Partitioner | None = None,
    validate_shape: bool = True,
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

    Returns:
        A Variable; with a partitioner a PartitionedVariable.

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

    Returns:
        The scope, which can be entered again.

    Raises:
        TypeError: no name, or one that is neither a string nor a scope.
        ValueError: another `reuse`, `reuse` with a default name, a malformed name, or values of
            different graphs.
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
    graph = graph_of(values or ())
    is_captured = isinstance(name_or_scope, VariableScope)
    with graph.as_default(), _op_names(graph, name_or_scope, default_name) as name_scope:
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


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
