"""What the machine itself does to a step while a disk is written: the control of a training.

    python -m benchmarks.checkpoint.control_peer MODEL DIRECTORY

A step writes and reads a few megabytes of this process's memory, without a server, a message or a
lock. Beside it another process writes as many bytes as the model has, at the pace of a background
save, without reading any variable. What such a step loses is lost by every program on this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from benchmarks.checkpoint.clock import settle
from benchmarks.checkpoint.models import Model, model_of, say
from benchmarks.checkpoint.training_peer import STEPS, figures_of, seconds_of
from benchmarks.processes import end_with_parent

from paramserve_core.checkpoint.shard import BESIDE_OTHERS, CHUNK_BYTES

_TOUCHED_BYTES: Final = 8 << 20
_TOUCHES: Final = 32
"""Together as long as a step of a training, a few milliseconds."""


class Control:
    def __init__(self, model: Model, directory: Path) -> None:
        self._nbytes = model.nbytes
        self._path = directory / "plain"
        self._memory = np.ones(_TOUCHED_BYTES // 4, np.float32)

    def step(self) -> None:
        for _ in range(_TOUCHES):
            self._memory += 1.0

    def round(self, *, is_saving: bool) -> dict[str, float]:
        """The steps of one round: their median, mean and longest."""
        settle(self._nbytes)
        if not is_saving:
            return self._measure(lambda count: count < STEPS)
        self._path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.checkpoint.control_peer", "write"]
        writer = subprocess.Popen(
            [*command, self._path, str(self._nbytes)],
            stdout=subprocess.PIPE,
            preexec_fn=end_with_parent,
        )
        assert writer.stdout is not None
        writer.stdout.readline()  # It has begun, so its imports are not measured.
        figures = self._measure(lambda count: not count or writer.poll() is None)
        writer.stdout.close()
        if writer.wait():
            raise SystemExit(f"the disk's own writer failed at {self._path}")
        return figures

    def _measure(self, goes_on: Callable[[int], bool]) -> dict[str, float]:
        return figures_of(seconds_of(self.step, goes_on))


def write(path: Path, nbytes: int) -> None:
    """Writes a file as a background save does."""
    content = np.random.default_rng(0).bytes(CHUNK_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.posix_fallocate(descriptor, 0, nbytes)
    say("ready")
    unsent = 0
    for begin in range(0, nbytes, CHUNK_BYTES):
        piece = memoryview(content)[: nbytes - begin]
        _rest_after(partial(os.pwrite, descriptor, piece, begin), BESIDE_OTHERS.rests)
        unsent += len(piece)
        if unsent >= BESIDE_OTHERS.write_back_bytes:
            _rest_after(partial(os.fdatasync, descriptor), BESIDE_OTHERS.disk_rests)
            unsent = 0
    os.fsync(descriptor)
    os.close(descriptor)


def _rest_after(work: Callable[[], object], rests: float) -> None:
    began = time.perf_counter()
    work()
    time.sleep(rests * (time.perf_counter() - began))


def main() -> None:
    if sys.argv[1] == "write":
        write(Path(sys.argv[2]), int(sys.argv[3]))
        return
    control = Control(model_of(sys.argv[1]), Path(sys.argv[2]))
    say("ready")
    for line in sys.stdin:
        how = line.split()[1]
        say({"seconds": control.round(is_saving=how == "saving"), "is_right": True})


if __name__ == "__main__":
    main()
