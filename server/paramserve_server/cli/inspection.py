"""What a server says of itself: `paramserve ls` and `paramserve status`.

Thread rule: runs on the main thread; blocks until the server answers.
"""

from __future__ import annotations

import json
from typing import Any

from paramserve_core.cluster import ClusterSpec
from paramserve_core.dtypes import as_dtype
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import service_pb2
from paramserve_server.cli.targets import Target


def variable_row(variable: service_pb2.VariableInfo) -> dict[str, Any]:
    """A variable by the keys that the command line's JSON has for it."""
    shape = TensorShape(variable.shape)
    return {
        "name": variable.name,
        "container": variable.container,
        "shape": None if shape.ndims is None else shape.as_list(),
        "dtype": as_dtype(int(variable.dtype)).name,
        "task": variable.task,
        "bytes": variable.bytes,
        "initialized": variable.initialized,
    }


def name_text(row: dict[str, Any]) -> str:
    """A variable's name, with its container if that is not the default one."""
    return f"{row['container']}:{row['name']}" if row["container"] else row["name"]


def shape_text(row: dict[str, Any]) -> str:
    """A variable's shape, as people write it."""
    return "unknown" if row["shape"] is None else str(row["shape"])


def variables(target: str, timeout_s: float, *, as_json: bool) -> None:
    """Prints a server's variables.

    Raises:
        ValueError: the target is malformed.
        NotReachedError: the server could not be asked.
        OpError: it failed.
    """
    rows = [variable_row(variable) for variable in Target(target).variables(timeout_s)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("name", "shape", "dtype", "task", "bytes", "initialized", box=None)
    table.columns[4].justify = "right"
    for row in rows:
        state = "yes" if row["initialized"] else "no"
        name, shape = Text(name_text(row)), Text(shape_text(row))
        table.add_row(name, shape, row["dtype"], row["task"], f"{row['bytes']:,}", state)
    Console(soft_wrap=True).print(table)


def status(target: str, timeout_s: float, *, as_json: bool) -> None:
    """Prints who a server is and how it does; raises as `variables` does."""
    answer = Target(target).describe(timeout_s)
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
