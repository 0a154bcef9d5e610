"""An exported graph becomes part of a graph again, and its saver a saver.

Thread rule: adds to the given graph, or the default graph of the calling thread.
"""

from __future__ import annotations

import os
from typing import Any

from paramserve._framework.graph import Graph, get_default_graph
from paramserve._saver.meta_graph import has_variables, import_definition
from paramserve._saver.saver import Saver
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef


def import_meta_graph(
    meta_graph_or_file: MetaGraphDef | str | os.PathLike[str],
    clear_devices: bool = False,
    import_scope: str | None = None,
    *,
    input_map: Any = None,
    graph: Graph | None = None,
) -> Saver | None:
    """Adds an exported graph, with its collections, to a graph.

    Args:
        meta_graph_or_file: a MetaGraphDef, or a file on this machine that holds one.
        clear_devices: forget where its operations are placed.
        import_scope: a scope for the names of its operations, within the one that is open.
        input_map: see `import_graph_def`.
        graph: the graph; the default graph by default.

    Returns:
        The saver that it was exported with. If there was none, a new one for all variables of the
        graph, or None if there are none in `import_scope`.

    Raises:
        OSError: there is no such file, or it holds no graph.
        ValueError: the graph is malformed.
        NotFoundError: an op that is not known here.
    """
    with (graph or get_default_graph()).as_default():
        definition = import_definition(meta_graph_or_file, clear_devices, import_scope, input_map)
        if definition is not None:
            return Saver(saver_def=definition)
        return Saver() if has_variables(import_scope) else None
