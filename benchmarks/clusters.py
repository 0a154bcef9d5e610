"""A running peer: the processes of its servers and workers.

A cluster starts its servers, then its workers with the servers' addresses, and from then on passes
commands to the workers and waits for their answers. Everything that it started ends with it, also
when it ends because of an error or Ctrl-C.

Thread rule: one thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from benchmarks import processes
from benchmarks.peers import Peer
from benchmarks.worker import Place
from benchmarks.workloads import Group, Update, Workload

ROOT: Final = Path(__file__).resolve().parents[1]
ANSWER_S: Final = 180.0
"""An answer that takes longer is a failure."""

_NOT_PASSED_ON: Final = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Settings that some machines need for old builds of OpenBLAS; they slow a current one."""


class PeerError(Exception):
    """A peer did not start, did not answer, or gave a wrong result."""

    @property
    def brief(self) -> str:
        """What went wrong, and the last that the peer said about it."""
        first, *more = str(self).splitlines()
        return f"{first}: {more[-1].strip()}" if more else first


class _Process:
    """One process of a peer, whose messages go to a file."""

    def __init__(self, name: str, peer: Peer, role: str, place: Place, folder: Path) -> None:
        self._name = name
        self._log = folder / f"{role}{place.index}.log"
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "benchmarks.worker", peer.module, role),
                    json.dumps(asdict(place)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env={**environment, **peer.environment},
                # Ctrl-C is for the benchmark, which ends its processes in order.
                start_new_session=True,
            )
        self.pid = self._process.pid

    def say(self, **command: Any) -> None:
        pipe = self._pipe(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # the answer will be missing
            pipe.write(json.dumps(command).encode() + b"\n")
            pipe.flush()

    def line(self) -> str:
        """The next line that it answers."""
        pipe = self._pipe(self._process.stdout)
        if not select.select([pipe], [], [], ANSWER_S)[0]:
            raise PeerError(f"{self._name} did not answer for {ANSWER_S:g} s{self._last_words()}")
        line = pipe.readline().decode().strip()
        if not line:
            raise PeerError(f"{self._name} ended{self._last_words()}")
        return line

    def answer(self) -> Any:
        return json.loads(self.line())

    def close(self) -> None:
        """Lets a worker end by itself."""
        with contextlib.suppress(OSError):
            self._pipe(self._process.stdin).close()

    def wait(self) -> None:
        """After the end of the process."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self._pipe(self._process.stdout).close()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()[-12:]
        return "".join(f"\n    {line}" for line in ["", *lines]) if lines else ""

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


class Cluster:
    """A peer with so many servers and workers, for the length of a `with` block.

    Attributes:
        name: of the peer.
        server_start_s: from the start of the servers until they were ready.
        worker_start_s: from the start of the workers until they were ready.
    """

    def __init__(self, name: str, peer: Peer, *, servers: int, workers: int) -> None:
        self.name = name
        self.peer = peer
        self._servers_wanted = servers
        self._workers_wanted = workers
        self._servers: list[_Process] = []
        self._workers: list[_Process] = []
        self._folder = tempfile.TemporaryDirectory(prefix="benchmark-")
        self._compiled: set[tuple[Update, tuple[int, ...]]] = set()
        self.server_start_s = self.worker_start_s = 0.0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def _start(self) -> None:
        ports = _free_ports(self._servers_wanted + self._workers_wanted + 1)
        place = Place(
            index=0, servers=self._servers_wanted, workers=self._workers_wanted, ports=ports
        )
        began = time.perf_counter()
        for i in range(1 if self.peer.serves_alone else self._servers_wanted):
            self._servers.append(self._process("server", replace(place, index=i)))
        addresses = [server.line() for server in self._servers]
        ready = time.perf_counter()
        for i in range(self._workers_wanted):
            self._workers.append(
                self._process("worker", replace(place, index=i, addresses=addresses))
            )
        for worker in self._workers:
            worker.answer()
        self.server_start_s = ready - began
        self.worker_start_s = time.perf_counter() - ready
        self._signal(signal.SIGSTOP)

    def _process(self, role: str, place: Place) -> _Process:
        return _Process(self.name, self.peer, role, place, Path(self._folder.name))

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Processes that spin while they wait are stopped outside of this."""
        self._signal(signal.SIGCONT)
        try:
            yield
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        if self.peer.spins:
            for member in [*self.worker_tree(), *self.server_tree()]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.pid, number)

    def open(self, group: Group, workers: int) -> None:
        """Makes a group, and lets so many workers use it."""
        for i, worker in enumerate(self._workers[:workers]):
            worker.say(do="open", group=asdict(group), create=i == 0)
            worker.answer()

    def act(self, workload: Workload, repetitions: int) -> list[float]:
        """Lets the workers act so many times each; answers the seconds of every repetition.

        With several workers that is the time from the first's beginning to the last's end, as one
        number: what a step costs while all of them are at it.
        """
        workers = self._workers[: workload.workers]
        for worker in workers:
            worker.say(do="act", act=workload.act, repetitions=repetitions)
        times = [worker.answer()["times"] for worker in workers]
        if len(times) > 1:
            return [(max(t[-1] for t in times) - min(t[0] for t in times)) / repetitions]
        return [after - before for before, after in zip(times[0], times[0][1:], strict=False)]

    def compile_s(self, workload: Workload) -> float:
        """For how many seconds its updates may be slower, as they are being compiled; said once."""
        kind = workload.group.update, workload.group.shape
        if not workload.act.is_update or kind in self._compiled:
            return 0.0
        self._compiled.add(kind)
        return self.peer.compiles_s

    def check(self, updates: int) -> None:
        """Raises PeerError unless exactly so many updates were applied."""
        self._workers[0].say(do="check", updates=updates)
        wrong = self._workers[0].answer()
        if wrong:
            raise PeerError(f"{self.name} gave a wrong result: {wrong}")

    def close(self, workers: int) -> None:
        """Drops the group."""
        for i, worker in reversed(list(enumerate(self._workers[:workers]))):
            worker.say(do="close", drop=i == 0)
            worker.answer()

    def server_tree(self) -> list[processes.ProcessId]:
        """The processes of the servers."""
        return processes.tree(server.pid for server in self._servers)

    def worker_tree(self) -> list[processes.ProcessId]:
        """The processes of the workers."""
        return processes.tree(worker.pid for worker in self._workers)

    def end(self) -> None:
        """Ends every process. Idempotent."""
        self._signal(signal.SIGCONT)
        started = [*self._workers, *self._servers]
        members = [*self.worker_tree(), *self.server_tree()]
        for process in started:
            process.close()
        processes.end(members)
        for process in started:
            process.wait()
        processes.reap(members)
        self._workers, self._servers = [], []
        self._folder.cleanup()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
