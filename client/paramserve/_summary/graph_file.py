"""Graphs as files of their own, for programs that read no checkpoints.

Thread rule: pure functions.
"""

from __future__ import annotations

import os
from pathlib import Path

from google.protobuf import text_format

from paramserve._framework.graph import Graph
from paramserve_protos.v1.graph_pb2 import GraphDef


def write_graph(
    graph_or_graph_def: Graph | GraphDef, logdir: str, name: str, as_text: bool = True
) -> str:
    """Writes a graph to a file, all of it or nothing.

    Args:
        graph_or_graph_def: the graph.
        logdir: the directory; made if it does not exist.
        name: the name of the file.
        as_text: in protobuf's text form, which people read; else in the binary form.

    Returns:
        The path of the file.

    Raises:
        OSError: the file cannot be written.
    """
    graph_def = graph_or_graph_def
    if isinstance(graph_def, Graph):
        graph_def = graph_def.as_graph_def()
    if as_text:
        data = text_format.MessageToString(graph_def).encode()
    else:
        data = graph_def.SerializeToString()
    path = Path(logdir) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return str(path)
