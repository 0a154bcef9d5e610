"""A cluster on this machine: servers and workers, started together and ended together.

Every child is in a session of its own, so that Ctrl-C reaches the launcher alone, which then ends
them in order: workers first, asked before they are forced, servers last. Should the launcher itself
be killed, the kernel kills the children.

Thread rule: a `Launcher` belongs to the main thread; a thread per pipe copies what children print.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Final

from paramserve_core.cluster import ENVIRONMENT_VARIABLE

_START_S: Final = 60.0
_ASK_S: Final = 5.0


class LaunchError(Exception):
    """The cluster could not be started; the message says why."""


class _Child:
    """One process, and the threads that copy what it prints."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], *, is_server: bool
    ) -> None:
        self.name = name
        self.is_server = is_server
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paramserve_server.cli.child", str(os.getpid()), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )

    def copy_output(self) -> None:
        """Copies what the child prints, each line with its name before it."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for pipe, sink in ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr)):
            threading.Thread(target=self._copy, args=(pipe, sink), daemon=True).start()

    def _copy(self, pipe: IO[str], sink: IO[str]) -> None:
        for line in pipe:
            sink.write(f"[{self.name}] {line}")
            sink.flush()

    def signal(self, number: int) -> None:
        """Sends a signal to the child and whatever it started."""
        if self.process.poll() is None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return


class Launcher:
    """Servers and workers of one run.

    Args:
        command: the workers' program and its arguments.
        ps: how many servers.
        workers: how many workers.
        checkpoint_root: the servers' folders are made in it.
    """

    def __init__(
        self, command: Sequence[str], ps: int, workers: int, checkpoint_root: Path
    ) -> None:
        self._command = command
        self._ps = ps
        self._workers = workers
        self._checkpoint_root = checkpoint_root
        self._children: list[_Child] = []
        self._events: queue.SimpleQueue[_Child | int] = queue.SimpleQueue()

    def run(self) -> int:
        """Runs the cluster to its end.

        Returns:
            0 when every worker ended well, the code of the first one that did not, or 130 after
            Ctrl-C.

        Raises:
            LaunchError: a server did not start.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._told)
        try:
            addresses = [self._start_server(index) for index in range(self._ps)]
            for index in range(self._workers):
                self._start_worker(index, addresses)
            return self._wait()
        finally:
            self._end()

    def _told(self, number: int, frame: FrameType | None) -> None:
        self._events.put(number)

    def _start_server(self, index: int) -> str:
        root = self._checkpoint_root / f"ps{index}"
        options = {
            "--listen": "127.0.0.1:0",
            "--job": "ps",
            "--task": str(index),
            "--checkpoint-root": str(root),
            "--log-level": "warning",
        }
        arguments = [text for pair in options.items() for text in pair]
        command = [sys.executable, "-m", "paramserve_server.cli", "serve", *arguments]
        child = _Child(f"ps {index}", command, _environment(), is_server=True)
        self._children.append(child)
        assert child.process.stdout is not None
        target = child.process.stdout.readline().strip()
        if not target.startswith("grpc://"):
            assert child.process.stderr is not None
            reason = child.process.stderr.read().strip() or "it printed no target"
            raise LaunchError(f"server {index} did not start: {reason}")
        self._watch(child)
        return target.removeprefix("grpc://")

    def _start_worker(self, index: int, addresses: Sequence[str]) -> None:
        config = {
            # Nobody connects to a worker; the list says how many there are.
            "cluster": {"ps": addresses, "worker": ["localhost:0"] * self._workers},
            "task": {"type": "worker", "index": index},
        }
        environment = _environment(json.dumps(config))
        child = _Child(f"worker {index}", self._command, environment, is_server=False)
        self._children.append(child)
        self._watch(child)

    def _watch(self, child: _Child) -> None:
        child.copy_output()

        def wait() -> None:
            child.process.wait()
            self._events.put(child)

        threading.Thread(target=wait, daemon=True).start()

    def _wait(self) -> int:
        """Until the last worker ended, something failed, or somebody said stop."""
        left = self._workers
        while left:
            event = self._events.get()
            if isinstance(event, int):
                return 128 + event
            code = event.process.returncode
            if event.is_server:
                print(f"paramserve: {event.name} ended with {code}", file=sys.stderr)
                return 1
            if code:
                print(f"paramserve: {event.name} failed with exit code {code}", file=sys.stderr)
                return code if code > 0 else 128 - code
            left -= 1
        return 0

    def _end(self) -> None:
        """Ends what still runs: workers, then servers."""
        for is_server in (False, True):
            children = [child for child in self._children if child.is_server is is_server]
            for child in children:
                child.signal(signal.SIGTERM)
            for child in children:
                try:
                    child.process.wait(_ASK_S)
                except subprocess.TimeoutExpired:
                    child.signal(signal.SIGKILL)
                    child.process.wait()


def _environment(config: str | None = None) -> dict[str, str]:
    """This process's environment with another TF_CONFIG, or without one."""
    environment = {k: v for k, v in os.environ.items() if k != ENVIRONMENT_VARIABLE}
    if config is not None:
        # A worker's progress is to be seen as it happens.
        environment.update({ENVIRONMENT_VARIABLE: config, "PYTHONUNBUFFERED": "1"})
    return environment
