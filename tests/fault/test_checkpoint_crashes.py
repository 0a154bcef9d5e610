"""A crash at any operation on any disk leaves the old checkpoint or the new one, whole."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entry
from memory_disk import CrashError, MemoryDisk
from paramserve_core import dtypes
from paramserve_core.errors import OpError, ResourceExhaustedError, UnavailableError
from paramserve_core.runtime import ThreadRuntime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

ROOT = Path("/checkpoints")
ENTRIES = [
    entry("a", shape=[4]),
    entry("b", shape=[4]),
    entry("table", node="part0", slice_of=([4, 2], [0, 0], [2, 2])),
    entry("table", node="part1", slice_of=([4, 2], [2, 0], [2, 2])),
    entry("name", dtypes.string, [2]),
]
PLACE = {"a": 0, "part0": 0, "b": 1, "part1": 1, "name": 1}
RUNTIME = ThreadRuntime(max_workers=2)


class Machine(Task):
    """A task on a disk that may go down; then it cannot be reached."""

    def __init__(self, number: int, disk: MemoryDisk) -> None:
        name = f"/job:ps/replica:0/task:{number}"
        super().__init__(ROOT, name=name, runtime=RUNTIME, disk=disk)
        self.disk = disk

    def call(self, request, tensors=()):
        try:
            return super().call(request, tensors)
        except CrashError:
            raise UnavailableError(None, None, f"{self.name} is down") from None


class Cluster(Tasks):
    """Two machines with a disk each."""

    def __init__(self, disks) -> None:
        super().__init__(*(Machine(i, disk) for i, disk in enumerate(disks)))
        self.machines = list(self.tasks.values())
        self.place = {node: self.machines[i].name for node, i in PLACE.items()}

    def fill(self, value: float) -> None:
        first, second = self.machines
        array = np.full(4, value, np.float32)
        first.set(a=array, part0=array.reshape(2, 2))
        second.set(b=array, part1=array.reshape(2, 2), name=[f"{value:g}", "x"])

    def values(self) -> set[float]:
        first, second = self.machines
        arrays = [first.get("a"), first.get("part0"), second.get("b"), second.get("part1")]
        name = float(second.get("name")[0])
        return {float(x) for array in arrays for x in array.reshape(-1)} | {name}


def new_disks(seed: int) -> list[MemoryDisk]:
    disks = [MemoryDisk(seed), MemoryDisk(seed + 1)]
    for disk in disks:
        disk.make_directory(ROOT)
    return disks


def saved_once(seed: int) -> list[MemoryDisk]:
    """Disks with a checkpoint of ones at "model"."""
    disks = new_disks(seed)
    cluster = Cluster(disks)
    cluster.fill(1)
    cluster.save("model", *ENTRIES, state=messages.StateUpdate(all_paths=["model"]))
    return disks


def try_to_save(cluster: Cluster, path: str) -> bool:
    update = messages.StateUpdate(all_paths=dict.fromkeys(["model", path]))
    try:
        cluster.save(path, *ENTRIES, state=update)
    except OpError:
        return False
    return True


def count_operations(path: str) -> list[int]:
    """How many operations on each disk the second save takes."""
    disks = saved_once(0)
    before = [disk.operations for disk in disks]
    cluster = Cluster(disks)
    cluster.fill(2)
    assert try_to_save(cluster, path)
    return [disk.operations - b for disk, b in zip(disks, before, strict=True)]


def files_of(disk: MemoryDisk) -> set[str]:
    return {name for name in disk.names(ROOT) if name != "checkpoint"}


def expected_files(disk: MemoryDisk, *paths: str) -> set[str]:
    """What the indexes on a disk name, and they themselves."""
    expected = set()
    for name in files_of(disk):
        if name.endswith(".index.json") and name.split(".")[0] in paths:
            shards = [n for n in files_of(disk) if n.endswith(".safetensors")]
            file = disk.open(ROOT / name)
            content = bytearray(file.size)
            file.read_into(memoryview(content), 0)
            expected |= {name} | {n for n in shards if n.encode() in content}
    return expected


def check_after_crash(disks: list[MemoryDisk], path: str, *, is_saved: bool) -> None:
    for disk in disks:
        disk.restart()
    cluster = Cluster(disks)
    cluster.restore("model", *ENTRIES)
    found = cluster.values()
    assert found in ({1.0}, {2.0})
    if path != "model":
        assert found == {1.0}
    if is_saved:
        cluster.restore(path, *ENTRIES)
        assert cluster.values() == {2.0}
    # The next save settles what was left, and neither loses nor mixes anything.
    cluster.fill(3)
    cluster.save("third", *ENTRIES, state=messages.StateUpdate(all_paths=["model", "third"]))
    cluster.restore("model", *ENTRIES)
    assert cluster.values() == found
    cluster.restore("third", *ENTRIES)
    assert cluster.values() == {3.0}
    for disk in disks:
        assert files_of(disk) == expected_files(disk, "model", "third", path)
        state = cluster.read_state()
        assert b"third" in state.state


@pytest.mark.slow
@pytest.mark.parametrize("path", ["model", "other"])
@pytest.mark.parametrize("down", [[0], [1], [0, 1]], ids=["first", "second", "both"])
def test_crash_at_any_operation_leaves_one_whole_checkpoint(path, down):
    counts = count_operations(path)
    for at in range(max(counts[i] for i in down) + 1):
        for seed in range(2):
            disks = saved_once(seed)
            for i in down:
                disks[i].crash_at = disks[i].operations + at
            cluster = Cluster(disks)
            cluster.fill(2)
            is_saved = try_to_save(cluster, path)
            check_after_crash(disks, path, is_saved=is_saved)


@pytest.mark.slow
def test_crash_of_both_at_different_operations_leaves_one_whole_checkpoint():
    counts = count_operations("model")
    for first in range(0, counts[0] + 1, 2):
        for second in range(0, counts[1] + 1, 3):
            disks = saved_once(first * 100 + second)
            disks[0].crash_at = disks[0].operations + first
            disks[1].crash_at = disks[1].operations + second
            cluster = Cluster(disks)
            cluster.fill(2)
            is_saved = try_to_save(cluster, "model")
            check_after_crash(disks, "model", is_saved=is_saved)


def test_save_that_only_one_task_committed_is_given_to_the_other():
    disks = saved_once(0)
    cluster = Cluster(disks)
    cluster.fill(2)

    def crash_before_commit(operation: str, path: Path) -> None:
        if operation == "rename" and path.name == "model.safetensors.index.json":
            disks[1].is_down = True
            raise CrashError

    disks[1].before = crash_before_commit
    assert not try_to_save(cluster, "model")
    disks[1].before = lambda operation, path: None
    for disk in disks:
        disk.restart()
    cluster = Cluster(disks)
    cluster.restore("model", *ENTRIES)
    assert cluster.values() == {2.0}
    cluster.save("other", *ENTRIES)
    indexes = []
    for disk in disks:
        file = disk.open(ROOT / "model.safetensors.index.json")
        content = bytearray(file.size)
        file.read_into(memoryview(content), 0)
        indexes.append(bytes(content))
    assert indexes[0] == indexes[1]


class FailingDisk:
    """Makes one operation of a disk fail with an error of the operating system."""

    def __init__(self, disk: MemoryDisk, at: int, number: int) -> None:
        self.is_over = False
        self._countdown = at
        self._number = number
        disk.before = self._before

    def _before(self, operation: str, path: Path) -> None:
        self._countdown -= 1
        if self._countdown < 0 and not self.is_over:
            self.is_over = True
            raise OSError(self._number, os.strerror(self._number), str(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["model", "other"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
def test_disk_that_fails_at_any_operation_leaves_one_whole_checkpoint(path, number):
    counts = count_operations(path)
    for at in range(max(counts)):
        for i in range(2):
            disks = saved_once(at)
            cluster = Cluster(disks)
            cluster.fill(2)
            FailingDisk(disks[i], at, number)
            is_saved = try_to_save(cluster, path)
            disks[i].before = lambda operation, path: None
            cluster.restore("model", *ENTRIES)
            found = cluster.values()
            assert found in ({1.0}, {2.0})
            assert found == {1.0} or path == "model"
            if is_saved:
                cluster.restore(path, *ENTRIES)
                assert cluster.values() == {2.0}
            # The session goes on: the next save in it works, and leaves nothing behind.
            cluster.fill(3)
            cluster.save("third", *ENTRIES)
            cluster.restore("model", *ENTRIES)
            assert cluster.values() == found
            for disk in disks:
                assert files_of(disk) == expected_files(disk, "model", "third", path)


def test_full_disk_is_said_to_be_full_and_leaves_nothing():
    disks = saved_once(0)
    cluster = Cluster(disks)
    cluster.fill(2)
    before = [disk.names(ROOT) for disk in disks]

    def full(operation: str, path: Path) -> None:
        if operation == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    disks[1].before = full
    with pytest.raises(ResourceExhaustedError, match="the disk is full"):
        cluster.save("other", *ENTRIES)
    assert [disk.names(ROOT) for disk in disks] == before
