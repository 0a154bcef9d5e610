"""Measures saves and restores, and writes `docs/performance-checkpoints.md`.

    python -m benchmarks.checkpoint            all of it, about ten minutes
    python -m benchmarks.checkpoint --quick    small models, nothing written: do the programs work?

The peers hold their models at the same time and take turns, round after round, on one disk. What
a restore brought back is compared with what was saved, and a training's variables with the count
of their updates.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.checkpoint.models import MODELS, QUICK, TRAINED, Model
from benchmarks.checkpoint.page import Figures, Run, tables, write
from benchmarks.processes import end_with_parent

ROOT: Final = Path(__file__).resolve().parents[2]

PROGRAMS: Final[dict[str, Sequence[str]]] = {
    "tensorflow": ("tensorflow_peer",),
    "in process": ("paramserve_peer",),
    "server": ("paramserve_peer", "server"),
    "disk": ("disk_peer",),
}
_TRAININGS: Final = {
    "training_peer": [(w, h) for w in ("turns", "same") for h in ("alone", "saving")],
    "control_peer": [("control", h) for h in ("alone", "saving")],
}
"""Which steps each program makes, and beside what."""


class PeerProcess:
    """A peer's program, which ends with the block."""

    def __init__(self, name: str, program: Sequence[str], model: Model, directory: Path) -> None:
        self.name = name
        # OpenBLAS settings that some machines need for old builds slow a current NumPy.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")}
        module, *options = program
        described = json.dumps(asdict(model))
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                f"benchmarks.checkpoint.{module}",
                described,
                directory,
                *options,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            preexec_fn=end_with_parent,
        )
        if self._answer() != "ready":
            raise SystemExit(f"{name} did not start; its messages are above")

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def do(self, line: str) -> dict[str, float]:
        """Seconds by the name of what they are of.

        Raises:
            SystemExit: the values were wrong, or the program ended.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if not answer or not answer["is_right"]:
            raise SystemExit(f"{self.name}: {line!r} went wrong")
        seconds: dict[str, float] = answer["seconds"]
        return seconds

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None


def measure(
    name: str, model: Model, rounds: int, directory: Path, *, beside_tensorflow: bool
) -> Figures:
    """Seconds of every round, by peer and by what was done."""
    is_compared = beside_tensorflow and model.is_compared
    names = [n for n in PROGRAMS if n != "tensorflow" or is_compared]
    found: Figures = {peer: {} for peer in names}
    with ExitStack() as stack:
        peers = []
        for peer in names:
            place = directory / name / peer.replace(" ", "-")
            place.mkdir(parents=True)
            peers.append(stack.enter_context(PeerProcess(peer, PROGRAMS[peer], model, place)))
        for number in range(rounds + 1):
            for line in ("save", "restore"):
                for process in peers:
                    seconds = process.do(line)
                    for what, took in seconds.items() if number else ():  # The first warms up.
                        found[process.name].setdefault(what, []).append(took)
            print(f"{model.title}: round {number} of {rounds}", flush=True)
    return found


def train(model: Model, rounds: int, directory: Path) -> Figures:
    """Figures of the steps of every round, by the kind of steps and how they were made."""
    found: Figures = {f"{w} {h}": {} for steps in _TRAININGS.values() for w, h in steps}
    place = directory / "training"
    place.mkdir()
    with ExitStack() as stack:
        processes = {
            program: stack.enter_context(PeerProcess(program, (program,), model, place))
            for program in _TRAININGS
        }
        for number in range(rounds + 1):
            for program, steps in _TRAININGS.items():
                for which, how in steps:
                    figures = processes[program].do(f"{which} {how}")
                    for what, figure in figures.items() if number else ():
                        found[f"{which} {how}"].setdefault(what, []).append(figure)
            print(f"training: round {number} of {rounds}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoint", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, one round")
    parser.add_argument("--rounds", type=int, default=5, help="how often each peer has its turn")
    parser.add_argument("--only", choices=[*MODELS, "training"], action="append", default=[])
    parser.add_argument("--alone", action="store_true", help="without TensorFlow")
    parser.add_argument("--directory", type=Path, help="on the disk that is to be measured")
    parser.add_argument("--output", type=Path, help="where to write; a full run: the docs")
    options = parser.parse_args(arguments)
    rounds = 1 if options.quick else options.rounds
    models = QUICK if options.quick else MODELS
    wanted = options.only or [*models, "training"]
    output = options.output
    if output is None and not options.quick and not options.only:
        output = ROOT / "docs"
    has_rival = not options.alone and importlib.util.find_spec("tensorflow") is not None
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="checkpoints-", dir=options.directory) as name:
        place = Path(name)
        saved = {
            n: measure(n, models[n], rounds, place, beside_tensorflow=has_rival)
            for n in models
            if n in wanted
        }
        trained = train(models[TRAINED], rounds, place) if "training" in wanted else {}
    figures = Run(saved=saved, trained=trained)
    print(tables(figures, models))
    if output is not None:
        write(output, figures, models, load)


if __name__ == "__main__":
    main()
