"""Writes down what was measured: tables for people, a file of figures for programs.

Thread rule: one thread.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import Measurement, milliseconds, ratios, spread
from benchmarks.peers import MATCHES, PEERS, Match

BEGIN: Final = "<!-- what follows is written by python -m benchmarks -->"
END: Final = "<!-- end of what is written by python -m benchmarks -->"

_BUSY_LOAD: Final = 2.5
"""Of each core; a run by itself makes a load of one to two."""

_PACKAGES: Final = (
    *("paramserve", "numpy", "numba", "grpcio", "protobuf", "torch", "tensorflow-cpu", "ray"),
)


@dataclass(slots=True, kw_only=True)
class Run:
    """All that one run measured.

    Attributes:
        imports_s: seconds to import a package.
        starts_s: seconds until servers and workers were ready, by peer.
        not_started: peers that could not be measured, and why.
    """

    measurements: list[Measurement] = field(default_factory=list)
    imports_s: dict[str, float] = field(default_factory=dict)
    starts_s: dict[str, dict[str, float]] = field(default_factory=dict)
    not_started: dict[str, str] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether every peer started, and none failed."""
        results = (result for m in self.measurements for result in m.results.values())
        return not self.not_started and not any(result.failure for result in results)


def machine() -> dict[str, Any]:
    """Where a run was made, and with what."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def as_json(run: Run) -> str:
    """Every figure, seconds and bytes."""
    measurements = [
        {
            "workload": m.workload.name,
            "title": m.workload.title,
            "curve": m.workload.curve,
            "x": m.workload.x,
            "load": m.load,
            "results": {name: asdict(result) for name, result in m.results.items()},
        }
        for m in run.measurements
    ]
    whole = {
        "machine": machine(),
        "imports_s": run.imports_s,
        "starts_s": run.starts_s,
        "not_started": run.not_started,
        "measurements": measurements,
    }
    return json.dumps(_rounded(whole), indent=1) + "\n"


def _rounded(value: Any) -> Any:
    """Seven digits are enough, and make the file a third of the size."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def as_markdown(run: Run, picture: str | None) -> str:
    """The tables, and the picture of the curves if there is one."""
    rows = [m for m in run.measurements if not m.workload.curve]
    parts = [_match(rows, match) for match in MATCHES]
    parts += [_cpu(rows)]
    if picture:
        parts.append(f"### As it grows\n\n![Growth curves]({picture})")
    parts += [_points(run.measurements), _footprint(run)]
    parts += [f"{PEERS[name].title} did not start: {why}" for name, why in run.not_started.items()]
    parts.append(_circumstances(run))
    return "\n\n".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _peers_of(measurements: Sequence[Measurement]) -> list[str]:
    return [name for name in PEERS if any(name in m.results for m in measurements)]


def _figure(measurement: Measurement, name: str) -> str:
    result = measurement.results.get(name)
    if result is None:
        return ""
    return "failed" if result.failure else milliseconds(result.rounds_s)


def _ratio(measurement: Measurement, match: Match) -> str:
    found = ratios(measurement, match.ours, match.others)
    if not found:
        return ""
    low, middle, high = spread(found)
    digits = 0 if middle >= 20 else 1
    return f"**{middle:.{digits}f}x** ({low:.{digits}f}–{high:.{digits}f})"


def _match(rows: Sequence[Measurement], match: Match) -> str:
    names = _peers_of(rows)
    if match.ours not in names:
        return ""
    others = [name for name in match.others if name in names]
    columns = [*others, *(name for name in match.beside if name in names), match.ours]
    head = ["ms", *(PEERS[name].title for name in columns)]
    head += ["faster than the best"] if others else []
    lines = [
        [m.workload.title, *(_figure(m, name) for name in columns)]
        + ([_ratio(m, match)] if others else [])
        for m in rows
    ]
    return f"### {match.title}\n\n{_table(head, lines)}"


def _cpu(rows: Sequence[Measurement]) -> str:
    names = _peers_of(rows)
    if not names:
        return ""

    def cell(measurement: Measurement, name: str) -> str:
        result = measurement.results.get(name)
        if result is None or result.failure:
            return ""
        return f"{result.worker_cpu_s * 1e3:.2f} + {result.server_cpu_s * 1e3:.2f}"

    lines = [[m.workload.title, *(cell(m, name) for name in names)] for m in rows]
    head = ["ms of CPU, workers + servers", *(PEERS[name].title for name in names)]
    return f"### CPU time\n\n{_table(head, lines)}"


def _points(measurements: Sequence[Measurement]) -> str:
    points = [m for m in measurements if m.workload.curve]
    names = _peers_of(points)
    if not points:
        return ""
    head = ["ms: pull and push", *(PEERS[name].title for name in names)]
    return _table(head, [[m.workload.title, *(_figure(m, name) for name in names)] for m in points])


def variable_bytes(measurements: Sequence[Measurement], name: str) -> dict[str, float]:
    """Memory that a variable costs beside its elements, from the ends of the variables' curve.

    Returns:
        `server` and `worker`; nothing when the peer has no such points.
    """
    points = [
        m
        for m in measurements
        if m.workload.curve == "variables" and name in m.results and m.results[name].rounds_s
    ]
    if len(points) < 2:
        return {}
    first, last = points[0], points[-1]
    more = last.workload.x - first.workload.x
    elements = last.workload.group.nbytes / last.workload.x
    before, after = first.results[name], last.results[name]
    return {
        "server": (after.server_bytes - before.server_bytes) / more - elements,
        "worker": (after.worker_bytes - before.worker_bytes) / more - elements,
    }


def _footprint(run: Run) -> str:
    if not run.starts_s:
        return ""
    lines = []
    for name, start in run.starts_s.items():
        peer = PEERS[name]
        imported = run.imports_s.get(peer.package)
        beside = variable_bytes(run.measurements, name)
        lines.append(
            [
                peer.title,
                "" if imported is None else f"{imported:.2f}",
                f"{start['server_s']:.2f}",
                f"{start['worker_s']:.2f}",
                *(f"{beside[role] / 1024:.1f}" if beside else "" for role in ("server", "worker")),
            ]
        )
    head = [
        *("", "import (s)", "server ready (s)", "worker ready (s)"),
        *("KiB a variable, server", "KiB a variable, worker"),
    ]
    return f"### Before the first step\n\n{_table(head, lines)}"


def _circumstances(run: Run) -> str:
    where = machine()
    loads = [load for m in run.measurements for load in m.load] or [0.0]
    versions = ", ".join(f"{package} {v}" for package, v in where["versions"].items())
    has_fast = "numba" in where["versions"]
    text = (
        f"{where['date']}, {where['cores']} cores, {where['memory_bytes'] / 2**30:.0f} GiB, "
        f"{where['system']}, Python {where['python']}, {versions}. paramserve ran "
        f"{'with' if has_fast else 'without'} its extra [fast]. Load average during the run: "
        f"{min(loads):.1f} to {max(loads):.1f}."
    )
    if statistics.median(loads) > _BUSY_LOAD * where["cores"]:
        text += (
            " **The machine was busy with other work**, which makes every time long and favours "
            "peers that hand over between threads seldom: of this run, trust the CPU times, and "
            "measure the others again on a machine that is idle."
        )
    return text


def put_into(page: Path, text: str) -> None:
    """Replaces what an earlier run wrote into a page.

    Raises:
        ValueError: the page does not say where.
    """
    old = page.read_text()
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page}: needs the lines {BEGIN!r} and {END!r}, to write between them")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
