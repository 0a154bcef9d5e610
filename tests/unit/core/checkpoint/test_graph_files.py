"""The ops that write and read checkpoints, and the paths that they may touch."""

import numpy as np
import pytest

from checkpoint_tasks import Task, array_of
from kernel_driver import run
from paramserve_core import dtypes
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    PermissionDeniedError,
    UnimplementedError,
)
from paramserve_core.executor.step import StepContext
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.opdefs.io import format_shape_and_slice, parse_shape_and_slice

FULL = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.fixture
def step(tmp_path):
    task = Task(tmp_path)
    return StepContext(task.store, RandomStreams(0), task.checkpoints.files)


def save(step, path, names, parts, *tensors):
    run("SaveV2", path, names, parts, list(tensors), step=step)


def restore(step, path, names, parts, *types):
    return run("RestoreV2", path, names, parts, step=step, dtypes=types)


def test_saved_tensors_are_restored(step):
    save(step, "m", ["w", "s"], ["", ""], FULL, array_of(["a", "b"]))
    w, s = restore(step, "m", ["w", "s"], ["", ""], dtypes.float32, dtypes.string)
    assert (w == FULL).all()
    assert s.tolist() == [b"a", b"b"]


def test_part_of_a_tensor_is_restored(step):
    save(step, "m", ["w"], [""], FULL)
    (rows,) = restore(step, "m", ["w"], ["4 3 1,2:-"], dtypes.float32)
    assert (rows == FULL[1:3]).all()
    (box,) = restore(step, "m", ["w"], ["4 3 1,2:1,1"], dtypes.float32)
    assert (box == FULL[1:3, 1:2]).all()


def test_single_tensors_are_restored(step):
    save(step, "m", ["w"], [""], FULL)
    (w,) = run("Restore", "m", "w", step=step, dt=dtypes.float32)
    assert (w == FULL).all()
    (part,) = run("RestoreSlice", "m", "w", "4 3 0,1:-", step=step, dt=dtypes.float32)
    assert (part == FULL[:1]).all()


def test_parts_are_merged_into_one_checkpoint(step, tmp_path):
    save(step, "m_temp/part-0", ["w", "x"], ["4 3 0,1:-", ""], FULL[:1], np.float32(7))
    save(step, "m_temp/part-1", ["w"], ["4 3 1,3:-"], FULL[1:])
    run("MergeV2Checkpoints", ["m_temp/part-0", "m_temp/part-1"], "m", step=step)
    reader = CheckpointReader(tmp_path / "m")
    assert (reader.get_tensor("w") == FULL).all()
    assert reader.get_tensor("x") == 7
    assert not (tmp_path / "m_temp").exists()


def test_parts_that_are_no_whole_are_not_merged(step, tmp_path):
    save(step, "t/a", ["w"], ["4 3 0,1:-"], FULL[:1])
    save(step, "t/b", ["w"], ["4 3 2,2:-"], FULL[2:])
    with pytest.raises(InvalidArgumentError, match="are not the whole tensor"):
        run("MergeV2Checkpoints", ["t/a", "t/b"], "m", step=step)
    with pytest.raises(NotFoundError, match="no such file"):
        run("MergeV2Checkpoints", ["t/a", "t/c"], "m", step=step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]
    assert len(list((tmp_path / "t").iterdir())) == 4


@pytest.mark.parametrize(
    ("names", "parts", "types", "error", "text"),
    [
        (["x"], [""], [dtypes.float32], NotFoundError, "Key x not found in checkpoint 'm'; it has"),
        (["w"], [""], [dtypes.float64], InvalidArgumentError, "float32 in the checkpoint"),
        (["w"], ["5 3 4,1:-"], [dtypes.float32], InvalidArgumentError, "is not within its shape"),
        (["w"], ["4 3 9"], [dtypes.float32], InvalidArgumentError, "is no shape and slice"),
        (["w"], ["4 3 3,2:-"], [dtypes.float32], InvalidArgumentError, "not within the shape"),
        (["w", "w"], [""], [dtypes.float32], InvalidArgumentError, r"wanted \[1\]"),
        (["w"], [["" * 2]], [dtypes.float32], InvalidArgumentError, r"wanted \[1\]"),
        ([b"\xff"], [""], [dtypes.float32], InvalidArgumentError, "is not UTF-8"),
    ],
)
def test_what_cannot_be_restored_is_refused(step, names, parts, types, error, text):
    save(step, "m", ["w"], [""], FULL)
    with pytest.raises(error, match=text):
        restore(step, "m", array_of(names), array_of(parts), *types)


