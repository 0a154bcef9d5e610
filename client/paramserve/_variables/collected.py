"""The variables that a graph has collected, by what they are for.

Thread rule: reads the default graph of the calling thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import get_default_graph
from paramserve._variables.partitioned import PartitionedVariable
from paramserve._variables.variable import Variable

__all__ = [
    "all_variables",
    "global_variables",
    "local_variables",
    "model_variables",
    "moving_average_variables",
    "trainable_variables",
]


def global_variables(scope: str | None = None) -> list[Variable]:
    """The variables of the default graph that are shared and saved.

    Args:
        scope: a regular expression that the beginning of a variable's name must match.
    """
    return get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


all_variables = global_variables


def trainable_variables(scope: str | None = None) -> list[Variable]:
    """The variables that optimizers change; see `global_variables`."""
    return get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def local_variables(scope: str | None = None) -> list[Variable]:
    """The variables that belong to one process and are not saved; see `global_variables`."""
    return get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Variable]:
    """The variables that make up a model; see `global_variables`."""
    return get_default_graph().get_collection(GraphKeys.MODEL_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Variable]:
    """The variables that have a moving average; see `global_variables`."""
    return get_default_graph().get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def each_variable(var_list: Iterable[Any]) -> list[Variable]:
    """The variables of a list, with the parts of a partitioned one each by itself.

    Raises:
        TypeError: an item is no variable.
    """
    found: list[Variable] = []
    for item in var_list:
        if isinstance(item, PartitionedVariable):
            found += item
        elif isinstance(item, Variable):
            found.append(item)
        else:
            raise TypeError(f"var_list must be a list of Variables, it has {item!r}")
    return found
