"""From a session's target to the master that runs its steps.

| target | who plans | variables live |
|---|---|---|
| `""` | this process | here, and go with the session |
| a `ClusterSpec` | this process, as a worker of the cluster | on its tasks |
| `"grpc://host:port"` | that server | there, and on the tasks of its cluster |

Threads: `connect_master` may be called from any thread.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

from paramserve_core.checkpoint.task_side import TaskCheckpoints
from paramserve_core.cluster import ENVIRONMENT_VARIABLE, ClusterSpec, task_from_env, task_name
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.executor.host_functions import FUNCTIONS
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.conversation import Conversation
from paramserve_core.master.interface import Master
from paramserve_core.master.local import LocalMaster
from paramserve_core.master.options import MasterOptions
from paramserve_core.master.patience import Patience
from paramserve_core.master.tasks import LocalTask, RemoteTask
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.limits import TaskLimits
from paramserve_core.transport.wire import NO_OPTIONS, WireOptions
from paramserve_protos.v1 import config_pb2, service_pb2

SCHEME: Final = "grpc://"
LOCAL_TASK: Final = "/job:localhost/replica:0/task:0"
CONNECT_VARIABLE: Final = "PARAMSERVE_CONNECT_S"
RECONNECT_VARIABLE: Final = "PARAMSERVE_RECONNECT_S"

_WORKER_JOBS: Final = frozenset({"worker", "chief", "master", "evaluator"})


def connect_master(
    target: str | ClusterSpec,
    config: config_pb2.ConfigProto | None = None,
    wire: WireOptions = NO_OPTIONS,
) -> Master:
    """The master of a new session; servers are connected to when they are first used.

    Args:
        target: see the table above.
        config: the session's configuration.
        wire: how messages travel over gRPC.

    Raises:
        InvalidArgumentError: the target is of another form.
    """
    if isinstance(target, ClusterSpec):
        return _cluster_master(target, config, wire)
    if target == "":
        return _local_master(MasterOptions.from_config(config))
    if target.startswith(SCHEME) and _is_address(target.removeprefix(SCHEME)):
        return _remote_master(target.removeprefix(SCHEME), config, wire)
    raise InvalidArgumentError(
        None,
        None,
        f"the target of a session is '', 'grpc://host:port' or a ClusterSpec, not {target!r}",
    )


def _patience() -> Patience:
    """How long to try to reach a server, as the environment says."""
    default = Patience()
    return Patience(
        connect_s=_seconds(CONNECT_VARIABLE, default.connect_s),
        reconnect_s=_seconds(RECONNECT_VARIABLE, default.reconnect_s),
    )


def _seconds(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not seconds > 0:
        raise InvalidArgumentError(
            None, None, f"{variable} is a number of seconds above 0, not {text!r}"
        )
    return seconds


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16


def _local_master(options: MasterOptions) -> LocalMaster:
    runtime = ThreadRuntime()
    return LocalMaster(
        [_task_here(LOCAL_TASK, secrets.token_hex(16), runtime, shows_task=False)],
        LOCAL_TASK,
        runtime,
        soft_placement=options.soft_placement,
        log_placement=options.log_placement,
        cpus=options.cpus,
        shows_task=False,
        on_close=runtime.close,
    )


def _task_here(
    name: str, session_id: str, runtime: ThreadRuntime, *, shows_task: bool = True
) -> LocalTask:
    store = VariableStore()
    checkpoints = TaskCheckpoints(store, name if shows_task else "", None, runtime)
    gate = StepGate(runtime)
    return LocalTask(name, session_id, store, TaskLimits(), checkpoints, gate, functions=FUNCTIONS)


def _cluster_master(
    cluster: ClusterSpec, config: config_pb2.ConfigProto | None, wire: WireOptions
) -> LocalMaster:
    # gRPC takes a while to import, and a session in process does not need it.
    from paramserve_core.serving import cluster_tasks, remote_task
    from paramserve_core.transport.credentials import ClientCredentials

    here = _own_name(cluster)
    runtime = ThreadRuntime()
    session_id = secrets.token_hex(16)
    credentials = ClientCredentials.from_env()
    options = MasterOptions.from_config(config)
    patience = _patience()
    tasks: list[LocalTask | RemoteTask] = [
        remote_task(name, address, session_id, runtime, credentials, patience, wire)
        for name, address in cluster_tasks(cluster)
        # Workers don't talk to each other, and need not be there.
        if not _is_worker(name) and name != here and options.may_use(name)
    ]
    tasks.append(_task_here(here, session_id, runtime))
    return LocalMaster(
        tasks,
        here,
        runtime,
        soft_placement=options.soft_placement,
        log_placement=options.log_placement,
        cpus=options.cpus,
        on_close=runtime.close,
    )


def _is_worker(task: str) -> bool:
    return task.split("/")[1].removeprefix("job:") in _WORKER_JOBS


def _own_name(cluster: ClusterSpec) -> str:
    """This process's task: what TF_CONFIG says, else the first worker."""
    if ENVIRONMENT_VARIABLE in os.environ:
        try:
            job, index = task_from_env()
        except ValueError:
            return task_name("worker", 0)
        if job in _WORKER_JOBS or job not in cluster.jobs:
            return task_name(job, index)
    return task_name("worker", 0)


def _remote_master(
    address: str, config: config_pb2.ConfigProto | None, wire: WireOptions
) -> Master:
    from paramserve_core.master.remote import RemoteMaster
    from paramserve_core.transport.choice import dialer
    from paramserve_core.transport.credentials import ClientCredentials

    runtime = ThreadRuntime()
    conversation = Conversation(
        f"the server at {address}",
        dialer(address, ClientCredentials.from_env(), compression=wire.compression),
        runtime,
        session_id=secrets.token_hex(16),
        kind=service_pb2.SESSION_KIND_MASTER,
        config=config,
        patience=_patience(),
        wire=wire,
    )
    return RemoteMaster(conversation, runtime)
