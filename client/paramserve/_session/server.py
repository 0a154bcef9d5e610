"""A server in the program's own process: one task of a cluster, as TensorFlow's programs start it.

`paramserve serve` is a process that does nothing else, with more options; this is for programs that
are server and client in one, for notebooks and for tests.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from paramserve._session.options import checked_config
from paramserve_core.checkpoint.urls import location
from paramserve_core.cluster import ClusterSpec, task_from_env
from paramserve_core.transport.credentials import ClientCredentials
from paramserve_protos.v1.cluster_pb2 import ClusterDef
from paramserve_protos.v1.config_pb2 import ConfigProto
from paramserve_protos.v1.server_pb2 import ServerDef

_PROTOCOL: Final = "grpc"


class Server:
    """One task: it owns variables, runs their ops, and plans the steps of sessions on `target`.

    It listens at its own address in the cluster; port 0 is any. On loopback it trusts whoever is on
    the machine. Elsewhere it must know its clients, by the certificates that the environment names
    (`PARAMSERVE_TLS_CERT`, `PARAMSERVE_TLS_KEY` and, who must have signed those of clients,
    `PARAMSERVE_TLS_CA`), or be told `insecure=True`.

    Args:
        server_or_cluster_def: the cluster (a ClusterSpec, a ClusterDef, or job names with their
            addresses), or a ServerDef, which says the rest too.
        job_name: the job that the task is of; may be left out if there is one.
        task_index: its number in the job; may be left out if there is one task.
        protocol: "grpc".
        config: kept in `server_def`; what a session may do is said to the session.
        start: begin to serve at once.
        checkpoint_root: the folder, or URL such as "s3://bucket/runs", that clients' paths are
            confined to; None is the whole disk, which only a server on loopback may be given.
        insecure: serve whoever reaches the address.

    Raises:
        TypeError: the first argument describes no cluster.
        ValueError: there is no such task, it is not said which one this is, or the address is not
            on loopback and it is not said how clients are known.
        OSError: the address cannot be had.
    """

    def __init__(
        self,
        server_or_cluster_def: ServerDef | ClusterDef | ClusterSpec | Mapping[str, Any],
        job_name: str | None = None,
        task_index: int | None = None,
        protocol: str | None = None,
        config: ConfigProto | None = None,
        start: bool = True,
        *,
        checkpoint_root: str | Path | None = None,
        insecure: bool = False,
    ) -> None:
        # gRPC takes a while to import, and most programs make no server.
        from paramserve_core.serving import ServingOptions, TaskServer

        self._definition = _server_def(
            server_or_cluster_def, job_name, task_index, protocol, config
        )
        cluster = ClusterSpec(self._definition.cluster)
        job, index = self._definition.job_name, self._definition.task_index
        host, port = _address(cluster, self._definition)
        credentials = ClientCredentials.from_env()
        if not _is_loopback(host):
            _check_exposed(host, credentials, checkpoint_root, insecure=insecure)
        self._task = TaskServer(
            ServingOptions(
                listen=f"{'127.0.0.1' if host == 'localhost' else host}:{port}",
                job=job,
                index=index,
                cluster=cluster,
                checkpoint_root=None if checkpoint_root is None else location(checkpoint_root),
                tls=_tls(credentials),
                credentials=credentials,
            )
        )
        self._lock = threading.Lock()
        self._is_started = False
        self._stopped = threading.Event()
        if start:
            self.start()

    @staticmethod
    def create_local_server(config: ConfigProto | None = None, start: bool = True) -> Server:
        """A cluster of one task, on any free port of loopback."""
        return Server({"local": ["localhost:0"]}, protocol=_PROTOCOL, config=config, start=start)

    @classmethod
    def from_env(cls, *, start: bool = True, checkpoint_root: str | Path | None = None) -> Server:
        """The task that `TF_CONFIG` says this process is.

        Raises:
            ValueError: `TF_CONFIG` is missing or malformed, or its task is not in its cluster.
        """
        job, index = task_from_env()
        return cls(ClusterSpec.from_env(), job, index, start=start, checkpoint_root=checkpoint_root)

    @property
    def server_def(self) -> ServerDef:
        """What the server is; a copy."""
        definition = ServerDef()
        definition.CopyFrom(self._definition)
        return definition

    @property
    def target(self) -> str:
        """What to give `Session` to run steps on this server."""
        return f"grpc://{self._task.address}"

    def start(self) -> None:
        """Begins to serve. Idempotent.

        Raises:
            RuntimeError: the server was stopped.
        """
        with self._lock:
            if self._stopped.is_set():
                raise RuntimeError("the server was stopped; make a new one")
            if not self._is_started:
                self._task.start()
                self._is_started = True

    def join(self) -> None:
        """Blocks until the server is stopped, which in most programs is when they are killed."""
        self._stopped.wait()

    def stop(self, grace_s: float = 10.0) -> bool:
        """Refuses what is new, lets running steps end, and stops; its variables are gone.

        Args:
            grace_s: how long to wait for running steps, in seconds; then they are cancelled.

        Returns:
            Whether every running step ended by itself.
        """
        with self._lock:
            if self._stopped.is_set():
                return True
            try:
                return self._task.stop(grace_s)
            finally:
                self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _server_def(
    source: ServerDef | ClusterDef | ClusterSpec | Mapping[str, Any],
    job_name: str | None,
    task_index: int | None,
    protocol: str | None,
    config: ConfigProto | None,
) -> ServerDef:
    """The definition, with what was left out filled in."""
    definition = ServerDef()
    is_said = isinstance(source, ServerDef)
    if isinstance(source, ServerDef):
        definition.CopyFrom(source)
        cluster = ClusterSpec(source.cluster)
    else:
        cluster = ClusterSpec(source)
        definition.cluster.CopyFrom(cluster.as_cluster_def())
    if job_name is not None:
        definition.job_name = job_name
    elif not definition.job_name:
        if len(cluster.jobs) != 1:
            raise ValueError(f"Must specify an explicit `job_name`, one of {cluster.jobs}.")
        definition.job_name = cluster.jobs[0]
    indices = cluster.task_indices(definition.job_name)
    if task_index is not None:
        definition.task_index = task_index
    elif not is_said:
        if len(indices) != 1:
            raise ValueError(f"Must specify an explicit `task_index`, one of {indices}.")
        definition.task_index = indices[0]
    definition.protocol = protocol or definition.protocol or _PROTOCOL
    if definition.protocol != _PROTOCOL:
        raise ValueError(f"the protocol is {_PROTOCOL!r}, not {definition.protocol!r}")
    if config is not None:
        definition.default_session_config.MergeFrom(checked_config(config))
    return definition


def _address(cluster: ClusterSpec, definition: ServerDef) -> tuple[str, int]:
    text = cluster.task_address(definition.job_name, definition.task_index)
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) >= 1 << 16:
        raise ValueError(f"{text!r}, the address of the task, is no host:port")
    return host, definition.port or int(port)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_exposed(
    host: str,
    credentials: ClientCredentials,
    checkpoint_root: str | Path | None,
    *,
    insecure: bool,
) -> None:
    """Raises ValueError unless it is said who may use a server that others can reach."""
    if not insecure and _tls(credentials) is None:
        raise ValueError(
            f"refusing to listen on {host}, beyond this machine, without knowing the clients: set "
            "PARAMSERVE_TLS_CERT, PARAMSERVE_TLS_KEY and PARAMSERVE_TLS_CA, give insecure=True on "
            "a network that you trust, or use `paramserve serve`, which also takes a token"
        )
    if checkpoint_root is None:
        raise ValueError(
            f"refusing to listen on {host}, beyond this machine, without checkpoint_root: clients "
            "could write anywhere on this disk"
        )


def _tls(credentials: ClientCredentials) -> Any:
    """The server's side of mutual TLS, where the environment names all that it takes."""
    from paramserve_core.transport.grpc_service import ServerTls

    if credentials.cert is None or credentials.key is None or credentials.ca is None:
        return None
    return ServerTls(key=credentials.key, cert=credentials.cert, client_ca=credentials.ca)
