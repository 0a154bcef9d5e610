"""Training beside a save: the time of a step with and without one, on a server.

    python -m benchmarks.checkpoint.training_peer MODEL DIRECTORY

A step pulls one variable, computes a gradient of it here, pushes that, and waits until the server
has applied it (SGD). There are two kinds: steps that take turns over all variables of the model,
so that each meets one that the save may still hold and the server has to copy; and steps on one
variable. Every update is counted in the end, so none was lost to a save.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Final

import numpy as np
from benchmarks.checkpoint.clock import settle
from benchmarks.checkpoint.models import Model, model_of, say
from benchmarks.checkpoint.paramserve_peer import server

import paramserve as ps

_RATE: Final = 0.5
STEPS: Final = 60
"""Steps of a round without a save; with one, as many as it takes."""


class Training:
    def __init__(self, model: Model, directory: Path, target: str) -> None:
        self._nbytes = model.nbytes
        self._path = str(directory / "model")
        with ps.device("/job:ps/task:0"):
            variables = [
                ps.Variable(ps.zeros([model.elements]), name=f"v{i}")
                for i in range(model.variables)
            ]
            gradient = ps.placeholder(ps.float32, [model.elements])
            optimizer = ps.train.GradientDescentOptimizer(_RATE)
            updates = [optimizer.apply_gradients([(gradient, v)]) for v in variables]
        self._saver = ps.train.Saver(max_to_keep=1)
        cluster = ps.train.ClusterSpec({"ps": [target.removeprefix("grpc://")]})
        self._session = ps.Session(cluster)
        self._session.run(ps.initialize_all_variables())
        self._pulls = [self._session.make_callable(v) for v in variables]
        self._pushes = [self._session.make_callable(u, [gradient]) for u in updates]
        self._counts = [0] * model.variables
        self._gradient = np.empty(model.elements, np.float32)
        self._saves = 0

    def step(self, number: int) -> None:
        value = self._pulls[number]()
        # As one computes: every element is read, and the result has no more rounding than it.
        np.multiply(value, 0.0, out=self._gradient)
        self._gradient += 1.0
        del value
        self._pushes[number](self._gradient)
        self._counts[number] += 1

    def round(self, numbers: Iterator[int], *, is_saving: bool) -> dict[str, float]:
        """The steps of one round: their median, mean and longest, and the time of the save."""
        settle(self._nbytes)
        if not is_saving:
            return figures_of(self._seconds(numbers, lambda count: count < STEPS))
        self._saves += 1
        pending = self._saver.save(
            self._session, self._path, self._saves, write_meta_graph=False, block=False
        )
        seconds = self._seconds(numbers, lambda count: not count or not pending.done())
        pending.result()
        return figures_of(seconds)

    def _seconds(self, numbers: Iterator[int], goes_on: Callable[[int], bool]) -> list[float]:
        return seconds_of(lambda: self.step(next(numbers)), goes_on)

    def is_right(self) -> bool:
        """Whether every update was applied, once."""
        return all(
            bool(np.all(pull() == np.float32(-_RATE * count)))
            for pull, count in zip(self._pulls, self._counts, strict=True)
        )


def seconds_of(step: Callable[[], object], goes_on: Callable[[int], bool]) -> list[float]:
    """Seconds of each step, for as long as `goes_on` says, given how many were done."""
    seconds: list[float] = []
    while goes_on(len(seconds)):
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return seconds


def figures_of(seconds: list[float]) -> dict[str, float]:
    """What the tables show of some steps."""
    return {
        "median": statistics.median(seconds),
        "mean": statistics.fmean(seconds),
        "longest": max(seconds),
        "steps": len(seconds),
    }


def main() -> None:
    model, directory = model_of(sys.argv[1]), Path(sys.argv[2])
    with server(directory) as target:
        training = Training(model, directory, target)
        everywhere = cycle(range(model.variables))
        say("ready")
        for line in sys.stdin:
            which, how = line.split()
            numbers = everywhere if which == "turns" else cycle([0])
            seconds = training.round(numbers, is_saving=how == "saving")
            say({"seconds": seconds, "is_right": training.is_right()})


if __name__ == "__main__":
    main()
