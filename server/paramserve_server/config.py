"""What a server process is told: options, checked as a whole before anything starts.

Thread rule: immutable.
"""

from __future__ import annotations

import os
import ssl
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from paramserve_core.checkpoint.any_disk import disk_of
from paramserve_core.checkpoint.disk import write_new
from paramserve_core.cluster import ENVIRONMENT_VARIABLE, ClusterSpec, task_from_env
from paramserve_core.errors import OpError
from paramserve_core.serving import ServingOptions
from paramserve_core.task.limits import TaskLimits
from paramserve_core.transport.credentials import TOKEN_VARIABLE, ClientCredentials
from paramserve_core.transport.grpc_service import ServerTls
from paramserve_server import auth


class ConfigError(Exception):
    """The options make no sense together, or name what is not there; the message says what to do.

    Attributes:
        exit_code: 2 where the command line is wrong, 1 where the machine is not as it says.
    """

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """The options of `paramserve serve`; see its help."""

    listen: str = "127.0.0.1:2222"
    cluster: Sequence[str] = ()
    job: str | None = None
    task: int | None = None
    checkpoint_root: PurePath | None = None
    token_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    insecure: bool = False
    metrics_port: int | None = None
    grace_s: float = 10.0
    limits: TaskLimits = field(default_factory=TaskLimits)

    def token(self) -> str:
        """The secret that clients must show; "" where there is none.

        Raises:
            ConfigError: the file cannot be read or is empty.
        """
        if self.token_file is None:
            return os.environ.get(TOKEN_VARIABLE, "")
        token = _read(self.token_file, "--token-file").decode().strip()
        if not token:
            raise ConfigError(f"--token-file: {self.token_file} is empty")
        return token

    def serving(self) -> ServingOptions:
        """The options as the task server takes them, once all of them were found to make sense.

        Raises:
            ConfigError: they do not.
        """
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) >= 1 << 16:
            raise ConfigError(f"--listen: {self.listen!r} is no host:port")
        tls = self._tls()
        refusal = auth.refusal(
            host,
            has_token=bool(self.token()),
            has_tls=tls is not None,
            is_insecure=self.insecure,
            has_root=self.checkpoint_root is not None,
        )
        if refusal is not None:
            raise ConfigError(refusal)
        if self.checkpoint_root is not None:
            _check_writable(self.checkpoint_root)
        cluster, job, index = self._place()
        try:
            credentials = ClientCredentials.from_env()
        except ValueError as error:
            raise ConfigError(str(error)) from None
        return ServingOptions(
            listen=self.listen,
            job=job,
            index=index,
            cluster=cluster,
            checkpoint_root=self.checkpoint_root,
            limits=self.limits,
            tls=tls,
            # The servers of a cluster know each other as they know their clients.
            credentials=replace(credentials, token=self.token()),
        )

    def _tls(self) -> ServerTls | None:
        if self.tls_cert is None and self.tls_key is None:
            if self.tls_client_ca is not None:
                raise ConfigError("--tls-client-ca needs --tls-cert and --tls-key")
            return None
        if self.tls_cert is None or self.tls_key is None:
            raise ConfigError("--tls-cert and --tls-key go together")
        key, cert = _read(self.tls_key, "--tls-key"), _read(self.tls_cert, "--tls-cert")
        client_ca = None
        if self.tls_client_ca is not None:
            client_ca = _read(self.tls_client_ca, "--tls-client-ca")
        _check_certificates(self.tls_cert, self.tls_key, self.tls_client_ca)
        return ServerTls(key=key, cert=cert, client_ca=client_ca)

    def _place(self) -> tuple[ClusterSpec | None, str, int]:
        """The cluster and which task of it this is, from the options or TF_CONFIG."""
        jobs: dict[str, list[str]] = {}
        for text in self.cluster:
            job, equals, addresses = text.partition("=")
            if not job or not equals or not addresses:
                raise ConfigError(f"--cluster: {text!r} is not of the form job=host:port,...")
            jobs.setdefault(job, []).extend(addresses.split(","))
        cluster = ClusterSpec(jobs) if jobs else None
        job, index = "ps", 0
        if ENVIRONMENT_VARIABLE in os.environ and cluster is None:
            try:
                cluster = ClusterSpec.from_env()
                job, index = task_from_env()
            except ValueError as error:
                raise ConfigError(str(error)) from None
        job = job if self.job is None else self.job
        index = index if self.task is None else self.task
        if cluster is not None and (
            job not in cluster.jobs or index not in cluster.task_indices(job)
        ):
            raise ConfigError(
                f"--job {job} --task {index}: there is no such task in the cluster, which has "
                + ", ".join(f"{j}: {cluster.num_tasks(j)} tasks" for j in cluster.jobs)
            )
        return cluster, job, index


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option}: {path} cannot be read: {error.strerror}", 1) from None


def _check_certificates(cert: Path, key: Path, client_ca: Path | None) -> None:
    """Refuses files on which gRPC would fail without saying why."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password, an encrypted key would be asked for on the terminal.
        context.load_cert_chain(cert, key, password="")
    except (ssl.SSLError, ValueError):
        raise ConfigError(
            f"--tls-cert {cert}, --tls-key {key}: not a certificate and its key, in PEM and "
            "without a password",
            1,
        ) from None
    if client_ca is None:
        return
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError:
        raise ConfigError(f"--tls-client-ca: {client_ca} holds no certificate in PEM", 1) from None


def _check_writable(root: PurePath) -> None:
    try:
        if isinstance(root, Path):
            root.mkdir(parents=True, exist_ok=True)
        disk, probe = disk_of(root), root / f".paramserve-{uuid.uuid4().hex}"
        write_new(disk, probe, b"-").close()
        disk.remove(probe)
    except OSError as error:
        raise ConfigError(
            f"--checkpoint-root: {root} cannot be written: {error.strerror}", 1
        ) from None
    except OpError as error:
        raise ConfigError(f"--checkpoint-root: {error.message}", 1) from None
