"""Which checkpoints a saver keeps, and what the state file says of them."""

import os

import pytest

from paramserve._saver.saver import Saver
from paramserve._saver.state import (
    checkpoint_exists,
    generate_checkpoint_state_proto,
    get_checkpoint_mtimes,
    get_checkpoint_state,
    latest_checkpoint,
    update_checkpoint_state,
)
from paramserve._session.session import Session
from paramserve_core.errors import (
    OpError,
)
from paramserve_protos.v1.saver_pb2 import SaverDef
from saving import initialize, save, saved_paths, variable


def test_newest_checkpoints_are_kept(tmp_path):
    variable("v", [1.0])
    saver = Saver(max_to_keep=2)
    with Session() as session:
        initialize(session)
        for step in range(5):
            save(saver, session, tmp_path / "m", step)
        assert saved_paths(saver) == ["m-3", "m-4"]
        kept = {name.split(".")[0] for name in os.listdir(tmp_path)}
        assert kept == {"m-3", "m-4", "checkpoint"}
        state = get_checkpoint_state(str(tmp_path))
        assert state.model_checkpoint_path == f"{tmp_path}/m-4"
        assert list(state.all_model_checkpoint_paths) == [f"{tmp_path}/m-3", f"{tmp_path}/m-4"]
        assert latest_checkpoint(str(tmp_path)) == f"{tmp_path}/m-4"


@pytest.mark.parametrize("keep", [None, 0])
def test_all_checkpoints_are_kept(tmp_path, keep):
    variable("v", [1.0])
    saver = Saver(max_to_keep=keep)
    with Session() as session:
        initialize(session)
        for step in range(7):
            save(saver, session, tmp_path / "m", step)
        for step in range(7):
            saver.restore(session, str(tmp_path / f"m-{step}"))
    assert saver.last_checkpoints == []
    assert latest_checkpoint(str(tmp_path)) == f"{tmp_path}/m-6"


def test_saving_to_one_path_twice_is_one_checkpoint(tmp_path):
    variable("v", [1.0])
    saver = Saver(max_to_keep=2)
    with Session() as session:
        initialize(session)
        for path in ("a", "b", "a", "c"):
            save(saver, session, tmp_path / path)
    assert saved_paths(saver) == ["a", "c"]


def test_save_that_fails_is_not_remembered_and_deletes_nothing(tmp_path):
    variable("v", [1.0])
    saver = Saver(max_to_keep=1)
    with Session() as session:
        initialize(session)
        path = save(saver, session, tmp_path / "m", 1)
        (tmp_path / "m-2.safetensors.index.json").mkdir()
        with pytest.raises(OpError):
            save(saver, session, tmp_path / "m", 2)
        assert saver.last_checkpoints == [path]
        saver.restore(session, path)
        assert latest_checkpoint(str(tmp_path)) == path


def test_saver_of_a_new_process_deletes_what_it_is_told_of(tmp_path):
    variable("v", [1.0])
    with Session() as session:
        initialize(session)
        first = Saver(max_to_keep=3)
        for step in range(3):
            save(first, session, tmp_path / "m", step)
        second = Saver(max_to_keep=3, name="second")
        state = get_checkpoint_state(str(tmp_path))
        second.recover_last_checkpoints([*state.all_model_checkpoint_paths, "/no/such/m-9"])
        assert saved_paths(second) == ["m-0", "m-1", "m-2"]
        save(second, session, tmp_path / "m", 3)
        assert saved_paths(second) == ["m-1", "m-2", "m-3"]
        assert not checkpoint_exists(str(tmp_path / "m-0"))


def test_one_checkpoint_by_two_names_is_kept_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variable("v", [1.0])
    saver = Saver(max_to_keep=2)
    with Session() as session:
        initialize(session)
        save(saver, session, "m", 1)
        save(saver, session, "m", 2)
        saver.recover_last_checkpoints(get_checkpoint_state(".").all_model_checkpoint_paths)
        assert saver.last_checkpoints == ["./m-1", "./m-2"]
        save(saver, session, "m", 1)
        assert saver.last_checkpoints == ["./m-2", "m-1"]
        state = get_checkpoint_state("")
        assert list(state.all_model_checkpoint_paths) == ["m-2", "m-1"]
        saver.restore(session, "m-1")


