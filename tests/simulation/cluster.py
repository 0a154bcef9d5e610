"""A simulated cluster: servers with the real task code, clients with the real master."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from paramserve_core import dtypes
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.conversation import Conversation
from paramserve_core.master.local import LocalMaster
from paramserve_core.master.patience import Patience
from paramserve_core.master.tasks import RemoteTask
from paramserve_core.shapes import TensorShape
from paramserve_core.task.host import TaskHost
from paramserve_core.task.limits import TaskLimits
from paramserve_protos.v1 import graph_pb2, service_pb2
from simulation.network import Network, Weather
from simulation.scheduler import Scheduler, SimulatedRuntime


class NoCheckpoints:
    """Stands in for a task's checkpoint code where a test has no files."""

    files = None

    def handle(self, request: Any, tensors: Any, session: str) -> Any:
        raise AssertionError(f"no checkpoint call was expected, got {request}")

    def forget(self, session: str) -> None:
        """There is nothing to forget."""


class Cluster:
    """`tasks` parameter servers and any number of clients, in one seeded simulation.

    Args:
        seed: everything that is random follows from it.
        weather: how bad the network is.
        tasks: how many servers.
        checkpoints: makes what answers a started server's checkpoint calls, of its name and store.
    """

    def __init__(
        self,
        seed: int,
        weather: Weather,
        *,
        tasks: int = 1,
        checkpoints: Callable[[str, VariableStore], Any] = lambda name, store: NoCheckpoints(),
    ) -> None:
        self._checkpoints = checkpoints
        self.scheduler = Scheduler(seed)
        self.runtime = SimulatedRuntime(self.scheduler)
        self.network = Network(self.scheduler, weather)
        self.names = [f"/job:ps/replica:0/task:{i}" for i in range(tasks)]
        self._incarnations = itertools.count(1)
        self._sessions = itertools.count(1)
        self.stores: dict[str, VariableStore] = {}
        self.hosts: dict[str, TaskHost] = {}
        self.servers = [
            self.network.serve(f"ps{i}:2222", self._starter(name))
            for i, name in enumerate(self.names)
        ]

    def _starter(self, name: str) -> Callable[[], TaskHost]:
        def start() -> TaskHost:
            incarnation = next(self._incarnations)
            store = self.stores[name] = VariableStore()
            for variable, value in (("counter", 0), ("epoch", incarnation)):
                made = store.get_or_create(variable, "", dtypes.int64, TensorShape([]))
                made.assign(np.asarray(value, np.int64))
            host = self.hosts[name] = TaskHost(
                task=service_pb2.Task(name=name, incarnation=incarnation),
                store=store,
                runtime=self.runtime,
                limits=TaskLimits(session_grace_s=20.0),
                checkpoints=self._checkpoints(name, store),
            )
            return host

        return start

    def master(self) -> LocalMaster:
        """A new client session that plans its own steps."""
        session = f"session-{next(self._sessions)}"
        patience = Patience(connect_s=30.0, reconnect_s=15.0)
        tasks = [
            RemoteTask(
                name,
                server.address,
                Conversation(
                    name,
                    self.network.dialer(server.address),
                    self.runtime,
                    session_id=session,
                    kind=service_pb2.SESSION_KIND_TASK,
                    patience=patience,
                ),
            )
            for name, server in zip(self.names, self.servers, strict=True)
        ]
        master = LocalMaster(tasks, self.names[0], self.runtime)
        master.extend(counter_graph(self.names))
        return master

    def value(self, name: str, variable: str = "counter") -> int:
        """What a variable of a task holds now."""
        found = self.stores[name].find(variable)
        assert found is not None
        return int(found.read())


def counter_graph(tasks: list[str]) -> graph_pb2.GraphDef:
    """On each task i: `counter`, `epoch`, and `add<i>`, which adds what is fed at `delta<i>`."""
    graph = graph_pb2.GraphDef()

    def node(name: str, op: str, device: str, *inputs: str) -> Any:
        made = graph.node.add(name=name, op=op, device=device, input=inputs)
        return made.attr

    for i, task in enumerate(tasks):
        for variable in ("counter", "epoch"):
            attr = node(f"{variable}{i}", "VariableV2", task)
            attr["dtype"].type = dtypes.int64.as_datatype_enum
            attr["shape"].shape.SetInParent()
            attr["shared_name"].s = variable.encode()
        attr = node(f"delta{i}", "Placeholder", task)
        attr["dtype"].type = dtypes.int64.as_datatype_enum
        attr["shape"].shape.SetInParent()
        attr = node(f"add{i}", "AssignAdd", task, f"counter{i}", f"delta{i}")
        attr["T"].type = dtypes.int64.as_datatype_enum
        attr = node(f"seen{i}", "Identity", task, f"epoch{i}", f"^add{i}")
        attr["T"].type = dtypes.int64.as_datatype_enum
    return graph
