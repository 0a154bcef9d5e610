"""Saving and restoring through a session in this process."""

import os
import re

import numpy as np
import pytest

from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph
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
from paramserve._variables.initialization import initialize_all_variables
from paramserve._variables.save_slice import SaveSliceInfo
from paramserve._variables.variable import Variable
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
)
from paramserve_protos.v1.saver_pb2 import SaverDef


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as made:
        yield made


def variable(name, value, *, info=None):
    """A variable, or a part of a partitioned one."""
    made = Variable(np.asarray(value), name=name, collections=[] if info else None)
    if info is not None:
        made._set_save_slice_info(info)
    return made


def initialize(session, *others):
    session.run([initialize_all_variables(), *(v.initializer for v in others)])


def save(saver, session, path, *args, **options):
    return saver.save(session, str(path), *args, write_meta_graph=False, **options)


def test_saved_variables_come_back(tmp_path):
    w, b = variable("w", [[1.0, 2.0]]), variable("b", [3, 4])
    saver = Saver()
    with Session() as session:
        initialize(session)
        path = save(saver, session, tmp_path / "model")
        assert path == f"{tmp_path}/model"
    with Session() as session:
        saver.restore(session, path)
        assert session.run(w).tolist() == [[1.0, 2.0]]
        assert session.run(b).tolist() == [3, 4]


def test_global_step_is_part_of_the_path(tmp_path):
    step = variable("step", np.int64(7))
    saver = Saver()
    with Session() as session:
        initialize(session)
        assert save(saver, session, tmp_path / "m", 3) == f"{tmp_path}/m-3"
        assert save(saver, session, tmp_path / "m", step) == f"{tmp_path}/m-7"
        assert save(saver, session, tmp_path / "m", np.int64(8)) == f"{tmp_path}/m-8"
        padded = Saver(pad_step_number=True)
        assert save(padded, session, tmp_path / "m", 9) == f"{tmp_path}/m-00000009"
    assert CheckpointReader(tmp_path / "m-7").index.step == 7


def test_dict_renames(tmp_path):
    v = variable("v", [1.0])
    with Session() as session:
        initialize(session)
        path = save(Saver({"weights": v}), session, tmp_path / "m")
        assert CheckpointReader(path).get_variable_to_shape_map() == {"weights": [1]}
        with Graph().as_default():
            other = variable("params", [0.0])
            with Session() as second:
                Saver({"weights": other}).restore(second, path)
                assert second.run(other).tolist() == [1.0]


def test_list_saves_those_variables_only(tmp_path):
    variable("a", [1.0])
    b = variable("b", [2.0])
    with Session() as session:
        initialize(session)
        path = save(Saver([b]), session, tmp_path / "m")
    assert CheckpointReader(path).get_variable_to_shape_map() == {"b": [1]}


def test_several_savers_share_variables(tmp_path):
    a, b = variable("a", [1.0]), variable("b", [2.0])
    one, both = Saver([a], name="one"), Saver({"x": a, "y": b}, name="both")
    with Session() as session:
        initialize(session)
        first, second = save(one, session, tmp_path / "one"), save(both, session, tmp_path / "both")
        a.load([5.0], session)
        b.load([6.0], session)
        one.restore(session, first)
        assert [session.run(a).tolist(), session.run(b).tolist()] == [[1.0], [6.0]]
        both.restore(session, second)
        assert [session.run(a).tolist(), session.run(b).tolist()] == [[1.0], [2.0]]


@pytest.mark.parametrize("layout", [None, SaverDef.V2])
def test_partitioned_variable_is_one_tensor(tmp_path, layout):
    full = np.arange(12, dtype=np.float32).reshape(4, 3)
    parts = [
        variable(
            f"table/part_{i}",
            full[low:high],
            info=SaveSliceInfo("table", (4, 3), (low, 0), (high - low, 3)),
        )
        for i, (low, high) in enumerate([(0, 1), (1, 4)])
    ]
    saver = Saver([*parts], write_version=layout)
    with Session() as session:
        initialize(session, *parts)
        path = save(saver, session, tmp_path / "m")
    reader = CheckpointReader(path)
    assert reader.get_variable_to_shape_map() == {"table": [4, 3]}
    assert (reader.get_tensor("table") == full).all()
    with Graph().as_default(), Session() as session:
        whole = variable("table", np.zeros((4, 3), np.float32))
        Saver().restore(session, path)
        assert (session.run(whole) == full).all()
    with Session() as session:
        Saver({"table": parts}, name="again").restore(session, path)
        assert (session.run(parts[1]) == full[1:]).all()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda v: [], ValueError, "No variables to save"),
        (lambda v: {}, ValueError, "No variables to save"),
        (lambda v: [v, v], ValueError, "At least two variables have the same name: v"),
        (lambda v: {"a": v, "b": v}, ValueError, "restored with two names: b and a"),
        (lambda v: {"a": 3}, TypeError, "Not a variable: 3"),
        (lambda v: {"a": apply_op("Identity", input=v.ref())}, TypeError, "Not a variable: <"),
        (lambda v: {3: v}, TypeError, "Name is not a string: 3"),
        (lambda v: [3], TypeError, "Not a variable: 3"),
        (lambda v: 3, TypeError, "must be None, a list or a dict, not int"),
        (lambda v: "v", TypeError, "must be None, a list or a dict, not str"),
        (lambda v: {"a": [v]}, ValueError, "Slices must all be slices"),
        (
            lambda v: [v, variable("p", [1.0], info=SaveSliceInfo("v", (2,), (0,), (1,)))],
            ValueError,
            "Mixing slices and non-slices with the same name: v",
        ),
        (
            lambda v: {
                "a": [
                    variable(f"p{i}", [1.0], info=SaveSliceInfo(f"t{i}", (2,), (i,), (1,)))
                    for i in range(2)
                ]
            },
            ValueError,
            "Slices must all be from the same tensor: t0 != t1",
        ),
    ],
)
def test_what_cannot_be_saved_is_refused_when_the_saver_is_made(make, error, text):
    v = variable("v", [1.0])
    with pytest.raises(error, match=re.escape(text)):
        Saver(make(v))


