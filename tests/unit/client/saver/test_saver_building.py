"""Savers that choose their variables later, have none, or leave no trace in the state file."""

import numpy as np
import pytest

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph
from paramserve._ops.array import identity
from paramserve._saver.importing import import_meta_graph
from paramserve._saver.meta_graph import export_meta_graph, read_meta_graph_file
from paramserve._saver.reading import NewCheckpointReader
from paramserve._saver.saver import Saver
from paramserve._saver.state import checkpoint_exists, latest_checkpoint
from paramserve._session.session import Session
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.errors import NotFoundError
from saving import initialize, save, variable


def test_deferred_saver_manages_what_was_made_before_build(tmp_path, graph):
    variable("a", [1.0])
    saver = Saver(defer_build=True, max_to_keep=2)
    with Session() as session:
        initialize(session)
        for use in (saver.save, saver.restore):
            with pytest.raises(RuntimeError, match=r"`build\(\)` should be called before"):
                use(session, str(tmp_path / "m"))
        variable("b", [2.0])
        initialize(session)
        saver.build()
        made = len(graph.get_operations())
        saver.build()
        assert len(graph.get_operations()) == made
        path = save(saver, session, tmp_path / "m")
    assert CheckpointReader(path).get_variable_to_shape_map() == {"a": [1], "b": [1]}
    assert saver.as_saver_def().max_to_keep == 2


def test_deferred_saver_takes_no_variables_in_advance():
    with pytest.raises(ValueError, match="build cannot be deferred"):
        Saver([variable("a", [1.0])], defer_build=True)


def test_saver_without_variables_saves_the_graph_alone(tmp_path, graph):
    identity([1.0], name="only")
    saver = Saver(allow_empty=True)
    graph.add_to_collection(GraphKeys.SAVERS, saver)
    with Session() as session:
        assert saver.save(session, str(tmp_path / "m")) is None
        saver.restore(session, str(tmp_path / "m"))
        assert saver.save(session, str(tmp_path / "n"), write_meta_graph=False) is None
    assert [file.name for file in tmp_path.iterdir()] == ["m.meta"]
    found = read_meta_graph_file(tmp_path / "m.meta")
    assert not found.HasField("saver_def")
    assert not found.collection_def[GraphKeys.SAVERS].bytes_list.value


def test_import_answers_a_saver_if_the_scope_has_variables():
    identity([1.0], name="only")
    exported = export_meta_graph()
    with Graph().as_default():
        variable("mine/v", [1.0])
        assert import_meta_graph(exported, import_scope="theirs") is None
        assert import_meta_graph(exported, import_scope="mine") is not None


def test_save_without_state_is_nobodys_to_delete(tmp_path):
    variable("v", [1.0])
    saver = Saver(max_to_keep=1)
    with Session() as session:
        initialize(session)
        for step in range(3):
            path = save(saver, session, tmp_path / "m", step, write_state=False)
            assert checkpoint_exists(path)
        handle = save(saver, session, tmp_path / "h", write_state=False, block=False)
        assert checkpoint_exists(handle.result())
        assert saver.last_checkpoints == []
        assert latest_checkpoint(str(tmp_path)) is None
        save(saver, session, tmp_path / "n")
    assert latest_checkpoint(str(tmp_path)) == f"{tmp_path}/n"
    assert all(checkpoint_exists(str(tmp_path / f"m-{step}")) for step in range(3))


@pytest.mark.parametrize("filename", ["elsewhere", b"elsewhere"])
def test_saver_ops_use_the_given_path_where_none_is_fed(filename):
    variable("v", [1.0])
    saver = Saver(filename=filename)
    with Session() as session:
        assert session.run(saver.saver_def.filename_tensor_name) == b"elsewhere"


def test_other_savers_are_left_out_of_a_graph(graph):
    a, b = variable("a", [1.0]), variable("b", [2.0])
    savers = [Saver([a], name="one"), Saver([b], name="two")]
    for saver in savers:
        graph.add_to_collection(GraphKeys.SAVERS, saver)
    exported = savers[1].export_meta_graph(clear_extraneous_savers=True)
    names = {node.name for node in exported.graph_def.node}
    assert not [name for name in names if name.startswith("one/")]
    assert {"a", "b", "two/restore_all"} <= names
    with Graph().as_default() as other:
        import_meta_graph(exported)
        assert len(other.get_collection(GraphKeys.SAVERS)) == 1
    alone = export_meta_graph(clear_extraneous_savers=True)
    assert not alone.collection_def[GraphKeys.SAVERS].bytes_list.value
    assert not [node.name for node in alone.graph_def.node if node.name.startswith(("one", "two"))]


def test_default_attributes_are_left_out_of_a_graph_and_come_back(tmp_path):
    v = variable("v", np.float32([1.0, 2.0]))
    saver = Saver()
    with Session() as session:
        initialize(session)
        path = saver.save(session, str(tmp_path / "m"), strip_default_attrs=True)
    exported = read_meta_graph_file(f"{path}.meta")
    assert exported.meta_info_def.stripped_default_attrs
    (node,) = (node for node in exported.graph_def.node if node.name == v.op.name)
    assert sorted(name for name in node.attr if not name.startswith("_")) == ["dtype", "shape"]
    with Graph().as_default(), Session() as session:
        import_meta_graph(f"{path}.meta").restore(session, path)
        assert session.run("v:0").tolist() == [1.0, 2.0]


def test_graph_is_imported_into_the_open_scope_of_the_given_graph(tmp_path):
    variable("v", [3.0])
    with Session() as session:
        initialize(session)
        path = Saver().save(session, str(tmp_path / "m"))
    other = Graph()
    with other.as_default(), other.name_scope("outer"):
        savers = [import_meta_graph(f"{path}.meta"), import_meta_graph(f"{path}.meta", False, "in")]
    third = Graph()
    savers.append(import_meta_graph(f"{path}.meta", graph=third))
    for name, saver, graph in zip(
        ("outer/v:0", "outer/in/v:0", "v:0"), savers, (other, other, third), strict=True
    ):
        with Session(graph=graph) as session:
            saver.restore(session, path)
            assert session.run(name).tolist() == [3.0]


def test_a_file_of_the_very_name_exists(tmp_path):
    (tmp_path / "m.meta").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    assert checkpoint_exists(str(tmp_path / "m.meta"))
    assert not checkpoint_exists(str(tmp_path / "m"))
    assert not checkpoint_exists(str(tmp_path / "folder"))


def test_a_reader_says_what_it_holds_and_what_it_did_not_find(tmp_path):
    variable("v", np.float32([[1.0, 2.0]]))
    variable("scalar", np.int64(1))
    with Session() as session:
        initialize(session)
        path = save(Saver(), session, tmp_path / "m")
    lines = NewCheckpointReader(path).debug_string().splitlines()
    assert sorted(lines) == [b"scalar (DT_INT64) []", b"v (DT_FLOAT) [1,2]"]
    with pytest.raises(NotFoundError, match="Unsuccessful TensorSliceReader constructor: there is"):
        NewCheckpointReader(tmp_path / "nothing")