def test_last_checkpoints_can_be_set():
    variable("v", [1.0])
    saver = Saver()
    saver.set_last_checkpoints(["a", "b"])
    assert saver.last_checkpoints == ["a", "b"]
    saver.set_last_checkpoints_with_time([("c", 1.0)])
    assert saver.last_checkpoints == ["c"]
    with pytest.raises(TypeError, match="a list of paths is wanted, not 'c'"):
        saver.set_last_checkpoints("c")
    with pytest.raises(TypeError, match="a list of pairs is wanted, not 3"):
        saver.set_last_checkpoints_with_time(3)


def test_state_of_a_directory_on_servers_is_asked_through_the_session(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        initialize(session)
        assert latest_checkpoint(str(tmp_path), session=session) is None
        path = save(saver, session, tmp_path / "m", 1, latest_filename="mine")
        assert latest_checkpoint(str(tmp_path), session=session) is None
        assert latest_checkpoint(str(tmp_path), "mine", session=session) == path
        assert get_checkpoint_state(str(tmp_path), "mine", session).model_checkpoint_path == path


def test_checkpoints_below_a_relative_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        initialize(session)
        path = save(saver, session, "runs/m", 1)
        assert path == "runs/m-1"
        assert latest_checkpoint("runs") == "runs/m-1"
        assert (
            (tmp_path / "runs" / "checkpoint")
            .read_text()
            .startswith('model_checkpoint_path: "m-1"')
        )
        os.rename("runs", "moved")
        saver.restore(session, latest_checkpoint("moved"))


def test_state_file_that_is_something_else_is_ignored_with_a_warning(tmp_path, caplog):
    (tmp_path / "checkpoint").write_text("buy milk")
    assert get_checkpoint_state(str(tmp_path)) is None
    assert "is no state file of checkpoints" in caplog.text


def test_state_file_that_names_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoint").write_bytes(b"")
    for read in (get_checkpoint_state, latest_checkpoint):
        with pytest.raises(ValueError, match=r"Invalid checkpoint state loaded .*: it names no"):
            read(str(tmp_path))


@pytest.mark.parametrize("version", [None, SaverDef.V2])
def test_sharded_checkpoint_may_be_called_as_the_state_file(tmp_path, version):
    v = variable("v", [1.0])
    with Session() as session:
        initialize(session)
        with pytest.raises(ValueError, match="collides with 'save_path'"):
            save(Saver(), session, tmp_path / "checkpoint")
        saver = Saver(sharded=True, write_version=version)
        path = save(saver, session, tmp_path / "checkpoint")
        v.load([2.0], session)
        assert latest_checkpoint(str(tmp_path)) == path
        saver.restore(session, path)
        assert session.run(v).tolist() == [1.0]


def test_newest_checkpoint_that_is_gone_is_not_answered(tmp_path):
    update_checkpoint_state(str(tmp_path), str(tmp_path / "m-1"))
    assert get_checkpoint_state(str(tmp_path)).model_checkpoint_path == f"{tmp_path}/m-1"
    assert latest_checkpoint(str(tmp_path)) is None


def test_state_is_written_with_relative_paths(tmp_path):
    update_checkpoint_state(
        str(tmp_path),
        str(tmp_path / "m-2"),
        [str(tmp_path / "m-1"), "/elsewhere/m"],
        all_model_checkpoint_timestamps=[1.0, 2.0],
        last_preserved_timestamp=0.5,
    )
    text = (tmp_path / "checkpoint").read_text()
    assert text.splitlines()[:4] == [
        'model_checkpoint_path: "m-2"',
        'all_model_checkpoint_paths: "m-1"',
        'all_model_checkpoint_paths: "/elsewhere/m"',
        'all_model_checkpoint_paths: "m-2"',
    ]


def test_state_with_other_times_than_paths_is_refused():
    with pytest.raises(ValueError, match="must match checkpoint paths"):
        generate_checkpoint_state_proto("d", "m", ["m"], [1.0, 2.0])


def test_times_of_checkpoints(tmp_path):
    variable("v", [1.0])
    with Session() as session:
        initialize(session)
        path = save(Saver(), session, tmp_path / "m")
    os.utime(f"{path}.safetensors.index.json", (5, 5))
    assert get_checkpoint_mtimes([path, str(tmp_path / "n")]) == [5.0]
