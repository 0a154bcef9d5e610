"""Saving and restoring through a session in this process."""

import os
import re

import numpy as np
import pytest

from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph
from paramserve._saver.saver import Saver
from paramserve._session.session import Session
from paramserve._variables.save_slice import SaveSliceInfo
from paramserve_core.checkpoint.index import Layout
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from paramserve_protos.v1.saver_pb2 import SaverDef
from saving import initialize, save, variable


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
        with pytest.raises(InvalidArgumentError, match=r"shape \(1,\) in .* \(1, 1\) in the graph"):
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


@pytest.mark.parametrize("write_version", [None, SaverDef.V2])
def test_a_saver_that_casts_restores_other_types(tmp_path, write_version):
    variable("v", np.arange(3.0, dtype=np.float64))
    with Session() as session:
        initialize(session)
        path = save(Saver(write_version=write_version), session, tmp_path / "m")
    with Graph().as_default(), Session() as session:
        v = variable("v", np.zeros(3, np.float32))
        with pytest.raises(InvalidArgumentError, match=r"float64 in .*Saver\(cast=True\)"):
            Saver(name="strict").restore(session, path)
        Saver(cast=True).restore(session, path)
        assert session.run(v).tolist() == [0.0, 1.0, 2.0]
        assert session.run(v).dtype == np.float32
