"""A large shard goes to the disk while it is being written, not only at the end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entry
from memory_disk import MemoryDisk
from paramserve_core import dtypes
from paramserve_core.checkpoint import shard
from paramserve_core.errors import DataLossError
from paramserve_core.runtime import ThreadRuntime

CHUNK = 1 << 12
DIRECTORY = Path("/checkpoints")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(shard, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(shard, "_WRITE_BACK_BYTES", 4 * CHUNK)


class OneThread(ThreadRuntime):
    """A pool that is busy for ever: who asks for help does the work alone, in order."""

    def submit(self, function: Callable[[], None]) -> None:
        pass


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
