"""Checkpoints that others write, replace or delete at the same time, and very large ones."""

import itertools
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, array_of, entries_of, entry
from memory_disk import MemoryDisk
from paramserve_core import dtypes
from paramserve_core.checkpoint import disk as disks
from paramserve_core.checkpoint.disk import LocalDisk
from paramserve_core.checkpoint.places import Places
from paramserve_core.checkpoint.retention import delete_checkpoint
from paramserve_core.errors import AbortedError, DataLossError, NotFoundError
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

ROOT = Path("/checkpoints")
RUNTIME = ThreadRuntime(max_workers=4)
VALUES = {"a": np.arange(6.0), "b": np.arange(5), "s": ["x", "yy"]}
OLD = {"a": np.zeros(6), "b": np.full(5, -1), "s": ["-", "-"]}
ENTRIES = entries_of(VALUES)
V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2


class Pair(Tasks):
    """Two tasks with a disk each; where they restore is not where they saved."""

    def __init__(self) -> None:
        self.disks = [MemoryDisk(), MemoryDisk()]
        for disk in self.disks:
            disk.make_directory(ROOT)
        self.first, self.second = (
            Task(ROOT, name=f"/job:ps/replica:0/task:{i}", disk=disk, runtime=RUNTIME)
            for i, disk in enumerate(self.disks)
        )
        super().__init__(self.first, self.second)

    def save_values(self, layout: int) -> None:
        self.place = {"b": self.second.name}
        self.first.set(a=VALUES["a"], s=VALUES["s"])
        self.second.set(b=VALUES["b"])
        self.save("model", *ENTRIES, format=layout)
        self.place = {"a": self.second.name, "s": self.second.name}
        self.first.set(b=OLD["b"])
        self.second.set(a=OLD["a"], s=OLD["s"])

    def holds(self, values: dict) -> bool:
        found = {"b": self.first.get("b"), "a": self.second.get("a"), "s": self.second.get("s")}
        return all(np.array_equal(found[name], array_of(values[name])) for name in values)


@pytest.mark.slow
@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
@pytest.mark.parametrize("victims", [[0], [1], [0, 1]], ids=["first", "second", "both"])
def test_checkpoint_deleted_while_it_is_restored_is_restored_whole_or_not_at_all(layout, victims):
    outcomes = set()
    for at in itertools.count():
        tasks = Pair()
        tasks.save_values(layout)
        countdown = itertools.count(at, -1)

        def delete(operation: str, path: Path, tasks=tasks, countdown=countdown) -> None:
            if next(countdown) == 0:
                for disk in tasks.disks:
                    disk.before = lambda operation, path: None
                for i in victims:
                    delete_checkpoint(
                        tasks.disks[i], Places(tasks.disks[i], ROOT).checkpoint("model")
                    )

        for disk in tasks.disks:
            disk.before = delete
        try:
            tasks.restore("model", *ENTRIES)
            outcomes.add("restored")
            assert tasks.holds(VALUES)
        except (NotFoundError, DataLossError):
            outcomes.add("refused")
            assert tasks.holds(OLD)
        if next(countdown) > 0:
            break  # It was restored before its turn to be deleted came.
    assert outcomes == {"restored", "refused"}


@pytest.mark.slow
def test_two_clients_that_save_to_one_path_at_once_leave_the_checkpoint_of_one(tmp_path):
    tasks = [Task(tmp_path / f"disk{i}", name=f"/job:ps/replica:0/task:{i}") for i in range(2)]
    for task in tasks:
        task.root.mkdir()
    saved: list[float] = []
    stores = {"a": tasks[0], "b": tasks[1]}
    values = {"a": np.zeros(1000), "b": np.zeros(1000)}

    def client() -> None:
        both = Tasks(*tasks)
        both.place = {"b": tasks[1].name}
        for _ in range(20):
            try:
                both.save("model", *entries_of(values))
                saved.append(1.0)
            except AbortedError as error:
                refused.append(error.message)

    refused: list[str] = []
    for name, task in stores.items():
        task.set(**{name: np.full(1000, 7.0)})
    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert saved
    assert all("another save to" in message for message in refused)
    both = Tasks(*tasks)
    both.place = {"b": tasks[1].name}
    both.save("model", *entries_of(values))
    for name, task in stores.items():
        task.set(**{name: np.zeros(1000)})
    both.restore("model", *entries_of(values))
    assert {*tasks[0].get("a"), *tasks[1].get("b")} == {7.0}
    for task in tasks:
        kinds = sorted(name.partition(".")[2][-16:] for name in os.listdir(task.root))
        assert len(kinds) == 3, kinds


class SparseDisk(LocalDisk):
    """Writes no zeros, so that a large file of them takes no space."""

    def create(self, path, size):
        file = super().create(path, size)
        write = file.write_at

        def write_at(data, offset):
            if np.frombuffer(data, np.uint8).any():
                write(data, offset)

        file.write_at = write_at
        return file


@pytest.mark.slow
def test_variable_beyond_4_gib_is_saved_and_its_parts_restored(tmp_path, monkeypatch):
    if shutil.disk_usage(tmp_path).free < 10 << 30:
        pytest.skip("less than 10 GiB are free on the disk")
    monkeypatch.setattr(disks, "_allocate", os.ftruncate)
    size = (1 << 32) + (6 << 20)
    marks = {0: 1, (1 << 31) - 1: 2, 1 << 31: 3, (1 << 32) - 1: 4, 1 << 32: 5, size - 1: 6}
    array = np.zeros(size, np.uint8)  # Pages that nobody writes to take no memory.
    for position, mark in marks.items():
        array[position] = mark
    task = Task(tmp_path, disk=SparseDisk(), runtime=RUNTIME)
    variable = task.store.get_or_create("v", "", dtypes.uint8, TensorShape([size]))
    variable.assign(array, adopt=True)
    tasks = Tasks(task)
    tasks.save("model", entry("v", dtypes.uint8, [size]))
    del array
    variable.discard()
    shard = next(tmp_path.glob("*.safetensors"))
    assert shard.stat().st_size > size
    assert shard.stat().st_blocks * 512 < 1 << 30
    for begin in (0, (1 << 31) - 8, (1 << 32) - 8, size - 16):
        part = entry("v", dtypes.uint8, node="part", slice_of=([size], [begin], [16]))
        tasks.restore("model", part)
        wanted = [marks.get(begin + i, 0) for i in range(16)]
        assert task.get("part").tolist() == wanted
