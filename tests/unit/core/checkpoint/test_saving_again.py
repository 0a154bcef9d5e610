"""Saving where something is already: another checkpoint, another save, half a save."""

import os
from dataclasses import replace

import pytest

from checkpoint_tasks import Task, Tasks, entries_of, two_tasks
from paramserve_core.checkpoint.entries import pack_entries
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.index_file import decode_index, encode_index
from paramserve_core.checkpoint.json_fields import MAX_INT
from paramserve_core.checkpoint.merging import merge_shards
from paramserve_core.errors import (
    AbortedError,
    FailedPreconditionError,
    UnavailableError,
)
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

V1 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V1
V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2


def names_in(directory) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.fixture
def task(tmp_path):
    return Task(tmp_path)


def test_save_that_cannot_be_counted_is_refused_and_leaves_the_checkpoint(task):
    values = {"v": [1.0]}
    task.set(**values)
    Tasks(task).save("model", *entries_of(values))
    index = next(task.root.glob("*.index.json"))
    read = decode_index(index.read_bytes())
    index.write_bytes(encode_index(replace(read, generation=MAX_INT)))
    before = names_in(task.root)
    task.set(v=[2.0])
    with pytest.raises(FailedPreconditionError, match="not one more can be counted"):
        Tasks(task).save("model", *entries_of(values))
    assert names_in(task.root) == before
    Tasks(task).restore("model", *entries_of(values))
    assert task.get("v").tolist() == [1.0]


def test_saving_again_to_a_path_replaces_the_checkpoint(task):
    tasks = Tasks(task)
    for value in (1.0, 2.0):
        task.set(v=[value])
        tasks.save("model", *entries_of({"v": [value]}))
    assert len(names_in(task.root)) == 3
    task.set(v=[0.0])
    tasks.restore("model", *entries_of({"v": [0.0]}))
    assert task.get("v").tolist() == [2.0]


def test_saving_again_in_another_format_replaces_the_checkpoint(task):
    tasks = Tasks(task)
    for value, layout in ((1.0, 0), (2.0, V2), (3.0, 0)):
        task.set(v=[value])
        tasks.save("model", *entries_of({"v": [value]}), format=layout)
        assert len(names_in(task.root)) == 3
        task.set(v=[0.0])
        tasks.restore("model", *entries_of({"v": [0.0]}))
        assert task.get("v").tolist() == [value]


def test_saving_again_from_other_tasks_replaces_the_checkpoint(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path)
    entries = entries_of({"v": [0.0]})
    for value, where in ((1.0, first), (2.0, second), (3.0, first)):
        tasks.place = {"v": where.name}
        where.set(v=[value])
        tasks.save("model", *entries)
        where.set(v=[0.0])
        tasks.restore("model", *entries)
        assert where.get("v").tolist() == [value]
        other = second if where is first else first
        assert [n for n in names_in(other.root) if n != "checkpoint"] == []


def test_save_while_another_to_the_same_path_runs_is_refused(task):
    task.set(v=[1.0])
    request = messages.TakeSnapshotRequest(
        save_id="0" * 16, path="model", entries=pack_entries(entries_of({"v": [1.0]}))
    )
    task.call(request)
    with pytest.raises(AbortedError, match=r"another save to .*model is in progress"):
        Tasks(task).save("model", *entries_of({"v": [1.0]}))
    task.checkpoints.forget(task.session)
    Tasks(task).save("model", *entries_of({"v": [1.0]}))


def test_failure_on_one_task_takes_the_save_back_everywhere(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path)
    first.set(a=[1.0])
    second.set(b=[2.0])
    tasks.place = {"b": second.name}
    original = second.call

    def fail_to_write(request, tensors=()):
        if isinstance(request, messages.WriteShardRequest):
            raise UnavailableError(None, None, "out of reach")
        return original(request, tensors)

    second.call = fail_to_write
    with pytest.raises(UnavailableError):
        tasks.save("model", *entries_of({"a": [1.0], "b": [2.0]}))
    assert names_in(first.root) == names_in(second.root) == []
    assert first.store.find("a")._references() <= 2  # no lease is left


def test_each_call_of_a_save_and_restore_can_be_repeated(task):
    """A call whose answer was lost is made again."""
    task.set(v=[1.0])
    original = task.call
    answers = []

    def twice(request, tensors=()):
        first = original(request, tensors)
        second = original(request, tensors)
        answers.append((type(request).__name__, first[0], second[0]))
        return second

    task.call = twice
    tasks = Tasks(task)
    tasks.save("model", *entries_of({"v": [1.0]}))
    task.set(v=[2.0])
    tasks.restore("model", *entries_of({"v": [1.0]}))
    assert task.get("v").tolist() == [1.0]
    assert all(first == second for _, first, second in answers)
    assert len(answers) == 8


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_session_that_ends_takes_its_save_along_until_it_is_prepared(task, steps):
    task.set(v=[1.0])
    save_id = "0123456789abcdef"
    calls = [
        messages.TakeSnapshotRequest(
            save_id=save_id, path="model", entries=pack_entries(entries_of({"v": [1.0]}))
        ),
        messages.WriteShardRequest(save_id=save_id, shard=0, shard_count=1),
        None,
    ]
    written = None
    for request in calls[:steps]:
        if request is None:
            index = index_of(written, save_id)
            request = messages.PrepareCommitRequest(save_id=save_id, index=index)
        written = task.call(request)[0] or written
    task.checkpoints.forget("somebody else")
    assert bool(names_in(task.root)) == (steps > 1)
    task.checkpoints.forget(task.session)
    # A prepared save may be committed elsewhere: only the next save can tell.
    assert len(names_in(task.root)) == (2 if steps == 3 else 0)
    Tasks(task).save("other", *entries_of({"v": [1.0]}))
    assert not [name for name in names_in(task.root) if save_id in name]


def index_of(written, save_id):
    shards = [written]
    index = merge_shards(Layout.SAFETENSORS, shards, save_id=save_id, generation=1, writer="test")
    return encode_index(index)