def test_no_checkpoint(step):
    with pytest.raises(NotFoundError, match="there is no checkpoint at 'm'"):
        restore(step, "m", ["w"], [""], dtypes.float32)


def test_damage_is_noticed(step, tmp_path):
    save(step, "m", ["w"], [""], FULL)
    data = tmp_path / "m.data-00000-of-00001"
    data.write_bytes(b"\1" + data.read_bytes()[1:])
    with pytest.raises(DataLossError, match="damaged in bytes 0 to 47"):
        restore(step, "m", ["w"], [""], dtypes.float32)


@pytest.mark.parametrize("path", ["../m", "/etc/m"])
def test_ops_are_confined_to_the_root(step, path):
    for run_op in (
        lambda: save(step, path, ["w"], [""], FULL),
        lambda: restore(step, path, ["w"], [""], dtypes.float32),
        lambda: run("MergeV2Checkpoints", [path], "m", step=step),
        lambda: run("MergeV2Checkpoints", ["m"], path, step=step),
    ):
        with pytest.raises(PermissionDeniedError, match="--checkpoint-root"):
            run_op()


def test_step_without_a_disk_says_so():
    with pytest.raises(FailedPreconditionError, match=r"use Saver\.save and Saver\.restore"):
        run("Restore", "m", "w", dt=dtypes.float32)


def test_failed_save_leaves_nothing(step, tmp_path):
    with pytest.raises(InvalidArgumentError, match="for the part"):
        save(step, "m", ["w"], ["4 3 0,2:-"], FULL)
    with pytest.raises(OpError):
        save(step, "a/b/m", ["w"], [""], FULL)
    assert list(tmp_path.iterdir()) == []


def test_names_of_shards():
    assert run("ShardedFilename", "m", np.int32(1), np.int32(12))[0] == b"m-00001-of-00012"
    assert run("ShardedFilespec", "m", np.int32(12))[0] == b"m-?????-of-00012"


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("^s3://.*", "s3://b/m", True),
        ("^s3://.*", "/m", False),
        ("/m", "/m", True),
        ("/m", "/mm", False),
        (".*", "", True),
    ],
)
def test_paths_are_matched(pattern, text, matches):
    assert run("StaticRegexFullMatch", text, pattern=pattern)[0] == matches


def test_patterns_that_could_take_for_ever_are_refused():
    with pytest.raises(UnimplementedError, match="keep a server busy for ever"):
        run("StaticRegexFullMatch", "aaa", pattern="(a*)*b")


def test_strings_are_joined():
    joined = run("StringJoin", [array_of(["a", "b"]), array_of("_"), array_of(["c", "d"])])[0]
    assert joined.tolist() == [b"a_c", b"b_d"]
    assert run("StringJoin", [array_of("a"), array_of("b")], separator="/")[0] == b"a/b"


@pytest.mark.parametrize("text", ["4 3 0,1:-", "4 -", "4 3 1,3:0,2"])
def test_shape_and_slice_is_written_as_it_is_read(text):
    assert format_shape_and_slice(*parse_shape_and_slice(text)) == text


def test_scalar_is_a_whole():
    assert format_shape_and_slice([], [], []) == ""
    assert parse_shape_and_slice("") is None


@pytest.mark.parametrize(
    "text", ["4", "4 3 -", "4 1,1:1,1", "4 a,b", "4 1,1,1", "-4 -", "4 ,", "x", " "]
)
def test_malformed_shape_and_slice_is_refused(text):
    with pytest.raises(ValueError, match="is no shape and slice"):
        parse_shape_and_slice(text)
