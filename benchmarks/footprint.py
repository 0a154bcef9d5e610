"""What a peer costs before it does anything: the time to import it, and to start it.

Thread rule: one thread.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Final

from benchmarks.clusters import Cluster

_IMPORTS: Final[tuple[str, ...]] = ("numpy", "paramserve", "ray", "torch", "tensorflow")


def import_times(packages: list[str], rounds: int, say: Callable[[str], None]) -> dict[str, float]:
    """Seconds to import each package in a new process; an empty process' time is taken off.

    All are compiled before, as pip does when it installs a package.

    Args:
        packages: those of `_IMPORTS` among these are imported, and numpy.
        rounds: in turns; the answer is the median.
        say: told of each figure.
    """
    chosen = [name for name in _IMPORTS if name in packages or name == "numpy"]
    times: dict[str, list[float]] = {name: [] for name in ["", *chosen]}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for name in chosen:
            _import(name, environment)
        for _ in range(rounds):
            for name, taken in times.items():
                began = time.perf_counter()
                _import(name, environment)
                taken.append(time.perf_counter() - began)
    empty = statistics.median(times[""])
    found: dict[str, float] = {name: statistics.median(times[name]) - empty for name in chosen}
    for name, seconds in found.items():
        say(f"import {name}: {seconds:.2f} s")
    return found


def _import(name: str, environment: dict[str, str]) -> None:
    """Imports a package, if one is named, in a new process."""
    command = [sys.executable, "-c", f"import {name}" if name else "pass"]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)


def start_times(clusters: list[Cluster]) -> dict[str, dict[str, float]]:
    """Seconds until a server could be used, and until a worker could use it, by peer."""
    return {
        cluster.name: {"server_s": cluster.server_start_s, "worker_s": cluster.worker_start_s}
        for cluster in clusters
    }
