"""The state file, and which checkpoints are deleted."""

import shutil

import pytest
from google.protobuf import text_format

from checkpoint_tasks import Task, Tasks, entries_of
from paramserve_core.checkpoint.disk import LocalDisk
from paramserve_core.errors import FailedPreconditionError, InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages
from paramserve_protos.v1.checkpoint_state_pb2 import CheckpointState
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef

ENTRIES = entries_of({"v": [1.0]})
GRAPH = MetaGraphDef(meta_info_def=MetaGraphDef.MetaInfoDef(tags=["train"])).SerializeToString()


@pytest.fixture
def tasks(tmp_path):
    task = Task(tmp_path)
    task.set(v=[1.0])
    return Tasks(task)


def state_of(directory, name="checkpoint"):
    return text_format.Parse((directory / name).read_text(), CheckpointState())


def save(tasks, path, kept=(), deleted=(), **options):
    state = messages.StateUpdate(
        all_paths=[*kept, path], delete_paths=deleted, **options.pop("state", {})
    )
    tasks.save(path, *ENTRIES, state=state, **options)


def test_state_file_names_the_newest_and_the_kept(tasks, tmp_path):
    save(tasks, "m-1", state={"all_timestamps": [1.5], "last_preserved_timestamp": 0.5})
    save(tasks, "m-2", ["m-1"], state={"all_timestamps": [1.5, 2.5]})
    state = state_of(tmp_path)
    assert state.model_checkpoint_path == "m-2"
    assert list(state.all_model_checkpoint_paths) == ["m-1", "m-2"]
    assert list(state.all_model_checkpoint_timestamps) == [1.5, 2.5]
    assert state.last_preserved_timestamp == 0.5


def test_paths_below_the_state_files_directory_are_relative_to_it(tasks, tmp_path):
    (tmp_path / "runs" / "old").mkdir(parents=True)
    save(tasks, "runs/m-2", ["runs/old/m-1", f"{tmp_path}/runs/m-0", "elsewhere/m"])
    state = state_of(tmp_path / "runs")
    assert state.model_checkpoint_path == "m-2"
    kept = ["old/m-1", "m-0", f"{tmp_path}/elsewhere/m", "m-2"]
    assert list(state.all_model_checkpoint_paths) == kept


def test_directory_can_be_moved(tasks, tmp_path):
    (tmp_path / "a").mkdir()
    save(tasks, f"{tmp_path}/a/m-1")
    shutil.move(tmp_path / "a", tmp_path / "b")
    state = CheckpointState.FromString(tasks.read_state("b").state)
    tasks.restore("b/" + state.model_checkpoint_path, *ENTRIES)


def test_latest_filename_names_another_state_file(tasks, tmp_path):
    save(tasks, "m-1", state={"latest_filename": "eval_checkpoint"})
    assert state_of(tmp_path, "eval_checkpoint").model_checkpoint_path == "m-1"
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize("name", ["../checkpoint", "a/b", "..", "x" * 300])
def test_latest_filename_is_one_name(tasks, name):
    with pytest.raises(InvalidArgumentError, match="name of a state file"):
        save(tasks, "m-1", state={"latest_filename": name})


def test_as_many_times_as_paths(tasks):
    with pytest.raises(InvalidArgumentError, match="1 kept checkpoints cannot have 2 times"):
        save(tasks, "m-1", state={"all_timestamps": [1.0, 2.0]})


def test_deletion_removes_every_file_of_a_checkpoint(tasks, tmp_path):
    v2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2
    save(tasks, "m-1", meta_graph=GRAPH, meta_graph_path="m-1.meta")
    save(tasks, "m-2", meta_graph=GRAPH, meta_graph_path="m-2.graph")
    save(tasks, "m-3", format=v2, meta_graph=GRAPH, meta_graph_path="m-3.meta")
    save(tasks, "m-4", deleted=["m-1", "m-2", "m-3", "never-there"])
    left = {p.name.split(".")[0] for p in tmp_path.iterdir()}
    assert left == {"checkpoint", "m-4"}


