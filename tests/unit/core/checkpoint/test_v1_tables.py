"""TensorFlow's V1 files, written here record by record."""

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entry
from memory_disk import MemoryDisk
from paramserve_core import dtypes
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.checkpoint.slices import Box, extents_of_box
from paramserve_core.checkpoint.table import (
    FOOTER_BYTES,
    MAGIC,
    data_blocks,
    open_block,
    write_table,
    write_varint,
)
from paramserve_core.crc32c import crc32c, mask
from paramserve_core.errors import DataLossError, OpError
from paramserve_core.tensors import make_tensor_proto
from paramserve_protos.v1.saved_tensor_slice_pb2 import SavedTensorSlices

FULL = np.arange(12, dtype=np.float32).reshape(4, 3)


def records(tensors):
    """The records of a file: of each tensor the whole shape, and boxes with their values."""
    head = SavedTensorSlices()
    items = []
    for name, (shape, dtype, parts) in tensors.items():
        meta = head.meta.tensor.add(name=name, type=dtype.as_datatype_enum)
        meta.shape.SetInParent()
        for size in shape:
            meta.shape.dim.add(size=size)
        for box, values in parts:
            meta.slice.append(extents_of_box(box, shape))
            record = SavedTensorSlices()
            record.data.name = name
            record.data.slice.CopyFrom(extents_of_box(box, shape))
            proto = make_tensor_proto(values, dtype)
            record.data.data.CopyFrom(proto)
            items.append((f"{name}{box}".encode(), record.SerializeToString()))
    return [(b"", head.SerializeToString()), *sorted(items)]


def whole(values, dtype=dtypes.float32):
    values = np.asarray(values)
    return values.shape, dtype, [(Box.whole(values.shape), values)]


def rows(low, high):
    return (4, 3), dtypes.float32, [(Box((low, 0), (high - low, 3)), FULL[low:high])]


def compressed(content):
    """A table whose blocks are stored as Snappy stores them, without saving a byte."""
    out = bytearray()
    places = []

    def append(packed, compression):
        place = write_varint(len(out)) + write_varint(len(packed))
        stored = packed + compression
        out.extend(stored + mask(crc32c(stored)).to_bytes(4, "little"))
        return place

    for block in data_blocks(lambda o, n: content[o : o + n], len(content)):
        plain = open_block(content[block.offset : block.offset + block.nbytes + 5])
        packed = write_varint(len(plain))
        for begin in range(0, len(plain), 60):
            piece = plain[begin : begin + 60]
            packed += bytes([len(piece) - 1 << 2]) + piece
        places.append(append(packed, b"\1"))
    restarts = bytes(4) + (1).to_bytes(4, "little")
    top = b"".join(
        write_varint(0) + write_varint(1) + write_varint(len(place)) + bytes([i]) + place
        for i, place in enumerate(places)
    )
    footer = append(restarts, b"\0") + append(top + restarts, b"\0")
    return bytes(out) + footer.ljust(FOOTER_BYTES - len(MAGIC), b"\0") + MAGIC


TENSORS = {
    "w": whole(FULL),
    "n": whole(np.int64(7), dtypes.int64),
    "s": whole(np.array([b"a", b"bc"], object), dtypes.string),
    "empty": whole(np.zeros((0, 2), np.float32)),
}


def check(path):
    reader = CheckpointReader(path)
    assert (reader.get_tensor("w") == FULL).all()
    assert reader.get_tensor("n") == 7
    assert reader.get_tensor("s").tolist() == [b"a", b"bc"]
    assert reader.get_tensor("empty").shape == (0, 2)


def test_one_file(tmp_path):
    (tmp_path / "m").write_bytes(write_table(records(TENSORS)))
    check(tmp_path / "m")


def test_compressed_blocks(tmp_path):
    (tmp_path / "m").write_bytes(compressed(write_table(records(TENSORS))))
    check(tmp_path / "m")


def test_slices_in_one_file(tmp_path):
    shape, dtype, _ = rows(0, 4)
    parts = [rows(low, high)[2][0] for low, high in [(0, 1), (1, 4)]]
    (tmp_path / "m").write_bytes(write_table(records({"w": (shape, dtype, parts)})))
    assert (CheckpointReader(tmp_path / "m").get_tensor("w") == FULL).all()


