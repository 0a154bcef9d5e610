"""A large shard goes to the disk while it is being written, not only at the end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entry, in_turn
from memory_disk import MemoryDisk
from paramserve_core import dtypes
from paramserve_core.checkpoint import coordinator, saving, shard
from paramserve_core.checkpoint.background import BackgroundSave, Watcher
from paramserve_core.checkpoint.entries import Placement, pack_entries
from paramserve_core.errors import CancelledError, DataLossError
from paramserve_core.executor.updating import Ref, Update
from paramserve_core.executor.variable import Variable
from paramserve_core.runtime import ThreadRuntime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

CHUNK = 1 << 12
DIRECTORY = Path("/checkpoints")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(shard, "CHUNK_BYTES", CHUNK)
    for name in ("AT_ONCE", "BESIDE_OTHERS"):
        pace = getattr(saving, name)._replace(write_back_bytes=4 * CHUNK)
        monkeypatch.setattr(saving, name, pace)


class OneThread(ThreadRuntime):
    """A pool that is busy for ever: who asks for help does the work alone, in order.

    On its clock every look takes a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.helpers = 0
        self.rests: list[float] = []

    def now(self) -> float:
        self.seconds += 1
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)

    def submit(self, function: Callable[[], None]) -> None:
        self.helpers += 1


def tasks_on(disk: MemoryDisk) -> Tasks:
    disk.make_directory(DIRECTORY)
    task = Task(None, disk=disk, runtime=OneThread())
    task.set(w=np.arange(10 * CHUNK, dtype=np.uint8))
    return Tasks(task)


def operations_on_shard(disk: MemoryDisk) -> list[str]:
    found: list[str] = []

    def note(operation: str, path: Path) -> None:
        if path.name.endswith(".safetensors.tmp"):
            found.append(operation)

    disk.before = note
    return found


@pytest.mark.usefixtures("small_chunks")
def test_the_disk_is_busy_before_the_last_byte_is_written():
    disk = MemoryDisk()
    tasks = tasks_on(disk)
    operations = operations_on_shard(disk)
    tasks.save("/checkpoints/m", entry("w", shape=[10 * CHUNK], dtype=dtypes.uint8))
    written = ["write"] * 4 + ["write_back"]
    assert operations == ["create", "write", *written, *written, "write", "write", "sync"]


@pytest.mark.usefixtures("small_chunks")
def test_a_disk_that_fails_to_take_what_was_written_fails_the_save():
    disk = MemoryDisk()
    tasks = tasks_on(disk)

    def fail(operation: str, path: Path) -> None:
        if operation == "write_back":
            raise OSError(errno.EIO, "broken", str(path))

    disk.before = fail
    with pytest.raises(DataLossError, match="the disk reports an error"):
        tasks.save("/checkpoints/m", entry("w", shape=[10 * CHUNK], dtype=dtypes.uint8))
    assert disk.names(DIRECTORY) == []


@pytest.mark.usefixtures("small_chunks")
def test_a_value_is_let_go_when_its_bytes_are_written_not_at_the_end():
    disk = MemoryDisk()
    tasks = tasks_on(disk)
    task = tasks.tasks[next(iter(tasks.tasks))]
    names = [f"v{i}" for i in range(4)]
    size = shard._JOINED_BYTES + 1  # so that each is written by itself
    task.set(**{name: np.zeros(size, np.uint8) for name in names})
    variables = [task.store.find(name) for name in names]
    copied: list[list[bool]] = []

    def note(operation: str, path: Path) -> None:
        if operation == "write_back" and not copied:
            copied.append([is_copied_by_update(variable) for variable in variables])

    disk.before = note
    patched = 2 * size  # the first two are written then
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "AT_ONCE", saving.AT_ONCE._replace(write_back_bytes=patched))
        patch.setattr(shard, "CHUNK_BYTES", size)
        tasks.save(
            "/checkpoints/m", *(entry(name, shape=[size], dtype=dtypes.uint8) for name in names)
        )
    assert copied == [[False, False, True, True]]


def is_copied_by_update(variable: Variable) -> bool:
    """Whether an update has to leave the present buffer to somebody who reads it."""
    before = variable.read().__array_interface__["data"]
    with Update(Ref(variable)) as (buffer,):
        after = buffer.__array_interface__["data"]
        buffer += 1
    return before != (after[0], before[1])


@pytest.mark.usefixtures("small_chunks")
def test_a_shard_that_failed_halfway_is_not_written_again_without_what_was_let_go():
    disk = MemoryDisk()
    task = next(iter(tasks_on(disk).tasks.values()))
    wanted = [entry("w", shape=[10 * CHUNK], dtype=dtypes.uint8)]
    save_id = "0123456789abcdef"
    task.call(
        messages.TakeSnapshotRequest(
            save_id=save_id, entries=pack_entries(wanted), path="/checkpoints/m"
        )
    )
    broken = True

    def fail(operation: str, path: Path) -> None:
        if broken and operation == "write_back":
            raise OSError(errno.EIO, "broken", str(path))

    disk.before = fail
    request = messages.WriteShardRequest(save_id=save_id, shard=0, shard_count=1)
    with pytest.raises(DataLossError):
        task.call(request)
    broken = False
    with pytest.raises(CancelledError, match="was given up"):
        task.call(request)
    assert disk.names(DIRECTORY) == []


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("is_in_background", [False, True])
def test_only_a_save_in_the_background_leaves_time_to_others(is_in_background):
    runtime = OneThread()
    disk = MemoryDisk()
    disk.make_directory(DIRECTORY)
    task = Task(None, disk=disk, runtime=runtime)
    task.set(w=np.arange(10 * CHUNK, dtype=np.uint8))
    request = messages.SaveRequest(
        path="/checkpoints/m",
        entries=pack_entries([entry("w", shape=[10 * CHUNK], dtype=dtypes.uint8)]),
    )

    def save(watcher: Watcher) -> messages.SaveResponse:
        tasks = {task.name: task}
        return coordinator.save(
            tasks, request, Placement(lambda _: task.name), in_turn, watcher=watcher
        )

    if is_in_background:
        BackgroundSave(ThreadRuntime(), save).result()
        # After each chunk, and after the disk was waited for.
        worked, waited = shard.BESIDE_OTHERS.rests, shard.BESIDE_OTHERS.disk_rests
        assert worked > 1
        assert waited > 1
        assert runtime.rests == [*[worked] * 4, waited, *[worked] * 4, waited, worked, worked]
    else:
        save(Watcher())
        assert runtime.rests == []
    assert runtime.helpers == (0 if is_in_background else 1)
