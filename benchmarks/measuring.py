"""Takes the measurements: peers in turns, round after round.

All peers have their variables at the same time and each round goes over all of them, so a machine
that slows down slows everybody, and a round's ratios are fair however the rounds differ. The
figure of a round is the median of its repetitions, as many as fill the time that a round has.
Only what is too large for that is done by one peer after another.

Thread rule: one thread.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks import processes
from benchmarks.clusters import Cluster, PeerError
from benchmarks.workloads import Workload

_WARM_UP: Final = 3
"""Acts at least before any is counted: memory is touched, pools fill, plans are made."""

_MOST_REPETITIONS: Final = 1000

_ONE_AT_A_TIME_BYTES: Final = 1 << 29
"""So much is held by one peer at a time: with gradients and copies, six times it is too much."""


@dataclass(slots=True, kw_only=True)
class Result:
    """A peer's figures for one workload.

    Attributes:
        rounds_s: the median of each round.
        warm_up: acts of each worker before any was counted.
        repetitions: acts of each worker in a round.
        worker_cpu_s: CPU time of all worker processes in one act.
        server_cpu_s: and of all server processes.
        worker_bytes: memory of the worker processes while they have the group.
        server_bytes: and of the server processes.
        failure: what went wrong; then there are no figures.
    """

    rounds_s: list[float] = field(default_factory=list)
    warm_up: int = 0
    repetitions: int = 0
    worker_cpu_s: float = 0.0
    server_cpu_s: float = 0.0
    worker_bytes: int = 0
    server_bytes: int = 0
    failure: str = ""

    @property
    def median_s(self) -> float:
        """The figure of the workload."""
        return statistics.median(self.rounds_s)


@dataclass(slots=True, kw_only=True)
class Measurement:
    """What all peers did with one workload.

    Attributes:
        results: by the name of the peer.
        load: of the machine (the average of a minute), before and after.
    """

    workload: Workload
    results: dict[str, Result]
    load: tuple[float, float]


def spread(figures: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(figures) == 1:
        return figures[0], figures[0], figures[0]
    low, middle, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, middle, high


def ratios(measurement: Measurement, ours: str, others: tuple[str, ...]) -> list[float]:
    """How many times faster we are than the best of the others, round by round."""
    results = measurement.results
    rivals = [results[o].rounds_s for o in others if o in results and results[o].rounds_s]
    if not rivals or ours not in results:
        return []
    best = [min(times) for times in zip(*rivals, strict=True)]
    return [b / own for b, own in zip(best, results[ours].rounds_s, strict=False)]


def measure(
    clusters: list[Cluster],
    workload: Workload,
    *,
    rounds: int,
    round_s: float,
    is_quick: bool,
    say: Callable[[str], None],
) -> Measurement:
    """Lets every cluster do a workload, in turns, and checks what each of them did.

    A cluster that fails is ended and leaves the list; its result says why.

    Args:
        clusters: the peers.
        workload: what they do.
        rounds: how many turns each has.
        round_s: seconds of a turn.
        is_quick: whether nothing waits until it is compiled.
        say: told of each figure.
    """
    results = {cluster.name: Result() for cluster in clusters}
    load_before = os.getloadavg()[0]

    def each(do: Callable[[Cluster, Result], None], turn: int = 0) -> None:
        shift = turn % max(len(clusters), 1)
        for cluster in [*clusters[shift:], *clusters[:shift]]:
            try:
                with cluster.awake():
                    do(cluster, results[cluster.name])
            except PeerError as failure:
                say(f"{workload.title}: {failure}")
                results[cluster.name] = Result(failure=failure.brief)
                clusters.remove(cluster)
                cluster.end()

    def begin(cluster: Cluster, result: Result) -> None:
        cluster.open(workload.group, workload.workers)
        left_s = 0.0 if is_quick else cluster.compile_s(workload)
        while not result.warm_up or left_s > 0:
            took = min(cluster.act(workload, _WARM_UP))
            result.warm_up += _WARM_UP
            left_s -= took * _WARM_UP
        result.repetitions = min(max(int(round_s / took), 1), _MOST_REPETITIONS)

    def turn(cluster: Cluster, result: Result) -> None:
        workers, servers = cluster.worker_tree(), cluster.server_tree()
        before = processes.cpu_s(workers), processes.cpu_s(servers)
        result.rounds_s.append(statistics.median(cluster.act(workload, result.repetitions)))
        acts = result.repetitions * rounds
        result.worker_cpu_s += (processes.cpu_s(workers) - before[0]) / acts
        result.server_cpu_s += (processes.cpu_s(servers) - before[1]) / acts

    def finish(cluster: Cluster, result: Result) -> None:
        result.worker_bytes = processes.memory_bytes(cluster.worker_tree())
        result.server_bytes = processes.memory_bytes(cluster.server_tree())
        acts = (result.warm_up + result.repetitions * rounds) * workload.workers
        cluster.check(acts if workload.act.is_update else 0)
        cluster.close(workload.workers)

    def all_rounds(cluster: Cluster, result: Result) -> None:
        begin(cluster, result)
        for _ in range(rounds):
            turn(cluster, result)
        finish(cluster, result)

    if workload.group.nbytes >= _ONE_AT_A_TIME_BYTES:
        each(all_rounds)
    else:
        each(begin)
        for number in range(rounds):
            each(turn, number)
        each(finish)
    for name, result in results.items():
        if not result.failure:
            say(f"{workload.title}: {name} {milliseconds(result.rounds_s)} ms")
    return Measurement(workload=workload, results=results, load=(load_before, os.getloadavg()[0]))


def milliseconds(rounds_s: list[float]) -> str:
    """A median and its quartiles."""
    low, middle, high = (figure * 1e3 for figure in spread(rounds_s))
    digits = 2 if middle < 10 else 1 if middle < 100 else 0
    return f"{middle:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"
