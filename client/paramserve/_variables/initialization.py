"""Giving variables their first values, and asking which of them have one.

Thread rule: adds to the default graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from paramserve._framework.graph import get_default_graph
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops import array, control, indexing, joining, state
from paramserve._ops.elementary import logical_not
from paramserve._ops.emit import emit_tensor
from paramserve._variables.collected import each_variable, global_variables, local_variables
from paramserve._variables.variable import Variable
from paramserve_core.dtypes import string

__all__ = [
    "assert_variables_initialized",
    "global_variables_initializer",
    "initialize_all_variables",
    "initialize_local_variables",
    "initialize_variables",
    "local_variables_initializer",
    "report_uninitialized_variables",
    "variables_initializer",
]


def variables_initializer(var_list: Iterable[Variable], name: str = "init") -> Operation:
    """An op that runs the initializers of the given variables, in no order.

    Args:
        var_list: the variables; of a partitioned one, all parts.
        name: the name of the op.

    Returns:
        The op; without variables one that does nothing.

    Raises:
        TypeError: an item is no variable.
    """
    initializers = [variable.initializer for variable in each_variable(var_list)]
    return control.group(*initializers, name=name) if initializers else control.no_op(name)


def global_variables_initializer() -> Operation:
    """An op that initialises all variables of the default graph, in no order.

    It covers the variables that there are now, not those made later. A variable that starts from
    the value of another one takes its `initialized_value()`.
    """
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation:
    """An op that initialises all local variables of the default graph, in no order."""
    return variables_initializer(local_variables())


initialize_variables = variables_initializer
initialize_all_variables = global_variables_initializer
initialize_local_variables = local_variables_initializer


def report_uninitialized_variables(
    var_list: Iterable[Variable] | None = None, name: str = "report_uninitialized_variables"
) -> Tensor:
    """The names of the variables that have no value.

    Each variable is asked where it is; the answers meet in the process that runs the session's
    unplaced ops.

    Args:
        var_list: the variables; all global and local ones by default.
        name: the name of the op.

    Returns:
        A vector of strings, the names of the variables' ops; empty when all have a value.

    Raises:
        TypeError: an item is no variable.
    """
    variables = _checked(var_list)
    graph = get_default_graph()
    with graph.name_scope(name), graph.colocate_with(None, ignore_existing=True):
        if not variables:
            return array.constant([], dtype=string)
        answers = []
        for variable in variables:
            with graph.colocate_with(variable.op):
                answers.append(state.is_variable_initialized(variable))
        names = np.array([variable.op.name.encode() for variable in variables], np.object_)
        missing = logical_not(joining.stack(answers))
        positions = array.reshape(indexing.where(missing), [-1])
        return indexing.gather(array.constant(names), positions)


def assert_variables_initialized(var_list: Iterable[Variable] | None = None) -> Operation | None:
    """An op that fails unless all variables have a value.

    Args:
        var_list: the variables; all global and local ones by default.

    Returns:
        The op, or None if there are no variables. Running it raises FailedPreconditionError,
        naming one that has no value.

    Raises:
        TypeError: an item is no variable.
    """
    variables = _checked(var_list)
    if not variables:
        return None
    graph = get_default_graph()
    with graph.name_scope("assert_variables_initialized") as scope:
        reads = []
        for variable in variables:
            # A rank is the least that can be asked of a value, so that nothing big travels.
            with graph.colocate_with(variable.op, ignore_existing=True):
                reads.append(emit_tensor("Rank", input=variable.ref()))
        return control.group(*reads, name=scope)


def _checked(var_list: Iterable[Variable] | None) -> list[Variable]:
    return each_variable(global_variables() + local_variables() if var_list is None else var_list)
