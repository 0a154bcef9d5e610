"""Collections: named lists that hang on a graph, by which parts of a program find each other.

A variable puts itself into `GraphKeys.VARIABLES`, and a saver looks there. The names are
TensorFlow's, because they are written into MetaGraphDefs.

Thread rule: each method holds the lock it was given; a list handed out by `ref` is not guarded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from threading import RLock
from typing import Any, ClassVar


class GraphKeys:
    """Standard names of collections."""

    GLOBAL_VARIABLES: ClassVar[str] = "variables"
    VARIABLES: ClassVar[str] = "variables"
    LOCAL_VARIABLES: ClassVar[str] = "local_variables"
    METRIC_VARIABLES: ClassVar[str] = "metric_variables"
    MODEL_VARIABLES: ClassVar[str] = "model_variables"
    TRAINABLE_VARIABLES: ClassVar[str] = "trainable_variables"
    MOVING_AVERAGE_VARIABLES: ClassVar[str] = "moving_average_variables"
    CONCATENATED_VARIABLES: ClassVar[str] = "concatenated_variables"
    SUMMARIES: ClassVar[str] = "summaries"
    QUEUE_RUNNERS: ClassVar[str] = "queue_runners"
    TABLE_INITIALIZERS: ClassVar[str] = "table_initializer"
    ASSET_FILEPATHS: ClassVar[str] = "asset_filepaths"
    REGULARIZATION_LOSSES: ClassVar[str] = "regularization_losses"
    LOSSES: ClassVar[str] = "losses"
    WEIGHTS: ClassVar[str] = "weights"
    BIASES: ClassVar[str] = "biases"
    ACTIVATIONS: ClassVar[str] = "activations"
    SAVERS: ClassVar[str] = "savers"
    SAVEABLE_OBJECTS: ClassVar[str] = "saveable_objects"
    UPDATE_OPS: ClassVar[str] = "update_ops"
    INIT_OP: ClassVar[str] = "init_op"
    LOCAL_INIT_OP: ClassVar[str] = "local_init_op"
    READY_OP: ClassVar[str] = "ready_op"
    READY_FOR_LOCAL_INIT_OP: ClassVar[str] = "ready_for_local_init_op"
    SUMMARY_OP: ClassVar[str] = "summary_op"
    GLOBAL_STEP: ClassVar[str] = "global_step"
    TRAIN_OP: ClassVar[str] = "train_op"
    COND_CONTEXT: ClassVar[str] = "cond_context"
    WHILE_CONTEXT: ClassVar[str] = "while_context"


class Collections:
    """The collections of one graph, in the order in which they came into being."""

    def __init__(self, lock: RLock) -> None:
        self._lock = lock
        self._lists: dict[Any, list[Any]] = {}

    def add(self, name: Any, value: Any) -> None:
        """Appends `value` to the collection `name`, creating it if need be."""
        with self._lock:
            self._lists.setdefault(name, []).append(value)

    def add_to_all(self, names: Any, value: Any) -> None:
        """Appends `value` once to each of the collections; a string is one name."""
        unique: Iterable[Any] = (names,) if isinstance(names, str) else dict.fromkeys(names)
        for name in unique:
            self.add(name, value)

    def get(self, name: Any, scope: str | None) -> list[Any]:
        """A copy of the collection, only items whose `name` matches `scope` if that is given."""
        with self._lock:
            values = list(self._lists.get(name, ()))
        if scope is None:
            return values
        pattern = re.compile(scope)
        return [value for value in values if hasattr(value, "name") and pattern.match(value.name)]

    def ref(self, name: Any) -> list[Any]:
        """The collection's own list, created empty if need be."""
        with self._lock:
            return self._lists.setdefault(name, [])

    def keys(self) -> list[Any]:
        """The names of all collections that have a string name."""
        with self._lock:
            return [name for name in self._lists if isinstance(name, str)]

    def clear(self, name: Any) -> None:
        """Removes the collection."""
        with self._lock:
            self._lists.pop(name, None)
