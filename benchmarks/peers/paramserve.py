"""paramserve: a session on one server, the update in a fused op there.

PARAMSERVE_TRANSPORT chooses shared memory or gRPC on loopback.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from benchmarks.workloads import ELEMENTS, LEARNING_RATE, obey

import paramserve as ps


class ParamservePeer:
    def __init__(self, target: str) -> None:
        with ps.device("/job:ps/task:0"):
            counter = ps.Variable(np.int64(0), name="counter", trainable=False)
            large = ps.Variable(ps.zeros([ELEMENTS]), name="large")
            gradient = ps.placeholder(ps.float32, [ELEMENTS])
            optimizer = ps.train.GradientDescentOptimizer(LEARNING_RATE)
            update = optimizer.apply_gradients([(gradient, large)])
            add = counter.assign_add(np.int64(1))
        cluster = ps.train.ClusterSpec({"ps": [target.removeprefix("grpc://")]})
        self._session = ps.Session(cluster)
        self._session.run(ps.initialize_all_variables())
        self._ones = np.ones(ELEMENTS, np.float32)
        self._add = self._session.make_callable(add)
        self._counter = self._session.make_callable(counter)
        self._pull = self._session.make_callable(large)
        self._push = self._session.make_callable(update, [gradient])

    def scalar(self) -> float:
        return float(self._add())

    def counter(self) -> float:
        return float(self._counter())

    def pull(self) -> float:
        return float(self._pull()[-1])

    def push(self) -> None:
        self._push(self._ones)

    def close(self) -> None:
        self._session.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as root:
        command = [
            str(Path(sys.executable).parent / "paramserve"),
            "serve",
            "--listen=127.0.0.1:0",
            f"--checkpoint-root={root}",
        ]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            peer = ParamservePeer(server.stdout.readline().strip())
            obey(peer)
            peer.close()
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
