"""Damage of any kind to a checkpoint's files is noticed, and changes no variable."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_tasks import Task, Tasks, array_of, entries_of
from memory_disk import MemoryDisk
from paramserve_core.checkpoint.finding import decode, read_index
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.places import Places
from paramserve_core.errors import DataLossError, OpError
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


@pytest.mark.slow
def test_every_flipped_bit_is_noticed():
    disk, files = OWN
    for bit in range(OWN_BITS):
        flip(disk, files, bit)
        with pytest.raises(DataLossError):
            restore(disk)
        flip(disk, files, bit)
    restore(disk)


@pytest.mark.slow
def test_flipped_bit_of_a_bundle_is_noticed_where_tensors_are():
    disk, files = saved(messages.CHECKPOINT_FORMAT_TENSORFLOW_V2)
    place = Places(disk, ROOT).checkpoint("model")
    index = read_index(disk, place)
    tensors = decode(Layout.TENSORFLOW_V2, index.index, "model").tensors.values()
    parts = [part for tensor in tensors for part in tensor.parts]
    data = next(path for path in files if ".data-" in path.name)
    for part in parts:
        for bit in range(part.offset * 8, (part.offset + part.nbytes) * 8):
            disk.flip_bit(data, bit)
            with pytest.raises(DataLossError):
                restore(disk)
            disk.flip_bit(data, bit)
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


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_truncated_file_is_noticed(suffix):
    disk, files = saved(messages.CHECKPOINT_FORMAT_SAFETENSORS)
    path = next(path for path in files if path.name.endswith(suffix))
    inode = disk._inode(path)
    for length in range(0, len(inode.content), 7):
        whole = bytes(inode.content)
        inode.content = bytearray(whole[:length])
        with pytest.raises(DataLossError):
            restore(disk)
        inode.content = bytearray(whole)
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
