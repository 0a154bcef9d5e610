"""Collections: named lists that hang on a graph, by which parts of a program find each other.

A variable puts itself into `GraphKeys.VARIABLES`, and a saver looks there. The names are
TensorFlow's, because they are written into MetaGraphDefs.

Thread rule: each method holds the graph's lock; a list that `get_collection_ref` hands out is not
guarded.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
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


class GraphCollections(ABC):
    """The collections of one graph, in the order in which they came into being.

    `Graph` is the only subclass.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._collections: dict[Any, list[Any]] = {}

    @abstractmethod
    def _check_not_finalized(self) -> None:
        """Raises RuntimeError when nothing may be added any more."""

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Appends `value` to the collection `name`, creating it if need be.

        Raises:
            RuntimeError: the graph is finalized.
        """
        self._check_not_finalized()
        with self._lock:
            self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Appends `value` once to each of the collections; a string is one name.

        Raises:
            RuntimeError: the graph is finalized.
        """
        unique: Iterable[Any] = (names,) if isinstance(names, str) else dict.fromkeys(names)
        for name in unique:
            self.add_to_collection(name, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of a collection.

        Args:
            name: the collection.
            scope: a regular expression that the beginning of an item's name must match.
        """
        with self._lock:
            values = list(self._collections.get(name, ()))
        if scope is None:
            return values
        pattern = re.compile(scope)
        return [value for value in values if hasattr(value, "name") and pattern.match(value.name)]

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The collection's own list, made if there is none."""
        with self._lock:
            return self._collections.setdefault(name, [])

    def get_all_collection_keys(self) -> list[Any]:
        """The names of all collections that have a string name."""
        with self._lock:
            return [name for name in self._collections if isinstance(name, str)]

    @property
    def collections(self) -> list[Any]:
        """The names of all collections that have a string name."""
        return self.get_all_collection_keys()

    def clear_collection(self, name: Any) -> None:
        """Removes a collection.

        Raises:
            RuntimeError: the graph is finalized.
        """
        self._check_not_finalized()
        with self._lock:
            self._collections.pop(name, None)
