"""A number by which a checkpoint tells which graph it was saved from.

Thread rule: two threads that ask at once may each compute it, and both are right.
"""

from __future__ import annotations

import hashlib

from paramserve._framework.graph import Graph


class GraphHash:
    """The hash of a graph, kept until the graph has grown."""

    def __init__(self) -> None:
        self._latest: tuple[Graph, int, bytes] | None = None

    def of(self, graph: Graph) -> bytes:
        """The SHA-256 of the nodes alone, so that it is the same in another process."""
        version, latest = graph.version, self._latest
        if latest is None or latest[:2] != (graph, version):
            content = graph.as_graph_def().SerializeToString(deterministic=True)
            latest = self._latest = (graph, version, hashlib.sha256(content).digest())
        return latest[2]
