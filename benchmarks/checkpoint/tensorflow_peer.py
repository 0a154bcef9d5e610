"""TensorFlow: a graph and its Saver, in this process.

    python -m benchmarks.checkpoint.tensorflow_peer MODEL DIRECTORY

Its Saver leaves what it wrote to the kernel, and a crash of the machine may take that along. So a
save is timed twice: as it is, and with a sync of the files that it wrote.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.checkpoint.clock import settle, timed
from benchmarks.checkpoint.models import Model, model_of, obey

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf


class TensorFlowPeer:
    def __init__(self, model: Model, directory: Path) -> None:
        tf.logging.set_verbosity(tf.logging.ERROR)
        tf.disable_eager_execution()
        self._model = model
        self._directory = directory
        self._variables = [
            tf.Variable(tf.random_uniform([model.elements]), name=f"v{i}", use_resource=True)
            for i in range(model.variables)
        ]
        self._path = str(directory / "model")
        self._step = 0
        zeros = tf.zeros([model.elements])
        self._spoil = tf.group(*[tf.assign(v, zeros) for v in self._variables])
        self._saver = tf.train.Saver(max_to_keep=1)
        self._session = tf.Session()
        self._session.run(tf.global_variables_initializer())
        self._saved = self._values()

    def save(self) -> Mapping[str, float]:
        self._step += 1
        settle(self._model.nbytes)
        written = timed(self._save)
        return {"written": written, "durable": written + timed(self._sync)}

    def _save(self) -> None:
        self._saver.save(self._session, self._path, self._step, write_meta_graph=False)

    def _sync(self) -> None:
        for path in (*self._directory.iterdir(), self._directory):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def restore(self) -> Mapping[str, float]:
        path = f"{self._path}-{self._step}"
        settle(self._model.nbytes)
        return {"restore": timed(lambda: self._saver.restore(self._session, path))}

    def spoil(self) -> None:
        self._session.run(self._spoil)

    def is_right(self) -> bool:
        return all(map(np.array_equal, self._saved, self._values()))

    def _values(self) -> list[Any]:
        values: list[Any] = self._session.run(self._variables)
        return values


def main() -> None:
    obey(TensorFlowPeer(model_of(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
