from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from paramserve._framework.graph import Graph
from paramserve._framework.tensor import Tensor
from paramserve._session.session import Session
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.local import LocalMaster
from paramserve_core.master.tasks import LocalTask
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.limits import TaskLimits
from simulation.cluster import NoCheckpoints


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as graph:
        yield graph


@pytest.fixture
def session(graph):
    with Session() as session:
        yield session


class Cluster:
    """A worker and three parameter servers in this process; stages of a step run side by side."""

    def __init__(self, graph: Graph, runtime: ThreadRuntime) -> None:
        self._graph = graph
        self._nodes_sent = 0
        worker = "/job:worker/replica:0/task:0"
        tasks = [
            LocalTask(
                name, "session", VariableStore(), TaskLimits(), NoCheckpoints(), StepGate(runtime)
            )
            for name in (worker, *(f"/job:ps/replica:0/task:{i}" for i in range(3)))
        ]
        self._master = LocalMaster(tasks, worker, runtime)

    def run(self, fetches: Sequence[Any]) -> list[Any]:
        """The values of the tensors among `fetches`; operations are run."""
        graph = self._graph
        self._master.extend(graph.as_graph_def(from_version=self._nodes_sent))
        self._nodes_sent = graph.version
        elements = [graph.as_graph_element(fetch) for fetch in fetches]
        tensors = [element.name for element in elements if isinstance(element, Tensor)]
        targets = [element.name for element in elements if not isinstance(element, Tensor)]
        return self._master.run(self._master.prepare(tensors, [], targets), [])

    def close(self) -> None:
        self._master.close()


@pytest.fixture(scope="session")
def new_cluster():
    """Makes a cluster for a graph, as a context manager."""
    runtime = ThreadRuntime("test")
    yield lambda graph: closing(Cluster(graph, runtime))
    runtime.close()


@pytest.fixture
def cluster(graph, new_cluster):
    with new_cluster(graph) as cluster:
        yield cluster
