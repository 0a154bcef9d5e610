"""Where a program of a test runs: in process, on a server, or across two servers.

A test that takes the fixture `place` makes its sessions with it. `everywhere` gives every case in
process, and each third of a table, which is a third of each family in it, on servers too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import paramserve as ps

IN_PROCESS = "in process"
ON_A_SERVER = "on a server"
ON_TWO_SERVERS = "on two servers"
PLACES = [IN_PROCESS, ON_A_SERVER, ON_TWO_SERVERS]
SHARE = 3


def everywhere(cases: Iterable[Any], ids: Sequence[str] | None = None) -> list[Any]:
    """Parameters (case, place): each case in process, and one of three on servers too."""
    found = []
    for number, case in enumerate(cases):
        name = ids[number] if ids is not None else str(case)
        for place in PLACES if number % SHARE == 0 else PLACES[:1]:
            suffix = "" if place == IN_PROCESS else f" {place}"
            found.append(pytest.param(case, place, id=f"{name}{suffix}"))
    return found


class Place:
    """Where sessions run, and how the ops of a graph are spread there."""

    def __init__(self, target: str | ps.train.ClusterSpec) -> None:
        self.target = target

    def session(self, graph: ps.Graph | None = None) -> ps.Session:
        """A session of this place."""
        return ps.Session(self.target, graph)

    @contextmanager
    def devices(self, spread: bool = True) -> Iterator[None]:
        """Puts each op of the block onto another server than the one before it.

        Args:
            spread: put them all onto one server instead.
        """
        if isinstance(self.target, str):
            yield
            return
        tasks = itertools.cycle(self.target.task_indices("ps"))
        each = (lambda op: f"/job:ps/task:{next(tasks)}") if spread else "/job:ps/task:1"
        # Of the graph that is the default one now, not where the context was made.
        with ps.device(each):
            yield

    def reset(self) -> None:
        """Forgets what the servers have."""
        if not isinstance(self.target, str):
            for address in self.target.job_tasks("ps"):
                ps.Session.reset(f"grpc://{address}")
        elif self.target:
            ps.Session.reset(self.target)


@contextmanager
def cluster(count: int) -> Iterator[ps.train.ClusterSpec]:
    """So many parameter servers in this process; answers their cluster."""
    with ExitStack() as stack:
        addresses = {}
        for index in range(count):
            server = ps.train.Server({"ps": {index: "localhost:0"}}, "ps", index)
            stack.callback(server.stop)
            addresses[index] = server.target.removeprefix("grpc://")
        yield ps.train.ClusterSpec({"ps": addresses})
