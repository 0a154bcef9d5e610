"""Which paths a client may name."""

from pathlib import Path

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entries_of
from paramserve_core.checkpoint.disk import LocalDisk
from paramserve_core.checkpoint.entries import pack_entries
from paramserve_core.checkpoint.places import Places, SavedFile
from paramserve_core.errors import InvalidArgumentError, PermissionDeniedError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages


@pytest.fixture
def places(tmp_path):
    (tmp_path / "root" / "runs").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return Places(LocalDisk(), tmp_path / "root")


def test_relative_path_is_below_the_root(places, tmp_path):
    place = places.checkpoint("runs/model.ckpt-1")
    assert (place.directory, place.name) == (tmp_path / "root" / "runs", "model.ckpt-1")
    assert places.checkpoint("model").directory == tmp_path / "root"
    assert places.directory("") == tmp_path / "root"


def test_absolute_path_below_the_root_is_allowed(places, tmp_path):
    assert places.checkpoint(f"{tmp_path}/root/runs/m").directory == tmp_path / "root" / "runs"
    assert places.checkpoint(f"{tmp_path}/root/m").directory == tmp_path / "root"


@pytest.mark.parametrize(
    "path", ["../outside/m", "runs/../../outside/m", "/etc/m", "/m", "{tmp}/outside/m", "link/m"]
)
def test_path_that_leads_out_of_the_root_is_refused(places, tmp_path, path):
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(PermissionDeniedError, match=r"--checkpoint-root"):
        places.checkpoint(path.format(tmp=tmp_path))


def test_symbolic_link_that_stays_below_the_root_is_followed(places, tmp_path):
    (tmp_path / "root" / "latest").symlink_to(tmp_path / "root" / "runs")
    assert places.checkpoint("latest/m").directory == tmp_path / "root" / "runs"


def test_root_may_itself_be_a_symbolic_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "root").symlink_to(tmp_path / "real")
    place = Places(LocalDisk(), tmp_path / "root").checkpoint(f"{tmp_path}/root/m")
    assert place.directory == tmp_path / "real"


def test_without_a_root_a_relative_path_is_below_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Places(LocalDisk()).checkpoint("m").directory == tmp_path


@pytest.mark.parametrize(
    "path", ["", "runs/", "runs/..", ".", "a\0b", "runs/a\nb", "x" * 5000, "x" * 208, "ß" * 104]
)
def test_what_is_no_path_of_a_checkpoint_is_refused(places, path):
    with pytest.raises(InvalidArgumentError, match=r"is no |has at most"):
        places.checkpoint(path)


@pytest.mark.parametrize(
    "path",
    ["other.meta", "model", "model.", "model.a/b", "model.meta.tmp", "model.{}".format("x" * 50)],
)
def test_graph_is_written_beside_its_checkpoint_only(places, path):
    with pytest.raises(InvalidArgumentError, match=r"no place for the graph"):
        places.checkpoint("model").meta_graph(path)


def test_name_of_a_saved_file_tells_its_save(places):
    place = places.checkpoint("model.ckpt-3")
    path = place.of_save("0123456789abcdef", 1, 2, "safetensors")
    assert SavedFile.parse(path.name) == SavedFile("model.ckpt-3", "0123456789abcdef")
    assert SavedFile.parse("model.ckpt-3.safetensors.index.json") is None
    assert SavedFile.parse("notes.txt") is None


@pytest.fixture
def confined(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    task = Task(tmp_path / "root")
    task.set(v=[1.0])
    return task


ENTRIES = entries_of({"v": [1.0]})


@pytest.mark.parametrize(
    "request_",
    [
        messages.TakeSnapshotRequest(
            save_id="0" * 16, path="../outside/m", entries=pack_entries(ENTRIES)
        ),
        messages.ReadIndexRequest(path="../outside/m"),
        messages.StageRestoreRequest(restore_id="0" * 16, path="../outside/m"),
        messages.AdoptIndexRequest(path="../outside/m"),
        messages.ReadBytesRequest(path="../outside/m"),
        messages.FinishSaveRequest(save_id="0" * 16, path="../outside/m"),
        messages.FinishSaveRequest(
            save_id="0" * 16, path="m", state=messages.StateUpdate(delete_paths=["../outside/m"])
        ),
        messages.ReadStateRequest(directory="../outside"),
    ],
    ids=lambda r: type(r).__name__,
)
def test_every_call_is_confined_to_the_root(confined, request_):
    with pytest.raises(PermissionDeniedError, match=r"--checkpoint-root"):
        confined.call(request_)


@pytest.mark.parametrize("name", ["secret", "../outside/secret", "m.meta", "checkpoint", "m2"])
def test_only_files_of_a_checkpoint_are_read_for_others(confined, name):
    (confined.root / name.rpartition("/")[2]).write_bytes(b"secret")
    wanted = messages.ByteRange(file=name, bytes=6)
    with pytest.raises(InvalidArgumentError, match="is no file of the checkpoint"):
        confined.call(messages.ReadBytesRequest(path="m", range=wanted))


def test_symbolic_link_in_place_of_a_file_is_not_followed(confined, tmp_path):
    Tasks(confined).save("m", *ENTRIES)
    shard = next(p for p in confined.root.iterdir() if p.name.endswith(".safetensors"))
    outside = tmp_path / "outside" / "shard"
    shard.rename(outside)
    shard.symlink_to(outside)
    with pytest.raises(PermissionDeniedError, match="symbolic link, which is not followed"):
        confined.call(
            messages.ReadBytesRequest(path="m", range=messages.ByteRange(file=shard.name, bytes=6))
        )


def test_state_file_never_replaces_a_file_of_another_kind(confined):
    (confined.root / "notes").write_text("buy milk")
    update = messages.StateUpdate(latest_filename="notes")
    with pytest.raises(Exception, match="is no state file of checkpoints"):
        Tasks(confined).save("m", *ENTRIES, state=update)
    assert (confined.root / "notes").read_text() == "buy milk"


def test_names_that_resemble_a_checkpoints_files_survive_its_deletion(confined):
    mine = ["m.index", "m.data.txt", "m", "m-1", "m2.index", "m.safetensors"]
    for name in mine:
        (confined.root / name).write_bytes(b"mine" * 20)
    tasks = Tasks(confined)
    tasks.save("m", *ENTRIES)
    confined.set(v=np.array([2.0]))
    tasks.save("n", *ENTRIES, state=messages.StateUpdate(delete_paths=["m"]))
    left = {p.name for p in Path(confined.root).iterdir()}
    assert set(mine) <= left
    assert not any(name.startswith("m.safetensors.index") for name in left)
