"""One task behind a gRPC server: what a server process runs, and a `train.Server` in a program.

Puts together the store, the checkpoints, the host of the sessions, and the listening transport. A
session that sends its graph here gets a master that runs what it can on this task itself and
reaches the other tasks of the cluster as any client would.

Thread rule: a `TaskServer` belongs to whoever made it; `stop` may be called from any thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from paramserve_core.checkpoint.any_disk import disk_of
from paramserve_core.checkpoint.task_side import TaskCheckpoints
from paramserve_core.cluster import ClusterSpec, task_name
from paramserve_core.executor.memory import StoreBudget
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.conversation import Conversation
from paramserve_core.master.local import LocalMaster
from paramserve_core.master.options import MasterOptions
from paramserve_core.master.patience import Patience
from paramserve_core.master.tasks import LocalTask, RemoteTask
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.host import TaskHost
from paramserve_core.task.limits import TaskLimits
from paramserve_core.transport.choice import Transport, dialer, shared_memory
from paramserve_core.transport.credentials import ClientCredentials
from paramserve_core.transport.grpc_service import GrpcServer, ServerTls
from paramserve_core.transport.traffic import Traffic
from paramserve_core.transport.wire import NO_OPTIONS, WireOptions
from paramserve_core.version import version
from paramserve_protos.v1 import service_pb2

if TYPE_CHECKING:
    from paramserve_core.transport.local_listener import LocalListener

_CONNECTIONS: Final = 2
"""For each session: a client may return before its old connection is known to be broken."""
_FLUSH_S: Final = 5.0
"""How long answers that were given may still be on their way out when a server stops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOptions:
    """What a task server is.

    Attributes:
        listen: "host:port"; port 0 is any.
        job: the task's job.
        index: its number in the job.
        cluster: the other tasks that its masters may use; None: none.
        checkpoint_root: the folder or `UrlPath` that clients' paths are confined to; None: the
            whole disk.
        limits: what clients are granted.
        tls: certificates; None: plain text.
        interceptors: see each call first.
        credentials: what it shows the other tasks.
        transport: how clients may connect; None: as the environment says.
    """

    listen: str = "127.0.0.1:0"
    job: str = "ps"
    index: int = 0
    cluster: ClusterSpec | None = None
    checkpoint_root: PurePath | None = None
    limits: TaskLimits = field(default_factory=TaskLimits)
    tls: ServerTls | None = None
    interceptors: Sequence[Any] = ()
    credentials: ClientCredentials = field(default_factory=ClientCredentials)
    transport: Transport | None = None


