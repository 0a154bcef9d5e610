"""What the benchmarks know of processes: their descendants, CPU time and memory, from /proc.

Peers start processes of their own (Ray starts a dozen), so a peer is always a tree. Orphans of a
tree become children of the benchmark itself (`adopt_orphans`), so that none of them is lost sight
of, and nothing else on the machine is ever touched.

Thread rule: any thread; nothing is kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_GRACE_S: Final = 10.0


class ProcessId(NamedTuple):
    """A process, and when it started: numbers are used again."""

    pid: int
    started: int


class _Stat(NamedTuple):
    parent: int
    cpu_ticks: int
    started: int
    is_ended: bool


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """This process gets SIGTERM when its parent ends, even after an exec."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def tree(roots: Iterable[int]) -> list[ProcessId]:
    """The processes of these numbers that live, and their descendants."""
    found = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    alive = {pid: stat for pid, stat in found.items() if stat is not None and not stat.is_ended}
    children: dict[int, list[int]] = {}
    for pid, stat in alive.items():
        children.setdefault(stat.parent, []).append(pid)
    members: list[ProcessId] = []
    waiting = [pid for pid in roots if pid in alive]
    while waiting:
        pid = waiting.pop()
        members.append(ProcessId(pid, alive[pid].started))
        waiting += children.get(pid, [])
    return members


def cpu_s(members: Iterable[ProcessId]) -> float:
    """User and system time that these have spent, in steps of the kernel's tick (10 ms)."""
    stats = [_stat(member.pid) for member in members]
    return sum(stat.cpu_ticks for stat in stats if stat is not None) / _TICKS_PER_S


def memory_bytes(members: Iterable[ProcessId]) -> int:
    """Memory of these; a page that several processes share counts for each in part."""
    total = 0
    for member in members:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member.pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def end(members: Iterable[ProcessId]) -> None:
    """Asks these to end, and kills those that have not after a while."""
    left = _signal(members, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = [member for member in left if _is_alive(member)]
    _signal(left, signal.SIGKILL)


def reap(members: Iterable[ProcessId]) -> None:
    """Takes note of the end of those that were adopted, which would remain as zombies."""
    for member in members:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(member.pid, os.WNOHANG)


def _signal(members: Iterable[ProcessId], number: signal.Signals) -> list[ProcessId]:
    alive = [member for member in members if _is_alive(member)]
    for member in alive:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member.pid, number)
    return alive


def _is_alive(member: ProcessId) -> bool:
    stat = _stat(member.pid)
    return stat is not None and stat.started == member.started and not stat.is_ended


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name may hold anything, spaces and brackets too; what follows it is fields 3 and on.
    fields = text.rpartition(")")[2].split()
    return _Stat(
        parent=int(fields[1]),
        cpu_ticks=int(fields[11]) + int(fields[12]),
        started=int(fields[19]),
        is_ended=fields[0] in "ZX",
    )
