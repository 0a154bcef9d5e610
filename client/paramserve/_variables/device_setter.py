"""Device functions that spread variables over parameter servers.

    with ps.device(ps.train.replica_device_setter(cluster=cluster)):
        ...

The workers of a cluster build the same graph, and a variable is the same in all of them only if
they place it on the same task. So a strategy may look at nothing but the variables in the order of
their creation.

Thread rule: a device function is called while a graph is being built, by one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from paramserve._framework.operation import Operation
from paramserve_core.cluster import ClusterSpec
from paramserve_core.devices import DeviceSpec, parse
from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1.cluster_pb2 import ClusterDef

__all__ = ["GreedyLoadBalancingStrategy", "byte_size_load_fn", "replica_device_setter"]

STANDARD_PS_OPS: Final = ("Variable", "VariableV2")
"""The ops that hold variables."""

DeviceFunction = Callable[[Operation], str]
Strategy = Callable[[Operation], int]


def replica_device_setter(
    ps_tasks: int = 0,
    ps_device: str = "/job:ps",
    worker_device: str = "/job:worker",
    merge_devices: bool = True,
    cluster: ClusterSpec | ClusterDef | Mapping[str, Any] | None = None,
    ps_ops: Collection[str] | None = None,
    ps_strategy: Strategy | None = None,
) -> DeviceFunction | None:
    """A device function that puts variables on parameter servers and everything else on workers.

    What the program says of a device inside the block is kept; the function says the rest.

    Args:
        ps_tasks: the number of parameter servers; `cluster` says it better.
        ps_device: the device of the servers; a task number is added to its job.
        worker_device: the device of what is no variable; "" leaves that to the session.
        merge_devices: False leaves alone what has a device from the program already.
        cluster: the cluster; its tasks of the job in `ps_device` are the servers.
        ps_ops: the types of the ops that go to servers; variables by default.
        ps_strategy: answers the server of an op, a number below `ps_tasks`; one after the other
            by default, see also `GreedyLoadBalancingStrategy`.

    Returns:
        The function for `device`; None, which does nothing there, without servers.

    Raises:
        TypeError: `cluster` is no cluster, or `ps_strategy` cannot be called.
        ValueError: a malformed device.
    """
    tasks = list(range(ps_tasks))
    if cluster is not None:
        spec = cluster if isinstance(cluster, ClusterSpec) else ClusterSpec(cluster)
        job = parse(ps_device).job
        tasks = spec.task_indices(job) if job in spec.jobs else []
    if not tasks:
        return None
    if ps_strategy is not None and not callable(ps_strategy):
        raise TypeError("ps_strategy must be callable")
    setter = _ReplicaDeviceSetter(
        tasks,
        parse(ps_device),
        parse(worker_device),
        merge_devices,
        frozenset(STANDARD_PS_OPS if ps_ops is None else ps_ops),
        ps_strategy or _RoundRobin(len(tasks)),
    )
    return setter.device_of


class _ReplicaDeviceSetter:
    """The state of one device function."""

    def __init__(
        self,
        tasks: list[int],
        ps_device: DeviceSpec,
        worker_device: DeviceSpec,
        merge_devices: bool,
        ps_ops: frozenset[str],
        strategy: Strategy,
    ) -> None:
        self._tasks = tasks
        self._ps_device = ps_device
        self._worker_device = worker_device
        self._merge_devices = merge_devices
        self._ps_ops = ps_ops
        self._strategy = strategy

    def device_of(self, op: Operation) -> str:
        """The device of an operation that is being added to the graph."""
        if op.device and not self._merge_devices:
            return op.device
        said = parse(op.device)
        if op.type not in self._ps_ops:
            return self._worker_device.make_merged_spec(said).to_string()
        device = parse(self._ps_device)
        if device.job is not None and said.job in (None, device.job):
            device.task = self._task(op)
        return device.make_merged_spec(said).to_string()

    def _task(self, op: Operation) -> int:
        position = self._strategy(op)
        if not 0 <= position < len(self._tasks):
            raise ValueError(
                f"ps_strategy answers {position!r} for {op.name}; there are {len(self._tasks)} "
                "servers, numbered from 0"
            )
        return self._tasks[position]


class _RoundRobin:
    """One server after the other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._next = 0

    def __call__(self, op: Operation) -> int:
        position = self._next
        self._next = (position + 1) % self._count
        return position


class GreedyLoadBalancingStrategy:
    """Puts each variable on the server that has the least load so far.

    Args:
        num_tasks: the number of servers.
        load_fn: the load of an op, such as `byte_size_load_fn`.
    """

    def __init__(self, num_tasks: int, load_fn: Callable[[Operation], float]) -> None:
        self._loads = [0.0] * num_tasks
        self._load_of = load_fn

    def __call__(self, op: Operation) -> int:
        """The server for an op; the lowest number among equals."""
        position = min(range(len(self._loads)), key=self._loads.__getitem__)
        self._loads[position] += self._load_of(op)
        return position


def byte_size_load_fn(op: Operation) -> int:
    """The bytes that a variable takes.

    Raises:
        ValueError: the op holds no variable, or one of unknown shape or of strings.
    """
    if op.type not in STANDARD_PS_OPS:
        raise ValueError(f"{op.name}: the load of a {op.type} op is not known, only of variables")
    shape: TensorShape = op.attrs["shape"]
    dtype: DType = op.attrs["dtype"]
    count = shape.num_elements()
    if count is None or not dtype.size:
        raise ValueError(f"{op.name}: a {dtype.name} variable of shape {shape} has no known size")
    return count * dtype.size
