"""The variable that counts training steps, found by its collection or its name.

Thread rule: see `Graph`.
"""

from __future__ import annotations

from typing import Any

from paramserve._framework.collections import GraphKeys
from paramserve._framework.default_session import RunsFetches
from paramserve._framework.graph import Graph, get_default_graph
from paramserve._framework.tensor import Tensor
from paramserve._variables.initializers import zeros_initializer
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import get_variable
from paramserve_core.dtypes import int64


def global_step(sess: RunsFetches, global_step_tensor: Any) -> int:
    """The current number of the training step, read in a session.

    Args:
        sess: a session.
        global_step_tensor: the variable, or a tensor of its value.

    Raises:
        FailedPreconditionError: the variable has no value.
    """
    return int(sess.run(global_step_tensor))


def get_global_step(graph: Graph | None = None) -> Any:
    """The variable that counts training steps, or None if the graph has none.

    It is what is in the collection `GraphKeys.GLOBAL_STEP`, or else the tensor "global_step:0".

    Args:
        graph: the default graph by default.

    Raises:
        TypeError: what was found is no integer scalar.
        ValueError: the collection has several.
    """
    graph = graph or get_default_graph()
    found = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        raise ValueError(
            f"several global steps in the collection {GraphKeys.GLOBAL_STEP!r}: "
            f"{', '.join(str(step.name) for step in found)}; a graph has one"
        )
    if found:
        step = found[0]
    else:
        try:
            step = graph.get_tensor_by_name("global_step:0")
        except KeyError:
            return None
    assert_global_step(step)
    return step


def create_global_step(graph: Graph | None = None) -> Variable:
    """Makes the variable that counts training steps: `global_step`, int64, from 0.

    Args:
        graph: the default graph by default.

    Raises:
        ValueError: the graph has one already.
    """
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError('"global_step" already exists.')
    with graph.as_default(), graph.name_scope(None):
        step: Variable = get_variable(
            GraphKeys.GLOBAL_STEP,
            shape=[],
            dtype=int64,
            initializer=zeros_initializer(),
            trainable=False,
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )
    return step


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """The variable that counts training steps, made if the graph has none.

    Args:
        graph: the default graph by default.

    Raises:
        TypeError: what was found is no integer scalar.
        ValueError: there are several.
    """
    graph = graph or get_default_graph()
    step = get_global_step(graph)
    return create_global_step(graph) if step is None else step


def assert_global_step(global_step_tensor: Any) -> None:
    """Checks that a tensor or variable can count training steps.

    Raises:
        TypeError: it is no integer scalar, or neither tensor nor variable.
    """
    if not isinstance(global_step_tensor, Tensor | Variable):
        raise TypeError(
            f'"global_step" must be a Tensor or a Variable, and is {global_step_tensor!r}'
        )
    dtype = global_step_tensor.dtype.base_dtype
    if not dtype.is_integer:
        raise TypeError(f'Existing "global_step" does not have integer type: {dtype.name}')
    shape = global_step_tensor.get_shape()
    if shape.ndims != 0 and shape.is_fully_defined():
        raise TypeError(f'Existing "global_step" is not scalar: {shape}')
