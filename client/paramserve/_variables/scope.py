"""`VariableScope`: a prefix of names together with defaults for `get_variable`.

Thread rule: a scope is used by one thread at a time; the variables that it makes are shared by all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import get_default_graph
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._variables.custom_getter import CustomGetter, get_through
from paramserve._variables.partitioners import Partitioner
from paramserve._variables.replicas import (
    VariableAggregation,
    VariableSynchronization,
    is_trainable,
)
from paramserve._variables.shared_variables import (
    Regularizer,
    Request,
    Reuse,
    ReuseMode,
    SharedVariables,
)
from paramserve._variables.variable import Constraint, Variable
from paramserve_core.dtypes import DType, as_dtype, float32
from paramserve_core.shapes import as_shape

__all__ = ["VariableScope", "no_regularizer"]


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
        custom_getter: a function that is called in place of `get_variable`, see there.
        use_resource: see `Variable`.
        constraint: see `Variable`.
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
        custom_getter: CustomGetter | None = None,
        use_resource: bool | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        self._reuse: Reuse = reuse if isinstance(reuse, ReuseMode) else bool(reuse)
        self._name = name
        self._initializer = initializer
        self._regularizer = regularizer
        self._caching_device = caching_device
        self._partitioner = partitioner
        self._name_scope = name_scope
        self._dtype = as_dtype(dtype)
        self._custom_getter = custom_getter
        self._use_resource = use_resource
        self._constraint = constraint

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

    @property
    def custom_getter(self) -> CustomGetter | None:
        """The function that is called in place of `get_variable`."""
        return self._custom_getter

    @property
    def use_resource(self) -> bool | None:
        """Whether each use of a new variable reads it anew."""
        return self._use_resource

    @property
    def constraint(self) -> Constraint | None:
        """What optimizers apply to a new variable after each update."""
        return self._constraint

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

    def set_custom_getter(self, custom_getter: CustomGetter | None) -> None:
        """Sets the function that is called in place of `get_variable`."""
        self._custom_getter = custom_getter

    def set_use_resource(self, use_resource: bool | None) -> None:
        """Sets whether each use of a new variable reads it anew."""
        self._use_resource = use_resource

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
        trainable: bool | None = True,
        collections: Iterable[Any] | None = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        validate_shape: bool = True,
        reuse: Reuse | None = None,
        use_resource: bool | None = None,
        custom_getter: CustomGetter | None = None,
        constraint: Constraint | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
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
            reuse: whether the variable must exist, must not, or may; that of the scope by default.
            use_resource: see `Variable`.
            custom_getter: a function that is called in place of this one.
            constraint: what optimizers apply after each update.
            synchronization: see `Variable`.
            aggregation: see `Variable`.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a variable is a string, got {name!r}")
        if not name or name.endswith("/"):
            raise ValueError(f"{name!r} is no name for a variable in scope {self._name!r}")
        partitioner = partitioner or self._partitioner
        if partitioner is not None and not callable(partitioner):
            raise ValueError(f"Partitioner must be callable, but received: {partitioner!r}")
        request = Request(
            name=f"{self._name}/{name}" if self._name else name,
            shape=as_shape(shape),
            dtype=None if dtype is None else as_dtype(dtype),
            default_dtype=self._dtype,
            initializer=self._initializer if initializer is None else initializer,
            regularizer=regularizer or self._regularizer,
            trainable=is_trainable(trainable, synchronization),
            collections=collections,
            caching_device=caching_device or self._caching_device,
            partitioner=partitioner,
            validate_shape=validate_shape,
            reuse=self._reuse if reuse is None else reuse,
            use_resource=self._use_resource if use_resource is None else use_resource,
            constraint=constraint or self._constraint,
            synchronization=synchronization,
            aggregation=aggregation,
        )
        getter = self._custom_getter if custom_getter is None else custom_getter
        if getter is None:
            return var_store.get(request)
        return get_through(getter, var_store, request)

    def __repr__(self) -> str:
        return f"<paramserve.VariableScope '{self._name}' reuse={self._reuse}>"