class TaskServer:
    """A task that serves on a port of its own.

    Attributes:
        traffic: what passed through each transport that it offers, by the transport's name.

    Raises:
        OSError: the address cannot be had; the message says why.
    """

    def __init__(self, options: ServingOptions) -> None:
        self._options = options
        self.name = task_name(options.job, options.index)
        self._runtime = ThreadRuntime()
        memory = shared_memory(options.transport)
        self._store = VariableStore(StoreBudget(options.limits.max_variable_bytes), memory)
        self._checkpoints = TaskCheckpoints(
            self._store,
            self.name,
            options.checkpoint_root,
            self._runtime,
            # Clients' URLs are followed below the root only: nobody makes a server connect.
            disk_of(options.checkpoint_root),
        )
        self._task = service_pb2.Task(name=self.name, incarnation=secrets.randbits(63) | 1)
        self.host = TaskHost(
            task=self._task,
            store=self._store,
            runtime=self._runtime,
            limits=options.limits,
            checkpoints=self._checkpoints,
            new_master=self._new_master,
        )
        self.traffic = {"grpc": Traffic()}
        self._local = None
        if memory is not None:
            self._local = self._listen_locally(self.traffic.setdefault("shm", Traffic()))
        self.server = GrpcServer(
            _Front(self.host, options.cluster, self.traffic),
            max_conversations=_CONNECTIONS * options.limits.max_sessions,
            max_message_bytes=options.limits.max_message_bytes,
            tls=options.tls,
            interceptors=options.interceptors,
            traffic=self.traffic["grpc"],
            offer_local=None if self._local is None else self._local.offer,
        )
        try:
            port = self.server.listen(options.listen)
        except OSError:
            if self._local is not None:
                self._local.stop()
            raise
        host = options.listen.rpartition(":")[0]
        self.address = f"{host}:{port}"
        self._task.address = self.address

    def start(self) -> None:
        """Serves, on threads of its own."""
        if self._local is not None:
            self._local.start()
        self.server.start()

    def stop(self, grace_s: float) -> bool:
        """Refuses what is new, lets running steps end, and stops.

        Args:
            grace_s: how long to wait for running steps; those that last longer are cancelled.

        Returns:
            Whether every running step ended.
        """
        ended = self.host.drain(grace_s)
        self.host.close()
        self.server.stop(_FLUSH_S)
        if self._local is not None:
            self._local.stop()
        self._runtime.close()
        return ended

    def _listen_locally(self, traffic: Traffic) -> LocalListener:
        from paramserve_core.transport.local_listener import LocalListener

        return LocalListener(
            self.host,
            max_conversations=_CONNECTIONS * self._options.limits.max_sessions,
            max_message_bytes=self._options.limits.max_message_bytes,
            traffic=traffic,
        )

    def _new_master(self, hello: service_pb2.Hello) -> LocalMaster:
        session_id = secrets.token_hex(16)
        here = LocalTask(
            self.name,
            session_id,
            self._store,
            self._options.limits,
            self._checkpoints,
            self.host.gate,
            is_shared=True,
            incarnation=self._task.incarnation,
            address=self.address,
            turns=self.host.turns,
        )
        options = MasterOptions.from_config(hello.config)
        wire = WireOptions.from_message(hello.wire)
        tasks: list[LocalTask | RemoteTask] = [here]
        for name, address in cluster_tasks(self._options.cluster):
            if name != self.name and options.may_use(name):
                tasks.append(
                    remote_task(
                        name,
                        address,
                        session_id,
                        self._runtime,
                        self._options.credentials,
                        wire=wire,
                    )
                )
        return LocalMaster(
            tasks,
            self.name,
            self._runtime,
            soft_placement=options.soft_placement,
            log_placement=options.log_placement,
            cpus=options.cpus,
            max_nodes=self._options.limits.max_graph_nodes,
        )


class _Front:
    """A task as callers without a session see it: also what the process knows beside the host."""

    def __init__(
        self, host: TaskHost, cluster: ClusterSpec | None, traffic: Mapping[str, Traffic]
    ) -> None:
        self._host = host
        self._cluster = cluster
        self._traffic = traffic
        self.accept = host.accept
        self.list_variables = host.list_variables

    def describe(self) -> service_pb2.DescribeResponse:
        answer = self._host.describe()
        answer.version = version()
        if self._cluster is not None:
            answer.cluster.CopyFrom(self._cluster.as_cluster_def())
        for transport, traffic in self._traffic.items():
            answer.activity.transports.add(
                transport=transport,
                connections=traffic.connections,
                received_bytes=traffic.received_bytes,
                sent_bytes=traffic.sent_bytes,
            )
        return answer


def cluster_tasks(cluster: ClusterSpec | None) -> list[tuple[str, str]]:
    """Name and address of every task of a cluster."""
    if cluster is None:
        return []
    return [
        (task_name(job, index), cluster.task_address(job, index))
        for job in cluster.jobs
        for index in cluster.task_indices(job)
    ]


def remote_task(
    name: str,
    address: str,
    session_id: str,
    runtime: ThreadRuntime,
    credentials: ClientCredentials,
    patience: Patience | None = None,
    wire: WireOptions = NO_OPTIONS,
) -> RemoteTask:
    """A task elsewhere, for a master here; connects when it is first used."""
    conversation = Conversation(
        name,
        dialer(address, credentials, compression=wire.compression),
        runtime,
        session_id=session_id,
        kind=service_pb2.SESSION_KIND_TASK,
        patience=patience,
        wire=wire,
    )
    return RemoteTask(name, address, conversation)
