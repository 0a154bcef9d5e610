"""What a server says of itself: `paramserve ls` and `paramserve status`.

Thread rule: runs on the main thread; blocks until the server answers.
"""

from __future__ import annotations

import json
from typing import Any, Final

from paramserve_core.cluster import ClusterSpec
from paramserve_core.dtypes import as_dtype
from paramserve_core.shapes import TensorShape
from paramserve_core.transport.credentials import ClientCredentials
from paramserve_core.transport.grpc_client import GrpcDialer

_SCHEME: Final = "grpc://"


def _dialer(target: str) -> GrpcDialer:
    address = target.removeprefix(_SCHEME)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{target!r} is no target; wanted grpc://host:port")
    return GrpcDialer(address, ClientCredentials.from_env())


def variables(target: str, timeout_s: float, *, as_json: bool) -> None:
    """Prints a server's variables.

    Raises:
        ValueError: the target is malformed.
        OpError: the server could not be asked.
    """
    found = _dialer(target).list_variables(timeout_s)
    rows: list[dict[str, Any]] = [
        {
            "name": v.name,
            "container": v.container,
            "shape": _shape(TensorShape(v.shape)),
            "dtype": as_dtype(int(v.dtype)).name,
            "task": v.task,
            "bytes": v.bytes,
            "initialized": v.initialized,
        }
        for v in found
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "shape", "dtype", "task", "bytes", "initialized", box=None)
    table.columns[4].justify = "right"
    for row in rows:
        name = f"{row['container']}:{row['name']}" if row["container"] else row["name"]
        state = "yes" if row["initialized"] else "no"
        shape = str(row["shape"]) if row["shape"] is not None else "unknown"
        table.add_row(name, shape, row["dtype"], row["task"], f"{row['bytes']:,}", state)
    Console(soft_wrap=True).print(table)


def _shape(shape: TensorShape) -> list[int | None] | None:
    return None if shape.ndims is None else shape.as_list()


def status(target: str, timeout_s: float, *, as_json: bool) -> None:
    """Prints who a server is and how it does; raises as `variables` does."""
    answer = _dialer(target).describe(timeout_s)
    fields: dict[str, Any] = {
        "version": answer.version,
        "task": answer.task.name,
        "address": answer.task.address,
        "incarnation": f"{answer.task.incarnation:016x}",
        "uptime_s": round(answer.uptime_s, 1),
        "sessions": answer.sessions,
        "variable_bytes": answer.variable_bytes,
        "max_message_bytes": answer.max_message_bytes,
        "cluster": ClusterSpec(answer.cluster).as_dict(),
    }
    if as_json:
        print(json.dumps(fields, indent=2))
        return
    jobs: dict[str, Any] = fields.pop("cluster")
    fields.update({f"job {job}": _addresses(tasks) for job, tasks in jobs.items()})
    for name, value in fields.items():
        print(f"{name:18} {value}")


def _addresses(tasks: list[str] | dict[int, str]) -> str:
    numbered = enumerate(tasks) if isinstance(tasks, list) else tasks.items()
    return ", ".join(f"{index}: {address}" for index, address in numbered)
