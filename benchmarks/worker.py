"""The processes of a peer: `python -m benchmarks.worker MODULE server|worker PLACE`.

A peer's module offers `serve`, which is a server until the process is told to end, and `connect`,
which answers a `Client`. This module does the rest, the same for every peer: it obeys lines of JSON
on standard input, times the acts, and checks the results. One line of JSON is the answer to each.

Only the act is timed. What it needs (gradients, numbers of rows) is made before, in the peer's own
type. What was pulled is kept until the next pull, as a training loop does that computes with it.

Thread rule: one thread.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

import numpy as np
from benchmarks import processes
from benchmarks.workloads import ADAM_RATE, SGD_RATE, Act, Group, Update
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Who this process is among the processes of its peer.

    Attributes:
        index: the number of the server or worker.
        servers: how many there are.
        workers: how many there are.
        ports: free ones: one for each server, one for each worker, and one more.
        addresses: what the servers answered when they were ready; workers only.
    """

    index: int
    servers: int
    workers: int
    ports: list[int]
    addresses: list[str] = field(default_factory=list)


class Tensors(Protocol):
    """A group of variables as one worker has it."""

    def add(self) -> float:
        """Adds one to the only variable; answers its new value."""

    def gradients(self) -> Any:
        """Ones for every variable, made for `push`."""

    def index(self, rows: Array) -> Any:
        """Numbers of rows, made for `gather` and `scatter_sub`."""

    def updates(self, values: Array) -> Any:
        """Values for rows, made for `scatter_sub`."""

    def pull(self) -> Any:
        """Fetches every variable."""

    def push(self, gradients: Any) -> None:
        """Applies gradients; returns when that is done."""

    def gather(self, rows: Any) -> Any:
        """Fetches rows of the only variable."""

    def scatter_sub(self, rows: Any, updates: Any) -> None:
        """Subtracts from rows of the only variable; returns when that is done."""

    def arrays(self, pulled: Any) -> list[Array]:
        """What `pull` or `gather` answered, without a copy."""

    def close(self, *, drop: bool) -> None:
        """The group is used no longer; `drop`: by nobody."""


class Client(Protocol):
    """A worker's access to the servers."""

    def open(self, group: Group, *, create: bool) -> Tensors:
        """Uses a group; `create`: and makes it first."""

    def close(self) -> None:
        """Ends the access."""


class Worker:
    """Does what it is told with one group at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._tensors: Tensors
        self._group: Group
        self._steps: dict[Act, Callable[[], object]] = {}
        self._held: Any = None

    def open(self, group: dict[str, Any], create: bool) -> None:
        """Uses a group from now on."""
        self._group = Group(
            **{**group, "shape": tuple(group["shape"]), "update": Update(group["update"])}
        )
        self._tensors = self._client.open(self._group, create=create)
        if self._group.update is Update.ROWS and create:
            rows = self._group.row_sets().reshape(-1)
            self._tensors.scatter_sub(
                self._tensors.index(rows), self._tensors.updates(self._numbers(-rows))
            )
        self._steps.clear()

    def act(self, act: str, repetitions: int) -> dict[str, Any]:
        """Does one act so many times; answers when each of them began, and the end."""
        step = self._steps.get(Act(act))
        if step is None:
            step = self._steps[Act(act)] = self._step(Act(act))
        clock = time.perf_counter
        times = [clock()]
        for _ in range(repetitions):
            step()
            times.append(clock())
        return {"times": times}

    def check(self, updates: int) -> str:
        """What is wrong with the group, after so many updates by all workers; "" if nothing is."""
        tensors, group = self._tensors, self._group
        if group.update is Update.COUNT:
            return _difference("the counter", np.asarray(tensors.add()), updates + 1)
        if group.update is Update.ROWS:
            for number, rows in enumerate(group.row_sets()):
                times = len(range(number, updates, len(group.row_sets())))
                found = tensors.arrays(tensors.gather(tensors.index(rows)))[0]
                wrong = _difference("rows", found, self._numbers(rows) - SGD_RATE * times)
                if wrong:
                    return wrong
            return ""
        pulled = tensors.arrays(tensors.pull())
        if [array.shape for array in pulled] != [group.shape] * group.count:
            return f"pulled {len(pulled)} variables, the first of shape {pulled[0].shape}"
        is_adam = group.update is Update.ADAM
        rate, slack = (ADAM_RATE, ADAM_RATE / 4) if is_adam else (SGD_RATE, 0.0)
        wrongs = (_difference("a variable", array, -rate * updates, slack) for array in pulled)
        return next(filter(None, wrongs), "")

    def close(self, drop: bool) -> None:
        """Uses the group no longer."""
        self._steps.clear()
        self._held = None
        self._tensors.close(drop=drop)

    def _numbers(self, rows: Array) -> Array:
        """Rows that hold their own numbers."""
        values = np.empty((rows.size, *self._group.shape[1:]), np.float32)
        values[...] = rows.reshape(-1, *[1] * (values.ndim - 1))
        return values

    def _step(self, act: Act) -> Callable[[], object]:
        tensors = self._tensors
        if act is Act.ADD:
            return tensors.add
        if act in (Act.PULL, Act.READ):
            return self._pull if act is Act.PULL else self._read
        if act in (Act.PUSH, Act.STEP):
            gradients = tensors.gradients()

            def push() -> None:
                tensors.push(gradients)

            def step() -> None:
                self._pull()
                tensors.push(gradients)

            return push if act is Act.PUSH else step
        sets = self._group.row_sets()
        turns = itertools.cycle([tensors.index(rows) for rows in sets])
        values = np.full((len(sets[0]), *self._group.shape[1:]), SGD_RATE, np.float32)
        updates = tensors.updates(values)

        def gather() -> None:
            self._held = tensors.gather(next(turns))

        def scatter() -> None:
            tensors.scatter_sub(next(turns), updates)

        return gather if act is Act.GATHER else scatter

    def _pull(self) -> None:
        self._held = self._tensors.pull()

    def _read(self) -> None:
        self._held = self._tensors.pull()
        for array in self._tensors.arrays(self._held):
            np.add.reduce(array, axis=None)


def _difference(what: str, found: Array, expected: Array | float, slack: float = 0.0) -> str:
    wrong = np.abs(found - expected) > slack
    if not wrong.any():
        return ""
    values = np.broadcast_to(np.asarray(expected), found.shape)
    return (
        f"{what}: {int(wrong.sum())} of {found.size} elements are wrong, "
        f"such as {found[wrong].flat[0]}, which should be {values[wrong].flat[0]}"
    )


def obey(client: Client, commands: Iterable[str], answers: TextIO) -> None:
    """Does what the lines ask for, until they end."""
    worker = Worker(client)
    for line in commands:
        command = json.loads(line)
        answer = getattr(worker, command.pop("do"))(**command)
        print(json.dumps(answer), file=answers, flush=True)


def main() -> None:
    """Runs one process of a peer."""
    module, role, place = sys.argv[1:]
    processes.end_with_parent()
    # Libraries print what they like; answers keep a pipe of their own.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    peer = importlib.import_module(f"benchmarks.peers.{module}")
    if role == "server":
        peer.serve(Place(**json.loads(place)), answers)
    else:
        client: Client = peer.connect(Place(**json.loads(place)))
        print(json.dumps("ready"), file=answers, flush=True)
        obey(client, sys.stdin, answers)
        client.close()


if __name__ == "__main__":
    main()
