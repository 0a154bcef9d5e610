"""Damage of any kind to a checkpoint's files is noticed, and changes no variable."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_tasks import Task, Tasks, array_of, entries_of
from memory_disk import MemoryDisk
from paramserve_core.checkpoint.disk import write_new
from paramserve_core.checkpoint.listing import list_checkpoints
from paramserve_core.errors import DataLossError, NotFoundError, OpError
from paramserve_core.runtime import ThreadRuntime
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

ROOT = Path("/checkpoints")
RUNTIME = ThreadRuntime(max_workers=2)
VALUES = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.int64(7),
    "names": ["left", "right"],
    "flags": [True, False, True],
}
ENTRIES = entries_of(VALUES)
OLD = {
    "weights": np.full((2, 3), -1, np.float32),
    "step": np.int64(-1),
    "names": ["-", "-"],
    "flags": [False, False, False],
}


def saved(layout: int) -> tuple[MemoryDisk, list[Path]]:
    """A disk with a checkpoint, and its files."""
    disk = MemoryDisk()
    disk.make_directory(ROOT)
    task = Task(ROOT, disk=disk, runtime=RUNTIME)
    task.set(**VALUES)
    Tasks(task).save("model", *ENTRIES, format=layout)
    return disk, [ROOT / name for name in disk.names(ROOT) if name != "checkpoint"]


def restore(disk: MemoryDisk) -> Task:
    task = Task(ROOT, disk=disk, runtime=RUNTIME)
    task.set(**OLD)
    try:
        Tasks(task).restore("model", *ENTRIES)
    except OpError:
        for name, old in OLD.items():
            assert np.array_equal(task.get(name), array_of(old))
        raise
    return task


OWN = saved(messages.CHECKPOINT_FORMAT_SAFETENSORS)
OWN_BITS = sum(OWN[0].size(path) * 8 for path in OWN[1])


def flip(disk: MemoryDisk, files: list[Path], bit: int) -> Path:
    for path in files:
        bits = disk.size(path) * 8
        if bit < bits:
            disk.flip_bit(path, bit)
            return path
        bit -= bits
    raise AssertionError("there are fewer bits")


@settings(max_examples=150, deadline=None)
@given(bit=st.integers(0, OWN_BITS - 1))
def test_any_flipped_bit_is_noticed(bit):
    disk, files = OWN
    path = flip(disk, files, bit)
    try:
        with pytest.raises(DataLossError) as caught:
            restore(disk)
    finally:
        flip(disk, files, bit)
    assert path.name.split(".")[0] in caught.value.message


LAYOUTS = {
    "own": messages.CHECKPOINT_FORMAT_SAFETENSORS,
    "bundle": messages.CHECKPOINT_FORMAT_TENSORFLOW_V2,
}


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_flipped_bit_is_noticed(layout):
    disk, files = saved(layout)
    for bit in range(sum(disk.size(path) * 8 for path in files)):
        flip(disk, files, bit)
        with pytest.raises(DataLossError):
            restore(disk)
        flip(disk, files, bit)
    restore(disk)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_appended_byte_is_noticed_in_every_file(layout):
    disk, files = saved(layout)
    for path in files:
        disk._inode(path).content.append(0)
        with pytest.raises(DataLossError, match=r"model"):
            restore(disk)
        disk._inode(path).content.pop()
    restore(disk)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_file_cut_off_anywhere_is_noticed(layout):
    disk, files = saved(layout)
    for path in files:
        inode = disk._inode(path)
        whole = bytes(inode.content)
        for length in range(0, len(whole), 7):
            inode.content = bytearray(whole[:length])
            with pytest.raises(DataLossError):
                restore(disk)
        inode.content = bytearray(whole)
    restore(disk)


def test_damaged_index_of_a_bundle_is_listed_as_damaged_and_deleted_with_its_data():
    disk, files = saved(messages.CHECKPOINT_FORMAT_TENSORFLOW_V2)
    index = next(path for path in files if path.name == "model.index")
    disk.flip_bit(index, disk.size(index) * 8 - 1)
    listed = list_checkpoints(ROOT, disk)
    assert [Path(item.path).name for item in listed] == ["model"]
    assert "does not end like a table" in listed[0].problem
    task = Task(ROOT, disk=disk, runtime=RUNTIME)
    task.set(**VALUES)
    update = messages.StateUpdate(delete_paths=["model"])
    Tasks(task).save("other", *ENTRIES, state=update)
    assert not [name for name in disk.names(ROOT) if name.startswith("model")]


def test_file_beside_which_no_data_is_does_not_pass_for_a_bundle():
    disk = MemoryDisk()
    disk.make_directory(ROOT)
    write_new(disk, ROOT / "model.index", b"of a book" * 10).close()
    with pytest.raises(NotFoundError, match="there is no checkpoint at"):
        restore(disk)


def test_error_names_file_tensor_and_byte_range():
    disk, files = saved(messages.CHECKPOINT_FORMAT_SAFETENSORS)
    shard = next(path for path in files if path.name.endswith(".safetensors"))
    disk.flip_bit(shard, disk.size(shard) * 8 - 1)
    last = disk.size(shard) - 1
    with pytest.raises(
        DataLossError, match=rf"{shard.name}: damaged in bytes \d+ to {last},.*'names'"
    ):
        restore(disk)


def test_shard_of_another_save_is_noticed():
    disk, files = saved(messages.CHECKPOINT_FORMAT_SAFETENSORS)
    other, other_files = saved(messages.CHECKPOINT_FORMAT_SAFETENSORS)
    shard = next(path for path in files if path.name.endswith(".safetensors"))
    inode = other._inode(next(p for p in other_files if p.name.endswith(".safetensors")))
    inode.content[-1] ^= 1
    disk._directory(ROOT)[shard.name] = inode
    with pytest.raises(DataLossError, match=shard.name):
        restore(disk)
