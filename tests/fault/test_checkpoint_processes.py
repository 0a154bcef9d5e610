"""Checkpoints of real processes that are killed with signal 9."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entries_of
from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph
from paramserve._framework.scopes import device
from paramserve._saver.saver import Saver
from paramserve._saver.state import latest_checkpoint
from paramserve._session.session import Session
from paramserve_core import dtypes
from paramserve_core.cluster import ClusterSpec
from paramserve_core.errors import DataLossError, NotFoundError, OpError
from paramserve_core.master.connect import CONNECT_VARIABLE, RECONNECT_VARIABLE
from processes import parameter_servers

pytestmark = pytest.mark.slow

# ----- one process that kills itself at a chosen operation on its disk

SAVE = """
import os, signal, sys
from pathlib import Path
from checkpoint_tasks import Task, Tasks, entries_of
from paramserve_core.checkpoint.disk import LocalDisk
import numpy as np

class KillingDisk(LocalDisk):
    left = int(sys.argv[2])

    def step(self):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

def killing(name):
    def method(self, *arguments):
        self.step()
        return getattr(LocalDisk, name)(self, *arguments)
    return method

for name in ("create", "open", "rename", "remove", "sync_directory", "names"):
    setattr(KillingDisk, name, killing(name))
task = Task(Path(sys.argv[1]), disk=KillingDisk())
values = {"v": np.full(1000, 2.0)}
task.set(**values)
Tasks(task).save("model", *entries_of(values))
print("saved", task.checkpoints._disk.left)
"""


def save_in_process(folder: Path, operations: int) -> subprocess.CompletedProcess[str]:
    """Saves twos to "model" in a process that ends before so many operations are done."""
    return subprocess.run(
        [sys.executable, "-c", SAVE, str(folder), str(operations)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )


VALUES = {"v": np.full(1000, 1.0)}


def saved_ones(folder: Path) -> None:
    task = Task(folder)
    task.set(**VALUES)
    Tasks(task).save("model", *entries_of(VALUES))


def restored(folder: Path) -> set[float]:
    task = Task(folder)
    Tasks(task).restore("model", *entries_of(VALUES))
    return set(task.get("v").tolist())


def test_process_killed_at_any_operation_leaves_one_whole_checkpoint(tmp_path):
    (tmp_path / "all").mkdir()
    saved_ones(tmp_path / "all")
    whole = save_in_process(tmp_path / "all", 10_000)
    assert whole.returncode == 0, whole.stderr
    operations = 10_000 - int(whole.stdout.split()[1])
    killed = 0
    for at in range(0, operations, 2):
        folder = tmp_path / str(at)
        folder.mkdir()
        saved_ones(folder)
        process = save_in_process(folder, at)
        killed += process.returncode == -signal.SIGKILL
        found = restored(folder)
        assert found in ({1.0}, {2.0})
        # The locks of the dead process are gone, so the next save clears up after it.
        task = Task(folder)
        task.set(**VALUES)
        Tasks(task).save("next", *entries_of(VALUES))
        assert restored(folder) == found
        kinds = sorted(name.partition(".")[2][-16:] for name in os.listdir(folder))
        assert len(kinds) == 5, os.listdir(folder)
    assert killed == len(range(0, operations, 2))


# ----- processes killed at random times


@pytest.mark.timeout(400)  # It has many processes to wait for on a machine that is busy.
@pytest.mark.parametrize("seed", range(8))
def test_twenty_five_rounds_of_kills_while_saving_lose_nothing_that_was_acknowledged(
    tmp_path, seed
):
    """Servers, the client, or all; see `killed_rounds`."""
    folder = Path(__file__).parents[1]
    process = subprocess.run(
        [sys.executable, folder / "killed_rounds.py", tmp_path, str(seed), "25"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
            "GRPC_ENABLE_FORK_SUPPORT": "0",
            CONNECT_VARIABLE: "10",
            RECONNECT_VARIABLE: "0.1",
        },
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("25 rounds")


# ----- servers


def two_variables(size: int):
    """A variable on each of two servers, their saver, and what gives them a value."""
    refs, assigns = [], []
    value = apply_op("Placeholder", "value", dtype=dtypes.float32, shape=[size])
    for i in range(2):
        with device(f"/job:ps/task:{i}"):
            ref = apply_op("VariableV2", f"v{i}", shape=[size], dtype=dtypes.float32)
            assigns.append(apply_op("Assign", f"set{i}", ref=ref, value=value).op)
            refs.append(ref)
    return refs, value, assigns, Saver(refs)


@pytest.fixture
def servers(tmp_path):
    with parameter_servers(tmp_path, 2) as processes, Graph().as_default():
        yield processes


def session_on(servers, order=(0, 1)) -> Session:
    return Session(ClusterSpec({"ps": [servers[i].address for i in order]}))


def files_on(server) -> list[str]:
    return sorted(name for name in os.listdir(server.folder) if name != "stderr.log")


def test_killed_servers_come_back_with_what_was_saved(servers):
    refs, value, assigns, saver = two_variables(1000)
    with session_on(servers) as session:
        session.run(assigns, {value: np.arange(1000)})
        path = saver.save(session, "model", 5)
        assert latest_checkpoint("", session=session) == path == "model-5"
    for server in servers:
        server.restart()
    with session_on(servers) as session:
        saver.restore(session, latest_checkpoint("", session=session))
        for array in session.run(refs):
            assert (array == np.arange(1000)).all()


def test_servers_fetch_from_each_other_what_they_lack(servers):
    refs, value, assigns, saver = two_variables(50_000)
    with session_on(servers) as session:
        session.run(assigns[0], {value: np.arange(50_000)})
        session.run(assigns[1], {value: -np.arange(50_000)})
        path = saver.save(session, "model")
    for server in servers:
        server.restart()
    with session_on(servers, order=(1, 0)) as session:
        saver.restore(session, path)
        first, second = session.run(refs)
        assert (first == np.arange(50_000)).all()
        assert (second == -np.arange(50_000)).all()


def test_file_that_only_a_server_that_is_gone_has_is_named_with_that_server(servers):
    _, value, assigns, saver = two_variables(1000)
    with session_on(servers) as session:
        session.run(assigns, {value: np.arange(1000)})
        path = saver.save(session, "model")
    servers[1].kill()
    with Graph().as_default():
        with device("/job:ps/task:0"):
            left = [
                apply_op("VariableV2", f"v{i}", shape=[1000], dtype=dtypes.float32)
                for i in range(2)
            ]
        alone = Saver(left)
        with session_on(servers, order=(0,)) as session:
            session.run(apply_op("Assign", ref=left[0], value=np.zeros(1000, np.float32)).op)
            shard = next(f for f in files_on(servers[1]) if f.endswith(".safetensors"))
            with pytest.raises(
                NotFoundError, match=rf"{shard}, .* /job:ps/replica:0/task:1 wrote it"
            ):
                alone.restore(session, path)
            assert set(session.run(left[0])) == {0.0}
            # Whoever has that disk still can bring the file.
            shutil.copy(servers[1].folder / shard, servers[0].folder)
            alone.restore(session, path)
            for array in session.run(left):
                assert (array == np.arange(1000)).all()


def test_damage_on_one_server_changes_nothing_on_any(servers):
    refs, value, assigns, saver = two_variables(1000)
    with session_on(servers) as session:
        session.run(assigns, {value: np.arange(1000)})
        path = saver.save(session, "model")
        session.run(assigns, {value: np.full(1000, 7)})
        shard = next(f for f in files_on(servers[1]) if f.endswith(".safetensors"))
        with (servers[1].folder / shard).open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x55")
        with pytest.raises(DataLossError, match=shard) as caught:
            saver.restore(session, path)
        assert caught.value.task == "/job:ps/replica:0/task:1"
        for array in session.run(refs):
            assert (array == 7).all()


@pytest.mark.parametrize("is_remote", [False, True], ids=["cluster", "one server plans"])
def test_steps_go_on_while_a_checkpoint_is_written(servers, is_remote):
    size = 5_000_000
    with device("/job:ps/task:0"):
        variable = apply_op("VariableV2", "w", shape=[size], dtype=dtypes.float32)
        one = apply_op("Fill", dims=[size], value=np.float32(1))
        start = apply_op("Assign", "start", ref=variable, value=one).op
        more = apply_op("AssignAdd", "more", ref=variable, value=one).op
    saver = Saver([variable])
    target = servers[0].target if is_remote else ClusterSpec({"ps": [servers[0].address]})
    with Session(target) as session:
        session.run(start)
        pending = saver.save(session, "model", 1, block=False)
        steps = 0
        while not pending.done() or not steps:
            session.run(more)
            steps += 1
        assert pending.result(60.0) == "model-1"
        assert session.run(variable)[0] == 1 + steps
        saver.restore(session, "model-1")
        assert set(session.run(variable).tolist()) == {1.0}


def test_server_killed_while_it_writes_leaves_the_last_checkpoint(servers, monkeypatch):
    monkeypatch.setenv(RECONNECT_VARIABLE, "1")
    size = 20_000_000
    refs, value, assigns, saver = two_variables(size)
    with session_on(servers) as session:
        session.run(assigns, {value: np.ones(size)})
        path = saver.save(session, "model", 1)
        session.run(assigns, {value: np.full(size, 2)})
        before = [files_on(server) for server in servers]
        failures = []

        def save() -> None:
            try:
                saver.save(session, "model", 2)
            except OpError as error:
                failures.append(error)

        thread = threading.Thread(target=save)
        thread.start()
        while thread.is_alive() and not any(f.endswith(".tmp") for f in files_on(servers[1])):
            pass
        servers[1].kill()
        thread.join()
        assert failures
        assert saver.last_checkpoints == [path]
    servers[1].end()
    servers[1].start()
    with session_on(servers) as session:
        assert latest_checkpoint("", session=session) == path
        saver.restore(session, path)
        for array in session.run(refs):
            assert (array == 1).all()
        saver.save(session, "model", 1)
        after = [[f for f in files_on(server) if "model-2" in f] for server in servers]
        assert after == [[], []]
        assert [len(files_on(server)) for server in servers] == [len(files) for files in before]
