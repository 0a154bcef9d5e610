"""Kills servers and clients at random times while they save, and looks at what is left.

Run as a program, because it forks: a process that has imported everything starts servers and
clients in milliseconds. It never uses gRPC or threads itself; what does is its children.

Arguments: a folder, a seed, how many rounds.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from checkpoint_tasks import Task, Tasks, entries_of
from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph
from paramserve._framework.scopes import device
from paramserve._saver.saver import Saver
from paramserve._session.session import Session
from paramserve_core import dtypes
from paramserve_core.checkpoint.places import INDEX_SUFFIX, SavedFile
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.cluster import ClusterSpec
from paramserve_core.errors import OpError
from paramserve_core.serving import ServingOptions, TaskServer
from paramserve_core.task.limits import TaskLimits
from paramserve_protos.v1.checkpoint_service_pb2 import StateUpdate
from paramserve_protos.v1.checkpoint_state_pb2 import CheckpointState

SIZE = 5000
LATEST_KILL_S = 0.03


class Child:
    """A forked process, and the lines that it writes."""

    def __init__(self, work: Callable[[Callable[[str], None]], None]) -> None:
        self._pipe, write = os.pipe()
        self._rest = b""
        self.pid = os.fork()
        if not self.pid:
            os.close(self._pipe)
            _work(work, lambda line: os.write(write, f"{line}\n".encode()))
        os.close(write)

    def line(self) -> str:
        """The next line; "" at the end."""
        while b"\n" not in self._rest:
            read = os.read(self._pipe, 4096)
            if not read:
                return ""
            self._rest += read
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def wait(self, seconds: float) -> None:
        """Until it says something, or some time has passed."""
        select.select([self._pipe], [], [], seconds)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> list[str]:
        """Waits for the process; answers the lines that were left."""
        lines = list(iter(self.line, ""))
        os.waitpid(self.pid, 0)
        os.close(self._pipe)
        return lines


def _work(work: Callable[[Callable[[str], None]], None], say: Callable[[str], object]) -> NoReturn:
    try:
        work(say)  # type: ignore[arg-type]
    except BaseException:
        say("error " + traceback.format_exc().replace("\n", " | "))
    os._exit(0)


def serve(folder: Path, index: int) -> Callable[[Callable[[str], None]], None]:
    def work(say: Callable[[str], None]) -> None:
        limits = TaskLimits(session_grace_s=0.05)
        server = TaskServer(ServingOptions(index=index, checkpoint_root=folder, limits=limits))
        server.start()
        say(server.address)
        signal.pause()

    return work


def save_on(addresses: list[str], first: int) -> Callable[[Callable[[str], None]], None]:
    """Saves checkpoint after checkpoint, of +n on one server and -n on the other."""

    def work(say: Callable[[str], None]) -> None:
        with Graph().as_default():
            value = apply_op("Placeholder", "value", dtype=dtypes.float64, shape=[SIZE])
            refs, sets = [], []
            for i, sign in enumerate((1.0, -1.0)):
                with device(f"/job:ps/task:{i}"):
                    ref = apply_op("VariableV2", f"v{i}", shape=[SIZE], dtype=dtypes.float64)
                    signed = apply_op("Mul", f"signed{i}", x=value, y=np.float64(sign))
                    sets.append(apply_op("Assign", f"set{i}", ref=ref, value=signed).op)
                    refs.append(ref)
            saver = Saver(refs, max_to_keep=2)
            with Session(ClusterSpec({"ps": addresses})) as session:
                saver.recover_last_checkpoints(
                    [f"model-{n}" for n in range(max(first - 3, 0), first)], session
                )
                number = first
                while True:
                    try:
                        session.run(sets, {value: np.full(SIZE, float(number))})
                        saver.save(session, "model", number, write_meta_graph=False)
                    except OpError:
                        return
                    say(str(number))
                    number += 1

    return work


def verify(folders: list[Path], acknowledged: int, *, is_idle: bool) -> Callable[..., None]:
    """What was acknowledged is whole; what is newer is whole too, or not there."""

    def work(say: Callable[[str], None]) -> None:
        tasks = Tasks(*(Task(f, name=f"/job:ps/replica:0/task:{i}") for i, f in enumerate(folders)))
        first, second = tasks.tasks.values()
        tasks.place = {"v1": second.name}
        entries = entries_of({"v0": np.zeros(SIZE), "v1": np.zeros(SIZE)})
        state = CheckpointState.FromString(tasks.read_state().state)
        newest = int(state.model_checkpoint_path.rpartition("-")[2])
        assert newest >= acknowledged, (newest, acknowledged)
        for number in {acknowledged, newest}:
            tasks.restore(f"model-{number}", *entries)
            assert set(first.get("v0")) == {number}
            assert set(second.get("v1")) == {-number}
        for folder in folders:
            reader = CheckpointReader(folder / f"model-{acknowledged}")
            for name, error in reader.verify():
                here = name not in reader.missing_files and name != "v0" and name != "v1"
                assert error is None or not here, error
        if is_idle:
            tasks.save("check", *entries, state=StateUpdate(latest_filename="checked"))
            for folder in folders:
                assert not leftovers(folder), leftovers(folder)
        say("whole")

    return work


def leftovers(folder: Path) -> list[str]:
    """Files that no index names."""
    names = [p.name for p in folder.iterdir()]
    indexes = "".join((folder / n).read_text() for n in names if n.endswith(INDEX_SUFFIX))
    return [n for n in names if n.endswith(".tmp") or (SavedFile.parse(n) and n not in indexes)]


def checked(child: Child) -> None:
    lines = child.end()
    assert lines == ["whole"], lines


def main(folder: Path, seed: int, rounds: int) -> None:
    draw = random.Random(seed)
    folders = [folder / "ps0", folder / "ps1"]
    for each in folders:
        each.mkdir()
    servers: list[tuple[Child, str] | None] = [None, None]
    acknowledged = -1
    kills = 0
    for _ in range(rounds):
        for i, server in enumerate(servers):
            if server is None:
                child = Child(serve(folders[i], i))
                servers[i] = (child, child.line())
        client = Child(save_on([server[1] for server in servers if server], acknowledged + 2))
        said = client.line()
        assert said.isdigit(), said
        acknowledged = int(said)
        victims = draw.sample(range(3), draw.randint(1, 3))
        client.wait(draw.uniform(0, LATEST_KILL_S))
        for victim in victims:
            server = servers[victim] if victim < 2 else None
            if victim == 2:
                client.kill()
            elif server is not None:
                server[0].kill()
                server[0].end()
                servers[victim] = None
            kills += 1
        for said in client.end():
            assert said.isdigit(), said
            acknowledged = int(said)
        is_idle = not any(servers)
        checked(Child(verify(folders, acknowledged, is_idle=is_idle)))
    for server in servers:
        if server is not None:
            server[0].kill()
            server[0].end()
    checked(Child(verify(folders, acknowledged, is_idle=True)))
    print(f"{rounds} rounds, {kills} killed, {acknowledged} saved")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