def test_no_variables_at_all():
    with pytest.raises(ValueError, match="No variables to save"):
        Saver()


def test_v1_is_refused_when_the_saver_is_made():
    variable("v", [1.0])
    with pytest.raises(ValueError, match="V1 format are read, not written"):
        Saver(write_version=SaverDef.V1)


def test_v2_writes_what_tensorflow_reads(tmp_path):
    v = variable("v", [1.0])
    saver = Saver(write_version=SaverDef.V2)
    with Session() as session:
        initialize(session)
        path = save(saver, session, tmp_path / "m")
        v.load([2.0], session)
        saver.restore(session, path)
        assert session.run(v).tolist() == [1.0]
    assert CheckpointReader(path).index.layout is Layout.TENSORFLOW_V2


def test_uninitialized_variable_is_named(tmp_path):
    variable("v", [1.0])
    with (
        Session() as session,
        pytest.raises(FailedPreconditionError, match="uninitialized value v"),
    ):
        save(Saver(), session, tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_missing_parent_directory(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        initialize(session)
        with pytest.raises(ValueError, match=r"Parent directory of .*/a/m doesn't exist"):
            save(saver, session, tmp_path / "a" / "m")
    assert saver.last_checkpoints == []


def test_names_that_collide(tmp_path):
    variable("v", [1.0])
    with Session() as session:
        initialize(session)
        with pytest.raises(ValueError, match="collides with 'save_path'"):
            save(Saver(), session, tmp_path / "checkpoint")
        with pytest.raises(ValueError, match="must not contain path components"):
            save(Saver(), session, tmp_path / "m", latest_filename="a/b")


def test_what_is_no_session_is_refused(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with pytest.raises(TypeError, match="'sess' must be a Session; 3"):
        save(saver, 3, tmp_path / "m")
    with pytest.raises(TypeError, match="'sess' must be a Session; None"):
        saver.restore(None, "m")
    session = Session()
    session.close()
    with pytest.raises(RuntimeError, match="closed"):
        saver.restore(session, "m")


def test_session_of_another_graph_is_refused(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Graph().as_default(), Session() as session:
        variable("v", [1.0])
        with pytest.raises(ValueError, match="the session runs another graph"):
            saver.restore(session, str(tmp_path / "m"))


def test_no_checkpoint_is_both_errors(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        for error in (ValueError, NotFoundError):
            with pytest.raises(error, match=r"is not a valid checkpoint: .*/m .*no checkpoint at"):
                saver.restore(session, str(tmp_path / "m"))
        with pytest.raises(ValueError, match="Can't load save_path when it is None"):
            saver.restore(session, None)


def test_restore_that_fails_changes_no_variable(tmp_path):
    a, b = variable("a", [1.0]), variable("b", [2.0])
    with Session() as session:
        initialize(session)
        path = save(Saver(), session, tmp_path / "m")
        a.load([5.0], session)
        b.load([6.0], session)
        with pytest.raises(
            NotFoundError, match=r"Key bb not found in checkpoint .*it has 'b'"
        ) as e:
            Saver({"a": a, "bb": b}, name="x").restore(session, path)
        assert not isinstance(e.value, ValueError)
        wrong = variable("wrong", [[1.0]])
        with pytest.raises(InvalidArgumentError, match=r"shape \[1\] in .* \(1, 1\) in the graph"):
            Saver({"a": a, "b": wrong}, name="y").restore(session, path)
        assert [session.run(a).tolist(), session.run(b).tolist()] == [[5.0], [6.0]]


def test_reshape_restores_into_another_shape(tmp_path):
    variable("v", np.arange(6.0))
    with Session() as session:
        initialize(session)
        path = save(Saver(), session, tmp_path / "m")
    with Graph().as_default(), Session() as session:
        v = variable("v", np.zeros((2, 3)))
        Saver(reshape=True).restore(session, path)
        assert session.run(v).tolist() == [[0, 1, 2], [3, 4, 5]]


# ----- which checkpoints are kept


def saved_paths(saver):
    return [os.path.basename(path) for path in saver.last_checkpoints]


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


# ----- saving while the program goes on


def test_save_that_does_not_block_has_the_values_of_its_moment(tmp_path):
    v = variable("v", np.zeros(1000))
    saver = Saver(max_to_keep=1)
    with Session() as session:
        initialize(session)
        pending = [save(saver, session, tmp_path / "m", 0, block=False)]
        for step in (1, 2):
            v.load(np.full(1000, step), session)
            pending.append(save(saver, session, tmp_path / "m", step, block=False))
        v.load(np.full(1000, -1.0), session)
        paths = [handle.result(60.0) for handle in pending]
        assert paths == [f"{tmp_path}/m-{step}" for step in range(3)]
        assert all(handle.done() and handle.progress() == 1.0 for handle in pending)
        assert saver.last_checkpoints == paths[-1:]
        assert not checkpoint_exists(paths[0])
        saver.restore(session, paths[-1])
        assert set(session.run(v)) == {2.0}


def test_save_that_does_not_block_says_at_once_what_cannot_be_saved(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
            save(saver, session, tmp_path / "m", block=False)
        initialize(session)
        with pytest.raises(ValueError, match="Parent directory"):
            save(saver, session, tmp_path / "a" / "m", block=False)


def test_save_that_fails_later_says_so_when_asked(tmp_path):
    variable("v", [1.0])
    saver = Saver()
    with Session() as session:
        initialize(session)
        (tmp_path / "m-2.safetensors.index.json").mkdir()
        pending = save(saver, session, tmp_path / "m", 2, block=False)
        for _ in range(2):
            with pytest.raises(OpError, match="m-2"):
                pending.result(60.0)
        assert pending.done()
        assert saver.last_checkpoints == []
        save(saver, session, tmp_path / "m", 3)
        assert saved_paths(saver) == ["m-3"]


# ----- the state file


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


# ----- definitions


def test_definition_names_the_ops(graph):
    variable("v", [1.0])
    saver = Saver(max_to_keep=3, keep_checkpoint_every_n_hours=2.0)
    assert saver.as_saver_def() == SaverDef(
        filename_tensor_name="save/Const:0",
        save_tensor_name="save/control_dependency:0",
        restore_op_name="save/restore_all",
        max_to_keep=3,
        keep_checkpoint_every_n_hours=2.0,
        version=SaverDef.V2,
    )
    kinds = {op.name: op.type for op in graph.get_operations() if op.name.startswith("save/")}
    assert kinds["save/SaveV2"] == "SaveV2"
    assert kinds["save/RestoreV2"] == "RestoreV2"
    assert kinds["save/Assign"] == "Assign"
    assert [t.name for t in graph.get_operation_by_name("save/SaveV2").inputs] == [
        "save/Const:0",
        "save/SaveV2/tensor_names:0",
        "save/SaveV2/shape_and_slices:0",
        "v:0",
    ]


def test_ops_of_a_saver_save_and_restore(tmp_path, graph):
    a, b = variable("a", [1.0]), variable("b", [[2, 3]])
    for sharded, sequential in [(False, False), (True, False), (False, True)]:
        saver = Saver(sharded=sharded, restore_sequentially=sequential)
        definition = saver.as_saver_def()
        path = str(tmp_path / f"m{sharded}{sequential}")
        with Session() as session:
            initialize(session)
            fed = {definition.filename_tensor_name: np.array(path.encode(), object)}
            assert session.run(definition.save_tensor_name, fed) == path.encode()
            a.load([5.0], session)
            b.load([[6, 7]], session)
            session.run(definition.restore_op_name, fed)
            assert session.run(a).tolist() == [1.0]
            assert session.run(b).tolist() == [[2, 3]]


def test_saver_of_a_definition_manages_the_same_variables(tmp_path):
    full = np.arange(4, dtype=np.float32)
    parts = [
        variable(f"t{i}", full[2 * i : 2 * i + 2], info=SaveSliceInfo("t", (4,), (2 * i,), (2,)))
        for i in range(2)
    ]
    v = variable("v", [1.0])
    definition = Saver({"w": v, "t": parts}).to_proto()
    saver = Saver.from_proto(definition)
    with Session() as session:
        initialize(session, *parts)
        path = save(saver, session, tmp_path / "m")
        reader = CheckpointReader(path)
        assert reader.get_variable_to_shape_map() == {"t": [4], "w": [1]}
        assert (reader.get_tensor("t") == full).all()
        v.load([2.0], session)
        saver.restore(session, path)
        assert session.run(v).tolist() == [1.0]


def test_definition_leaves_out_the_scope_that_is_exported(graph):
    with graph.name_scope("tower"):
        variable("v", [1.0])
        saver = Saver()
    assert saver.to_proto("tower").restore_op_name == "save/restore_all"
    assert saver.to_proto("other") is None
    assert Saver.from_proto(saver.to_proto("tower"), "tower").saver_def == saver.saver_def


def test_definition_without_its_ops_is_refused(tmp_path):
    variable("v", [1.0])
    saver = Saver(saver_def=SaverDef(restore_op_name="save/restore_all"))
    with Session() as session, pytest.raises(ValueError, match="is not in the session's graph"):
        saver.restore(session, str(tmp_path / "m"))
