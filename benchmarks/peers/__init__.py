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
        environment: variables that choose how it works.
        serves_alone: whether one process starts all servers.
        spins: whether its processes use CPU time while they wait; they are stopped while others are
            measured.
        max_variables: more take minutes to make.
        max_workers: more take minutes to start.
    """

    title: str
    module: str
    package: str
    environment: Mapping[str, str] = field(default_factory=dict)
    serves_alone: bool = False
    spins: bool = False
    max_variables: int = 10_000
    max_workers: int = 16

    @property
    def is_installed(self) -> bool:
        """Whether it can be measured here."""
        return importlib.util.find_spec(self.package) is not None


PEERS: Final[Mapping[str, Peer]] = {
    "shm": Peer(
        title="paramserve",
        module="paramserve",
        package="paramserve",
        environment={"PARAMSERVE_TRANSPORT": "shm"},
    ),
    "grpc": Peer(
        title="paramserve, TCP",
        module="paramserve",
        package="paramserve",
        environment={"PARAMSERVE_TRANSPORT": "grpc"},
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
    """A column of ours, and who it is compared with: those that may use the same means."""

    ours: str
    title: str
    others: tuple[str, ...]


MATCHES: Final = (
    Match(ours="shm", title="On one host", others=("torch", "torch-tcp", "tensorflow", "ray")),
    Match(ours="grpc", title="Over TCP", others=("torch-tcp", "tensorflow")),
)
"""TensorFlow's servers speak TCP on one host too. Ray has nothing but shared memory there."""
