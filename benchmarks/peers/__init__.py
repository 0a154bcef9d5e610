"""What paramserve is measured against: one module each, and the table of them.

Each is used as its own documentation recommends, and where that leaves a choice, in the faster way.
A module starts servers (`serve`) and gives access to them (`connect`); see `benchmarks.worker`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One column of a table.

    Attributes:
        title: its head.
        module: in `benchmarks.peers`.
        package: what must be installed.
        extra: another package that must be.
        environment: variables that choose how it works.
        serves_alone: whether one process starts all servers.
        spins: whether its processes use CPU time while they wait; they are stopped while others are
            measured.
        compiles_s: after so many seconds of updates of a kind, they are compiled, if ever.
        workloads: the names of what it is measured with; None: everything.
        max_variables: more take minutes to make.
        max_workers: more take minutes to start.
    """

    title: str
    module: str
    package: str
    extra: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    serves_alone: bool = False
    spins: bool = False
    compiles_s: float = 0.0
    workloads: frozenset[str] | None = None
    max_variables: int = 10_000
    max_workers: int = 16

    @property
    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        packages = [self.package, self.extra] if self.extra else [self.package]
        return all(importlib.util.find_spec(package) is not None for package in packages)


_COMPILES_S: Final = 5.0

PEERS: Final[Mapping[str, Peer]] = {
    "shm": Peer(
        title="paramserve",
        module="paramserve",
        package="paramserve",
        environment={"PARAMSERVE_TRANSPORT": "shm"},
        compiles_s=_COMPILES_S,
    ),
    "grpc": Peer(
        title="paramserve, TCP",
        module="paramserve",
        package="paramserve",
        environment={"PARAMSERVE_TRANSPORT": "grpc"},
        compiles_s=_COMPILES_S,
    ),
    "numpy": Peer(
        title="paramserve without [fast]",
        module="paramserve",
        package="paramserve",
        extra="numba",
        environment={"PARAMSERVE_TRANSPORT": "shm", "PARAMSERVE_FAST": "0"},
        workloads=frozenset({"push-sgd", "push-adam", "gather", "scatter"}),
    ),
    "torch": Peer(
        title="torch RPC", module="torch_rpc", package="torch", spins=True, max_workers=4
    ),
    "torch-tcp": Peer(
        title="torch RPC, TCP",
        module="torch_rpc",
        package="torch",
        environment={"BENCHMARK_TENSORPIPE": "tcp"},
        max_workers=4,
    ),
    "tensorflow": Peer(
        title="TensorFlow",
        module="tensorflow",
        package="tensorflow",
        environment={"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""},
        max_variables=1000,
        max_workers=4,
    ),
    "ray": Peer(
        title="Ray",
        module="ray_actor",
        package="ray",
        environment={"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"},
        serves_alone=True,
        max_workers=8,
    ),
}
"""By their names on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A column of ours, and who it is compared with: those that may use the same means.

    Attributes:
        ours: the peer that is compared.
        title: of the table.
        others: with whom.
        beside: other columns of ours, which are not compared.
    """

    ours: str
    title: str
    others: tuple[str, ...]
    beside: tuple[str, ...] = ()


MATCHES: Final = (
    Match(
        ours="shm",
        title="On one host",
        others=("torch", "torch-tcp", "tensorflow", "ray"),
        beside=("numpy",),
    ),
    Match(ours="grpc", title="Over TCP", others=("torch-tcp", "tensorflow")),
)
"""TensorFlow's servers speak TCP on one host too. Ray has nothing but shared memory there."""
