"""The variables of a store, as a listing describes them.

Thread rule: pure function of a store, which has locks of its own.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from paramserve_core.executor.store import VariableStore
from paramserve_protos.v1 import service_pb2


def variable_infos(
    store: VariableStore, task: str, containers: Sequence[str] = (), largest: int = 0
) -> list[service_pb2.VariableInfo]:
    """Describes every variable of the given containers, of all if none is given.

    Args:
        store: whose variables.
        task: the name of its task.
        containers: theirs only; none given means all.
        largest: how many, those with the most bytes first; 0: all, in the order of creation.
    """
    variables = store.variables(containers or None)
    if largest:
        variables = heapq.nlargest(largest, variables, key=lambda variable: variable.nbytes)
    return [
        service_pb2.VariableInfo(
            name=variable.name,
            container=variable.container,
            dtype=variable.dtype.as_datatype_enum,
            shape=variable.current_shape.as_proto(),
            task=task,
            bytes=variable.nbytes,
            initialized=variable.is_initialized,
        )
        for variable in variables
    ]
