"""A cluster on this machine: servers and workers, started together and ended together.

Every child is in a session of its own, so that Ctrl-C reaches the launcher alone, which then ends
them in order: workers first, asked before they are forced, servers last; what a child started ends
with it. Should the launcher itself be killed, the kernel kills the children, though not what these
have started.

Thread rule: a `Launcher` belongs to the main thread, which waits for events alone: a server that
is ready, a child that ended, a signal. Each child has threads that copy what it prints and wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType
from typing import IO, Final, TypeAlias

from paramserve_core.cluster import ENVIRONMENT_VARIABLE
from paramserve_core.transport.credentials import CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE
from paramserve_server.cli import child

_ASK_S: Final = 5.0
"""How long a child that was asked to end may take."""
_PRINT_S: Final = 1.0
"""How long what it started may go on printing."""
_SCHEME: Final = "grpc://"
_THREADS_VARIABLE: Final = "OMP_NUM_THREADS"
"""How many threads OpenBLAS, MKL and PyTorch start."""


class LaunchError(Exception):
    """The cluster could not be started; the message says why."""


@dataclass(frozen=True, slots=True)
class _Ready:
    child: _Child
    address: str


@dataclass(frozen=True, slots=True)
class _Ended:
    child: _Child
    code: int


_Event: TypeAlias = "_Ready | _Ended | int"


class _Child:
    """One process; what it prints appears line by line, with its name before it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        events: queue.SimpleQueue[_Event],
    ) -> None:
        self.name = name
        self.process = subprocess.Popen(
            # By its path, and isolated: nothing is imported but what it needs.
            [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        self._events = events
        self._has_ended = threading.Event()
        self._copiers = [
            threading.Thread(target=self._copy, args=streams, daemon=True)
            for streams in ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr))
        ]
        for copier in self._copiers:
            copier.start()
        threading.Thread(target=self._wait, daemon=True).start()

    def ask_to_end(self) -> None:
        """SIGTERM, for it and for what it started."""
        self._signal(signal.SIGTERM)

    def end(self) -> None:
        """Waits a while for one that was asked to end, then kills it and what it has left."""
        self._has_ended.wait(_ASK_S)
        self._signal(signal.SIGKILL)
        self.process.wait()
        for copier in self._copiers:
            copier.join(_PRINT_S)

    def _signal(self, number: int) -> None:
        # Until `end` the process is not reaped, so its group's number is nobody else's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _copy(self, pipe: IO[str], sink: IO[str]) -> None:
        for line in pipe:
            # When nobody reads on, as behind `| head`, the child must not be held up.
            with contextlib.suppress(BrokenPipeError):
                self._print(line.rstrip("\n"), sink)

    def _print(self, line: str, sink: IO[str]) -> None:
        sink.write(f"[{self.name}] {line}\n")
        sink.flush()

    def _wait(self) -> None:
        ended = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        code = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        self._has_ended.set()
        # What it printed last comes before what is said of its end.
        for copier in self._copiers:
            copier.join(_PRINT_S)
        self._events.put(_Ended(self, code))


class _Server(_Child):
    """A server; the line in which it says its target becomes an event."""

    def _print(self, line: str, sink: IO[str]) -> None:
        if sink is sys.stdout and line.startswith(_SCHEME):
            self._events.put(_Ready(self, line.removeprefix(_SCHEME)))
        else:
            super()._print(line, sink)


class Launcher:
    """Servers and workers of one run.

    Args:
        command: the workers' program and its arguments.
        ps: how many servers.
        workers: how many workers.
        checkpoint_root: the servers' folders are made in it; it may be a URL.
    """

    def __init__(
        self, command: Sequence[str], ps: int, workers: int, checkpoint_root: PurePath
    ) -> None:
        self._command = command
        self._ps = ps
        self._workers_wanted = workers
        self._checkpoint_root = checkpoint_root
        self._servers: list[_Server] = []
        self._workers: list[_Child] = []
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()

    def run(self) -> int:
        """Runs the cluster to its end.

        Returns:
            0 when every worker ended well, the code of the first one that did not, or 128 and the
            number of the signal that ended it.

        Raises:
            LaunchError: a server did not start, or ended early.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._told)
        try:
            for index in range(self._ps):
                self._start_server(index)
            addresses = self._addresses()
            if isinstance(addresses, int):
                return addresses
            for index in range(self._workers_wanted):
                self._start_worker(index, addresses)
            return self._wait()
        finally:
            self._end()

    def _told(self, number: int, frame: FrameType | None) -> None:
        self._events.put(number)

    def _start_server(self, index: int) -> None:
        options = {
            "--listen": "127.0.0.1:0",
            "--job": "ps",
            "--task": str(index),
            "--checkpoint-root": str(self._checkpoint_root / f"ps{index}"),
            "--log-level": "warning",
        }
        arguments = [text for pair in options.items() for text in pair]
        command = [sys.executable, "-m", "paramserve_server.cli", "serve", *arguments]
        self._servers.append(_Server(f"ps {index}", command, _environment(), self._events))

    def _addresses(self) -> list[str] | int:
        """Where the servers listen, once all of them do; or the exit code, if told to stop."""
        found: dict[_Child, str] = {}
        while len(found) < self._ps:
            match self._events.get():
                case _Ready(server, address):
                    found[server] = address
                case _Ended(server, code):
                    raise LaunchError(f"{server.name} did not start; it ended with {_named(code)}")
                case int(number):
                    return 128 + number
        return [found[server] for server in self._servers]

    def _start_worker(self, index: int, addresses: Sequence[str]) -> None:
        config = {
            # Nobody connects to a worker; the list says how many there are.
            "cluster": {"ps": addresses, "worker": ["localhost:0"] * self._workers_wanted},
            "task": {"type": "worker", "index": index},
        }
        environment = _environment(json.dumps(config))
        # A matrix library's threads wait for each other: where every worker has one for each core,
        # a product of a microsecond takes until the scheduler's next turn.
        cores = len(os.sched_getaffinity(0))
        environment.setdefault(_THREADS_VARIABLE, str(max(cores // self._workers_wanted, 1)))
        self._workers.append(_Child(f"worker {index}", self._command, environment, self._events))

    def _wait(self) -> int:
        """Until the last worker ended, something failed, or somebody said stop."""
        left = set(self._workers)
        while left:
            match self._events.get():
                case int(number):
                    return 128 + number
                case _Ended(ended, code) if ended in self._servers:
                    raise LaunchError(f"{ended.name} ended with {_named(code)}")
                case _Ended(ended, code) if code:
                    print(f"paramserve: {ended.name} ended with {_named(code)}", file=sys.stderr)
                    return code if code > 0 else 128 - code
                case _Ended(ended, _):
                    left.discard(ended)
        return 0

    def _end(self) -> None:
        """Ends what still runs: workers, then servers."""
        for children in (self._workers, self._servers):
            for running in children:
                running.ask_to_end()
            for running in children:
                running.end()


def _named(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


def _environment(config: str | None = None) -> dict[str, str]:
    """This process's environment with another TF_CONFIG, or without one.

    The servers speak plain text on loopback, so what it says of TLS is for other servers.
    """
    left_out = {ENVIRONMENT_VARIABLE, CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE}
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    if config is not None:
        # A worker's progress is to be seen as it happens.
        environment.update({ENVIRONMENT_VARIABLE: config, "PYTHONUNBUFFERED": "1"})
    return environment
