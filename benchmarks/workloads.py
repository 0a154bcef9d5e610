"""The workloads that every peer runs, and what each is measured in.

A peer is a program of its own (`benchmarks/peers`), which starts its server in another process and
then obeys lines on its standard input: the name of a workload and how often to do it. It answers
each with a line of JSON, the seconds of every repetition and whether the result was right.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

ELEMENTS: Final = 25_000_000
"""Elements of the large tensor: 100 MB of float32."""

LEARNING_RATE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One row of the table.

    Attributes:
        title: what is done once.
        repetitions: how often in one round.
        rounds: rounds per run, alternating between the peers.
    """

    title: str
    repetitions: int
    rounds: int


WORKLOADS: Final[dict[str, Workload]] = {
    "scalar": Workload(title="scalar update, round trip", repetitions=300, rounds=7),
    "pull": Workload(title="pull 100 MB", repetitions=5, rounds=7),
    "push": Workload(title="push 100 MB, SGD", repetitions=5, rounds=7),
}


class Peer(Protocol):
    """A client whose server is running."""

    def scalar(self) -> float:
        """Adds one to the shared counter; answers its new value."""

    def pull(self) -> float:
        """Fetches the large tensor into memory of its own; answers its last element."""

    def push(self) -> None:
        """Sends a gradient of ones; the server subtracts `LEARNING_RATE` times it."""

    def counter(self) -> float:
        """The counter's value."""


def obey(peer: Peer) -> None:
    """Runs what the lines on standard input ask for, until they end."""
    print("ready", flush=True)
    pushes = 0
    scalars = 0
    for line in sys.stdin:
        name, repetitions = line.split()
        count = int(repetitions)
        if name == "scalar":
            seconds = _timed(peer.scalar, count)
            scalars += count
            is_right = peer.counter() == scalars
        elif name == "pull":
            seconds = _timed(peer.pull, count)
            is_right = peer.pull() == -LEARNING_RATE * pushes
        else:
            seconds = _timed(peer.push, count)
            pushes += count
            is_right = peer.pull() == -LEARNING_RATE * pushes
        print(json.dumps({"seconds": seconds, "is_right": bool(is_right)}), flush=True)


def _timed(do: Callable[[], object], count: int) -> list[float]:
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        do()
        seconds.append(time.perf_counter() - began)
    return seconds
