"""The `with` blocks that a program opens on its default graph.

Thread rule: each acts on the graph and the thread that it is called from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from paramserve._framework.graph import get_default_graph, graph_of


@contextmanager
def name_scope(
    name: str | None, default_name: str | None = None, values: Sequence[Any] | None = None
) -> Iterator[str]:
    """Prefixes the names of the block's operations; for functions that make several.

    Args:
        name: the caller's choice, or None.
        default_name: used when `name` is None.
        values: the tensors that the function was given; they say which graph it adds to.

    Returns:
        The scope with its "/".

    Raises:
        ValueError: a malformed name, or values of different graphs.
    """
    chosen = default_name if name is None else name
    if chosen is None and values is not None:
        raise ValueError(
            f"At least one of name ({name}) and default_name ({default_name}) must be provided."
        )
    graph = graph_of(values or ())
    with graph.as_default(), graph.name_scope(chosen) as scope:
        yield scope


def op_scope(
    values: Sequence[Any], name: str | None, default_name: str | None = None
) -> AbstractContextManager[str]:
    """`name_scope` with the arguments in their older order."""
    return name_scope(name, default_name, values)


def device(device_name_or_function: Any) -> AbstractContextManager[None]:
    """Puts the block's operations on a device; see `Graph.device`."""
    return get_default_graph().device(device_name_or_function)


def container(container_name: str) -> AbstractContextManager[str]:
    """Puts the block's variables into a container on the server; see `Graph.container`."""
    return get_default_graph().container(container_name)


def colocate_with(op: Any, ignore_existing: bool = False) -> AbstractContextManager[None]:
    """Puts the block's operations on the device of `op`; see `Graph.colocate_with`."""
    return get_default_graph().colocate_with(op, ignore_existing)


def control_dependencies(control_inputs: Any) -> AbstractContextManager[None]:
    """Makes the block's operations run after others; see `Graph.control_dependencies`."""
    return get_default_graph().control_dependencies(control_inputs)


def add_to_collection(name: Any, value: Any) -> None:
    """Appends to a collection of the default graph."""
    get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    """Appends to several collections of the default graph."""
    get_default_graph().add_to_collections(names, value)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """A copy of a collection of the default graph; see `Graph.get_collection`."""
    return get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    """A collection of the default graph itself."""
    return get_default_graph().get_collection_ref(key)
