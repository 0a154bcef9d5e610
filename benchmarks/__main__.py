"""Measures paramserve beside what a user would pick instead, and writes `docs/performance.md`.

    python -m benchmarks              all peers that are installed
    python -m benchmarks --check      one short round, nothing written: do the programs work?

All peers are started first and then take turns, round after round, so that a machine that slows
down slows everybody. The figure of a round is its median; a row shows the median of the rounds,
and how far they spread. What a run did is checked: every push must have been applied.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.workloads import WORKLOADS

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "performance.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One column of the table.

    Attributes:
        title: its head.
        package: what must be installed.
        program: the module in `benchmarks.peers`.
        environment: variables that choose how the program works.
    """

    title: str
    package: str
    program: str
    environment: Mapping[str, str] = field(default_factory=dict)


OURS: Final = ("shm", "grpc")
PEERS: Final = {
    "shm": Peer(
        title="paramserve, same host",
        package="paramserve",
        program="paramserve",
        environment={"PARAMSERVE_TRANSPORT": "shm"},
    ),
    "grpc": Peer(
        title="paramserve, gRPC",
        package="paramserve",
        program="paramserve",
        environment={"PARAMSERVE_TRANSPORT": "grpc"},
    ),
    "torch": Peer(title="torch RPC", package="torch", program="torch_rpc"),
}


@dataclass
class PeerProcess:
    """A peer's client program; its server is a child of that."""

    name: str
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        peer = PEERS[self.name]
        # OpenBLAS settings that some machines need for old builds slow a current NumPy.
        environment = {
            k: v
            for k, v in os.environ.items()
            if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.peers.{peer.program}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**environment, **peer.environment},
        )
        if self._answer() != "ready":
            raise SystemExit(f"{self.name} did not start; its messages are above")

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def do(self, workload: str, repetitions: int) -> None:
        """One round of a workload."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{workload} {repetitions}\n")
        self._process.stdin.flush()
        answer = json.loads(self._answer() or '{"is_right": false}')
        if not answer["is_right"]:
            raise SystemExit(f"{self.name}: {workload} gave a wrong result")
        self.rounds.setdefault(workload, []).append(statistics.median(answer["seconds"]))

    def end(self) -> None:
        """Lets the peer end its server and itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def measure(names: list[str], *, is_check: bool) -> list[PeerProcess]:
    """Runs every workload on every peer, in turns."""
    peers = []
    try:
        for name in names:
            peers.append(PeerProcess(name))  # noqa: PERF401 # those started are ended on error
        for workload, options in WORKLOADS.items():
            rounds = 1 if is_check else options.rounds
            repetitions = min(2, options.repetitions) if is_check else options.repetitions
            for _ in range(rounds + 1):
                for peer in peers:
                    peer.do(workload, repetitions)
            for peer in peers:
                del peer.rounds[workload][0]  # the first round warms up
                print(f"{workload}: {peer.name} {_figure(peer.rounds[workload])}", flush=True)
    finally:
        for peer in peers:
            peer.end()
    return peers


def _figure(rounds: list[float]) -> str:
    middle = statistics.median(rounds) * 1000
    low, high = min(rounds) * 1000, max(rounds) * 1000
    digits = 2 if middle < 10 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def table(peers: list[PeerProcess]) -> str:
    """The page's table: milliseconds, and how many times faster paramserve is than its peers."""
    titles = {peer.name: PEERS[peer.name].title for peer in peers}
    pairs = [(o, p) for p in peers if p.name not in OURS for o in peers if o.name in OURS]
    head = ["work", *(f"{title} (ms)" for title in titles.values())]
    head += [f"{titles[o.name].partition(', ')[2]} vs {titles[p.name]}" for o, p in pairs]
    rows = [head, ["---"] * len(head)]
    for name, workload in WORKLOADS.items():
        medians = {peer.name: statistics.median(peer.rounds[name]) for peer in peers}
        ratios = [f"{medians[p.name] / medians[o.name]:.1f}x" for o, p in pairs]
        rows.append([workload.title, *(_figure(p.rounds[name]) for p in peers), *ratios])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write(peers: list[PeerProcess]) -> None:
    """Puts the table and the raw figures where the documentation has them."""
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}"
        for package in ("paramserve", "numpy", "grpcio", "torch")
        if importlib.util.find_spec(package if package != "grpcio" else "grpc")
    )
    text = PAGE.read_text()
    begin, end = "<!-- table: written by python -m benchmarks -->", "<!-- end of table -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    made = (
        f"{table(peers)}\n\nMedians of {WORKLOADS['pull'].rounds} rounds, with the fastest and the "
        f"slowest round. {os.cpu_count()} cores, Python {platform.python_version()}, {versions}."
    )
    PAGE.write_text(f"{before}{begin}\n\n{made}\n\n{end}{after}")
    raw = {peer.name: peer.rounds for peer in peers}
    (PAGE.parent / "performance.json").write_text(json.dumps(raw, indent=1) + "\n")


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--check", action="store_true", help="one short round, nothing written")
    options = parser.parse_args()
    names = [n for n, peer in PEERS.items() if importlib.util.find_spec(peer.package)]
    peers = measure(names, is_check=options.check)
    print(table(peers))
    if not options.check:
        write(peers)


if __name__ == "__main__":
    main()