def test_files_on_several_disks_are_one_checkpoint(tmp_path):
    tasks = []
    for i, bounds in enumerate([(0, 3), (3, 4)]):
        folder = tmp_path / str(i)
        folder.mkdir()
        content = write_table(records({"w": rows(*bounds), f"only{i}": whole([float(i)])}))
        (folder / f"m-0000{i}-of-00002").write_bytes(content)
        tasks.append(Task(folder, name=f"task {i}"))
    cluster = Tasks(*tasks)
    cluster.place = {"a": "task 0", "b": "task 1"}
    cluster.restore(
        "m-?????-of-00002",
        entry("w", shape=[4, 3], node="a"),
        entry("w", node="b", slice_of=((4, 3), (1, 0), (3, 3))),
        entry("only1", shape=[1]),
    )
    assert (tasks[0].get("a") == FULL).all()
    assert (tasks[1].get("b") == FULL[1:]).all()
    assert tasks[0].get("only1").tolist() == [1.0]


def test_missing_file_of_several_is_noticed(tmp_path):
    (tmp_path / "m-00000-of-00002").write_bytes(write_table(records({"w": rows(0, 3)})))
    with pytest.raises(DataLossError, match="are no whole checkpoint"):
        CheckpointReader(tmp_path / "m")


def test_every_flipped_bit_is_noticed_or_harmless(tmp_path):
    content = write_table(records(TENSORS))
    disk = MemoryDisk()
    disk.make_directory(tmp_path)
    file = disk.create(tmp_path / "m", len(content))
    file.write_at(content, 0)
    for bit in range(0, len(content) * 8, 5):
        disk.flip_bit(tmp_path / "m", bit)
        try:
            reader = CheckpointReader(tmp_path / "m", disk)
            found = [reader.get_tensor(name) for name in ("w", "n", "s")]
        except OpError:
            found = None
        disk.flip_bit(tmp_path / "m", bit)
        if found is not None:
            assert (found[0] == FULL).all()
            assert found[1] == 7
            assert found[2].tolist() == [b"a", b"bc"]


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([(b"", b"\xff")], "no message of the kind expected"),
        ([(b"w", b"\xff")], "no message of the kind expected"),
        (records(TENSORS)[1:], "is not in the table of contents"),
    ],
)
def test_table_of_something_else_is_refused(tmp_path, items, text):
    (tmp_path / "m").write_bytes(write_table(items))
    with pytest.raises(DataLossError, match=text):
        CheckpointReader(tmp_path / "m")


def test_slice_outside_of_its_tensor_is_refused(tmp_path):
    tensors = {"w": ((2, 3), dtypes.float32, [(Box((3, 0), (1, 3)), FULL[:1])])}
    (tmp_path / "m").write_bytes(write_table(records(tensors)))
    with pytest.raises(DataLossError, match="not within its shape"):
        CheckpointReader(tmp_path / "m")


def test_parts_of_a_shape_that_no_array_has_are_refused(tmp_path):
    shape = (0, 1 << 62, 1 << 62)
    nothing = np.zeros((0, 0, 0), np.float32)
    tensors = {"w": (shape, dtypes.float32, [(Box((0, 0, 0), (0, 0, 0)), nothing)])}
    (tmp_path / "m").write_bytes(write_table(records(tensors)))
    with pytest.raises(DataLossError, match=r"'w' has the shape .*, which no array can have"):
        CheckpointReader(tmp_path / "m")


def test_value_of_another_length_is_refused(tmp_path):
    tensors = {"w": ((4, 3), dtypes.float32, [(Box.whole((4, 3)), np.zeros(13, np.float32))])}
    (tmp_path / "m").write_bytes(write_table(records(tensors)))
    with pytest.raises(DataLossError, match=r"m: damaged in bytes .* the tensor 'w'"):
        CheckpointReader(tmp_path / "m").get_tensor("w")


@pytest.mark.parametrize("dtype", [dtypes.string, dtypes.float32])
def test_shape_beyond_what_is_stored_is_refused_without_allocating(tmp_path, dtype):
    shape = (1 << 40,)
    values = np.array([b"a"], object) if dtype is dtypes.string else np.float32([1])
    items = records({"w": (shape, dtype, [(Box.whole(shape), values)])})
    (tmp_path / "m").write_bytes(write_table(items))
    with pytest.raises(OpError):
        CheckpointReader(tmp_path / "m").get_tensor("w")
