"""paramserve: a model in this process, or on a server beside it.

python -m benchmarks.checkpoint.paramserve_peer MODEL DIRECTORY [server]
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from benchmarks.checkpoint.clock import settle, timed
from benchmarks.checkpoint.models import Model, model_of, obey
from benchmarks.processes import end_with_parent

import paramserve as ps


@contextmanager
def server(root: Path) -> Iterator[str]:
    """A server in a process of its own, with its checkpoints below `root`; gives its target."""
    command = [
        str(Path(sys.executable).parent / "paramserve"),
        "serve",
        "--listen=127.0.0.1:0",
        f"--checkpoint-root={root}",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


class ParamservePeer:
    def __init__(self, model: Model, directory: Path, target: str) -> None:
        self._variables = [
            ps.Variable(ps.random_uniform([model.elements]), name=f"v{i}")
            for i in range(model.variables)
        ]
        self._model = model
        self._path = str(directory / "model")
        self._step = 0
        zeros = ps.zeros([model.elements])
        self._spoil = ps.group(*[ps.assign(v, zeros) for v in self._variables])
        self._saver = ps.train.Saver(max_to_keep=1)
        self._session = ps.Session(target)
        self._session.run(ps.initialize_all_variables())
        # Copies: a value that is held on to would make the next update of its variable copy it.
        self._saved = [value.copy() for value in self._session.run(self._variables)]

    def save(self) -> Mapping[str, float]:
        self._step += 1
        settle(self._model.nbytes)
        return {"durable": timed(self._save)}

    def _save(self) -> None:
        self._saver.save(self._session, self._path, self._step, write_meta_graph=False)

    def restore(self) -> Mapping[str, float]:
        path = f"{self._path}-{self._step}"
        settle(self._model.nbytes)
        return {"restore": timed(lambda: self._saver.restore(self._session, path))}

    def spoil(self) -> None:
        self._session.run(self._spoil)

    def is_right(self) -> bool:
        return all(map(np.array_equal, self._saved, self._session.run(self._variables)))


def main() -> None:
    model, directory = model_of(sys.argv[1]), Path(sys.argv[2])
    with server(directory) if sys.argv[3:] == ["server"] else nullcontext("") as target:
        obey(ParamservePeer(model, directory, target))


if __name__ == "__main__":
    main()
