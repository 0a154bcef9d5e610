"""Real processes for tests: servers and client programs, all ended with the test that made them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

START_S = 60.0


def command_line(*arguments: str) -> list[str]:
    """The `paramserve` command of this environment."""
    return [str(Path(sys.executable).parent / "paramserve"), *arguments]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def peak_bytes_of(pid: int) -> int:
    """The most memory that a process has ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10


def segments_of(pid: int) -> int:
    """Descriptors of shared memory that a process has."""
    found = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found += "memfd:paramserve" in os.readlink(entry)
        except FileNotFoundError:
            continue
    return found


def mapped_segments_of(pid: int) -> int:
    """Mappings of shared memory that a process has."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return sum("memfd:paramserve" in line for line in maps.splitlines())


def foreign_segments_of(pid: int) -> int:
    """Mappings that a server has of its clients' memory."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return sum("memfd:paramserve" in line and " r--s " in line for line in maps.splitlines())


def sockets_of(pid: int) -> int:
    """Sockets of AF_UNIX that a process has."""
    return sum(
        link.status == psutil.CONN_NONE and link.type == socket.SOCK_STREAM
        for link in psutil.Process(pid).net_connections("unix")
    )


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a process however it is, and closes its pipes."""
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # What was said and not read.
                pipe.close()


class ServerProcess:
    """One `paramserve serve`, listening on loopback, on port 0 unless told.

    Its messages go to a file beside its checkpoints, so that no pipe can fill up.

    Attributes:
        end: ends the process however it is.
    """

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._options = options
        self._port = port
        self.start()

    def start(self) -> None:
        """Starts the process, anew if it has ended; returns when it is ready."""
        self.log = self.folder / "stderr.log"
        with self.log.open("ab") as messages:
            self.process = subprocess.Popen(
                command_line(
                    "serve",
                    "--listen",
                    f"127.0.0.1:{self._port}",
                    "--checkpoint-root",
                    str(self.folder),
                    *self._options,
                ),
                stdout=subprocess.PIPE,
                stderr=messages,
                text=True,
            )
        # Also where nobody calls it, as after an assertion that fails.
        self.end = weakref.finalize(self, _end, self.process)
        assert self.process.stdout is not None
        self.target = self.process.stdout.readline().strip()
        if not self.target.startswith("grpc://"):
            self.end()
            raise AssertionError(self.log.read_text())
        self.address = self.target.removeprefix("grpc://")
        self._port = int(self.address.rpartition(":")[2])

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM; answers the exit code."""
        self.process.terminate()
        return self.process.wait(timeout=START_S)

    def restart(self) -> None:
        """kill -9, then the same server again on the same port, with the same disk."""
        self.end()
        self.start()

    def resources(self) -> tuple[int, int, int]:
        """Memory in bytes, threads and open descriptors of the process."""
        info = psutil.Process(self.process.pid)
        return info.memory_info().rss, info.num_threads(), info.num_fds()


@contextlib.contextmanager
def server(folder: Path, *options: str, port: int = 0) -> Iterator[ServerProcess]:
    """A server for the length of the block."""
    process = ServerProcess(folder, *options, port=port)
    try:
        yield process
    finally:
        process.end()


@contextlib.contextmanager
def parameter_servers(folder: Path, count: int, *options: str) -> Iterator[list[ServerProcess]]:
    """`count` servers of one cluster, tasks of the job `ps`, each with a disk of its own."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                server(folder / f"ps{i}", "--job", "ps", "--task", str(i), *options)
            )
            for i in range(count)
        ]


class ProgramProcess:
    """A Python program in a process of its own; what it prints can be read line by line.

    Attributes:
        end: ends the process however it is.
    """

    def __init__(
        self,
        program: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        self.end = weakref.finalize(self, _end, self.process)

    def line(self) -> str:
        """The next line that the program prints; "" at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, text: str) -> None:
        """Gives the program a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate()

    def output(self, timeout_s: float = START_S) -> str:
        """What the program still prints; it must end well."""
        out, err = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == 0, err
        return out


@contextlib.contextmanager
def programs(
    program: str, each: Sequence[Sequence[str]], **options: Mapping[str, str]
) -> Iterator[list[ProgramProcess]]:
    """One process of `program` for each list of arguments."""
    running: list[ProgramProcess] = []
    try:
        for arguments in each:
            running.append(ProgramProcess(program, *arguments, **options))  # type: ignore[arg-type]
        yield running
    finally:
        for process in running:
            process.end()
