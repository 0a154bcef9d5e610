"""Measures paramserve beside what a user would pick instead.

    python -m benchmarks                        everything; writes docs/performance.*
    python -m benchmarks --quick                tiny sizes, one round: do the programs work?
    python -m benchmarks --only 'push-*'        some workloads; names are printed by --list
    python -m benchmarks --peers shm,torch      some peers

What a run did is checked: every push must have been applied, once. Ctrl-C ends all processes that
it started. Ratios within one run mean something; the same machine may be twice as fast an hour
later.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import processes, report
from benchmarks.clusters import ROOT, Cluster, PeerError
from benchmarks.footprint import import_times, start_times
from benchmarks.measuring import measure
from benchmarks.peers import PEERS
from benchmarks.plot import draw
from benchmarks.workloads import Workload, curves, rows

DOCS = ROOT / "docs"
GIB = 1 << 30

IMPORTS = "imports"
"""The name, on the command line, of what is measured beside the workloads."""


def workloads(*, is_quick: bool) -> list[Workload]:
    """Everything that is measured, smallest groups first: memory that was freed is used again."""
    if is_quick:
        points = curves(
            nbytes=[1 << 10, 1 << 16],
            variables=[1, 20],
            workers=[1, 2],
            servers=[1, 2],
            shared_elements=10_000,
        )
        table = rows(large=100_000, table=4096, many=20, workers=2)
    else:
        # A peer has the variable, and gradients and copies of it.
        has_room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") > 8 * GIB
        points = curves(
            nbytes=[1 << 10, 1 << 14, 1 << 18, 1 << 22, 1 << 26, *([GIB] if has_room else [])],
            variables=[1, 10, 100, 1000, 10_000],
            workers=[1, 2, 4, 8, 16],
            servers=[1, 2, 4],
        )
        table = rows()
    return sorted([*points, *table], key=lambda w: w.curve != "variables")


def phase(workload: Workload) -> str:
    """Workloads of one phase use the same processes."""
    if workload.curve in ("workers", "servers"):
        return workload.curve
    return "workers" if workload.workers > 1 else "rows"


def fits(name: str, workload: Workload) -> bool:
    """Whether a peer does a workload in a reasonable time."""
    peer = PEERS[name]
    return (
        (peer.workloads is None or workload.name in peer.workloads)
        and workload.group.count <= peer.max_variables
        and workload.workers <= peer.max_workers
    )


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run_all(chosen: list[Workload], names: list[str], *, is_quick: bool) -> report.Run:
    """Measures; starts the processes of each phase, and ends them."""
    run = report.Run()
    for part in ("rows", "workers", "servers"):
        todo = [workload for workload in chosen if phase(workload) == part]
        if not todo:
            continue
        servers = max(workload.group.servers for workload in todo)
        with contextlib.ExitStack() as stack:
            clusters = []
            for name in [name for name in names if name not in run.not_started]:
                own = [workload for workload in todo if fits(name, workload)]
                if not own:
                    continue
                workers = max(workload.workers for workload in own)
                say(f"starting {name}: servers {servers}, workers {workers}")
                cluster = Cluster(name, PEERS[name], servers=servers, workers=workers)
                try:
                    clusters.append(stack.enter_context(cluster))
                except PeerError as failure:
                    say(f"{name} does not start: {failure}")
                    run.not_started[name] = failure.brief
            if part == "rows":
                run.starts_s = start_times(clusters)
            for workload in todo:
                able = [cluster for cluster in clusters if fits(cluster.name, workload)]
                is_row = not workload.curve
                run.measurements.append(
                    measure(
                        able,
                        workload,
                        rounds=1 if is_quick else 5 if is_row else 3,
                        round_s=0.0 if is_quick else 0.25 if is_row else 0.1,
                        is_quick=is_quick,
                        say=say,
                    )
                )
                failed = run.measurements[-1].results
                clusters = [
                    c for c in clusters if c.name not in failed or not failed[c.name].failure
                ]
    return run


def main() -> int:
    """Runs the command line; answers the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    installed = [name for name, peer in PEERS.items() if peer.is_installed]
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round")
    parser.add_argument("--only", action="append", metavar="NAME", help="a workload or pattern")
    parser.add_argument("--peers", default=",".join(installed), help="default: %(default)s")
    parser.add_argument("--output", type=Path, help="the folder for performance.{md,json,svg}")
    parser.add_argument("--list", action="store_true", help="print the workloads and end")
    options = parser.parse_args()

    def is_chosen(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in options.only or ["*"])

    chosen = [w for w in workloads(is_quick=options.quick) if is_chosen(w.name)]
    names = options.peers.split(",")
    unknown = [name for name in names if name not in installed]
    if unknown or not (chosen or is_chosen(IMPORTS)):
        known = f"installed are {', '.join(installed)}"
        parser.error(f"no peer {unknown[0]!r}; {known}" if unknown else "no such workload")
    if options.list:
        print("\n".join(f"{workload.name:20}{workload.title}" for workload in chosen))
        if is_chosen(IMPORTS):
            print(f"{IMPORTS:20}time to import each package")
        return 0
    is_whole = not options.quick and not options.only and names == installed
    processes.adopt_orphans()
    try:
        run = run_all(chosen, names, is_quick=options.quick)
        if is_chosen(IMPORTS):
            packages = [PEERS[name].package for name in names]
            run.imports_s = import_times(packages, 1 if options.quick else 3, say)
    except KeyboardInterrupt:
        print("interrupted; its processes have ended, nothing is written", file=sys.stderr)
        return 130
    folder = options.output or (DOCS if is_whole else None)
    write(run, folder)
    return 0 if run.is_right else 1


def write(run: report.Run, folder: Path | None) -> None:
    """Prints the tables, and writes them and the figures into a folder if one is given."""
    if folder is None:
        print(report.as_markdown(run, None))
        return
    folder.mkdir(parents=True, exist_ok=True)
    has_picture = draw(run.measurements, folder / "performance.svg")
    text = report.as_markdown(run, "performance.svg" if has_picture else None)
    page = folder / "performance.md"
    if not page.exists():
        page.write_text(f"# Performance\n\n{report.BEGIN}\n{report.END}\n")
    report.put_into(page, text)
    (folder / "performance.json").write_text(report.as_json(run))
    print(text)


if __name__ == "__main__":
    sys.exit(main())