class StoppingDisk(LocalDisk):
    """A disk whose process ends before it deletes one more file of m-1."""

    def __init__(self, removals: int) -> None:
        self._removals = removals

    def remove(self, path):
        if path.name.startswith("m-1"):
            if not self._removals:
                raise KeyboardInterrupt
            self._removals -= 1
        return super().remove(path)


@pytest.mark.parametrize("removals", [1, 2])
def test_deletion_that_was_interrupted_is_ended_by_the_next_save(tasks, tmp_path, removals):
    save(tasks, "m-1", meta_graph_path="m-1.meta", meta_graph=GRAPH)
    stopped = Task(tmp_path, disk=StoppingDisk(removals))
    stopped.set(v=[1.0])
    with pytest.raises(KeyboardInterrupt):
        save(Tasks(stopped), "m-2", deleted=["m-1"])
    assert list(tmp_path.glob("m-1*"))
    save(tasks, "m-3", ["m-2"])
    assert not list(tmp_path.glob("m-1*"))


def test_checkpoint_that_was_just_saved_is_not_deleted(tasks):
    save(tasks, "m-1", deleted=["m-1"])
    tasks.restore("m-1", *ENTRIES)


def test_checkpoint_that_is_kept_by_another_name_is_not_deleted(tasks, tmp_path):
    save(tasks, "m-1")
    save(tasks, "m-2", ["m-1"], deleted=["./m-1", f"{tmp_path}/m-1"])
    tasks.restore("m-1", *ENTRIES)


def test_checkpoint_of_a_longer_name_is_not_deleted(tasks):
    save(tasks, "m-10")
    save(tasks, "m-1")
    save(tasks, "m-2", deleted=["m-1"])
    tasks.restore("m-10", *ENTRIES)


def test_graph_is_written_beside_the_checkpoint(tasks, tmp_path):
    save(tasks, "m-1", meta_graph=GRAPH, meta_graph_path="m-1.meta")
    assert (tmp_path / "m-1.meta").read_bytes() == GRAPH


def test_what_is_no_graph_is_not_written(tasks, tmp_path):
    with pytest.raises(InvalidArgumentError, match="no MetaGraphDef"):
        save(tasks, "m-1", meta_graph=b"\xff\xff", meta_graph_path="m-1.meta")
    assert list(tmp_path.iterdir()) == []


def test_state_of_a_directory_without_checkpoints_is_empty(tasks):
    assert tasks.read_state().state == b""
    assert tasks.read_state("no/such/directory").state == b""


def test_state_file_that_is_something_else_is_said_to_be_so(tasks, tmp_path):
    (tmp_path / "checkpoint").write_text("{}")
    with pytest.raises(FailedPreconditionError, match="checkpoint is no state file"):
        tasks.read_state()


def test_newest_state_among_tasks_counts(tmp_path):
    disks = [tmp_path / "0", tmp_path / "1"]
    for disk in disks:
        disk.mkdir()
    members = [Task(disk, name=f"/job:ps/task:{i}") for i, disk in enumerate(disks)]
    for i, member in enumerate(members):
        member.set(v=[1.0])
        save(Tasks(member), f"m-{i}", state={"all_timestamps": [5.0 + i]})
    members[1].set(v=[1.0])
    found = CheckpointState.FromString(Tasks(*members).read_state().state)
    assert found.model_checkpoint_path == "m-1"
    disks.reverse()


def test_tensorflow_reads_the_state_file(tasks, tmp_path):
    save(tasks, "m-1")
    save(tasks, "m-2", ["m-1"])
    lines = (tmp_path / "checkpoint").read_text().splitlines()
    assert lines == [
        'model_checkpoint_path: "m-2"',
        'all_model_checkpoint_paths: "m-1"',
        'all_model_checkpoint_paths: "m-2"',
    ]
