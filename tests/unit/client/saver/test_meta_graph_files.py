"""Graphs in files, with their savers."""

import numpy as np
import pytest
from google.protobuf import text_format

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph
from paramserve._saver.importing import import_meta_graph
from paramserve._saver.meta_graph import export_meta_graph, read_meta_graph_file
from paramserve._saver.saver import Saver
from paramserve._session.session import Session
from paramserve._variables.variable import Variable
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as made:
        yield made


def variable(name, value):
    return Variable(np.asarray(value, np.float32), name=name)


def saved(tmp_path, **options):
    v = variable("v", [1.0, 2.0])
    saver = Saver([v], **options)
    with Session() as session:
        session.run("v/Assign")
        return saver.save(session, str(tmp_path / "m"), 3)


@pytest.mark.parametrize("scope", [None, "again"])
def test_graph_is_written_with_a_checkpoint_and_restores_it(tmp_path, scope):
    path = saved(tmp_path, max_to_keep=2)
    with Graph().as_default() as other, Session() as session:
        saver = import_meta_graph(f"{path}.meta", import_scope=scope)
        assert saver.as_saver_def().max_to_keep == 2
        saver.restore(session, path)
        (ref,) = other.get_collection(GraphKeys.VARIABLES)
        assert ref.op.name == ("again/v" if scope else "v")
        assert session.run(ref).tolist() == [1.0, 2.0]
        saver.save(session, str(tmp_path / "n"))


def test_graph_can_be_imported_twice_into_one_scope_name(tmp_path):
    path = saved(tmp_path)
    with Graph().as_default() as other, Session() as session:
        for _ in range(2):
            import_meta_graph(f"{path}.meta", import_scope="copy").restore(session, path)
        names = [v.op.name for v in other.get_collection(GraphKeys.VARIABLES)]
        assert names == ["copy/v", "copy_1/v"]
        assert session.run(names[1] + ":0").tolist() == [1.0, 2.0]


def test_graph_is_not_written_unless_wanted(tmp_path):
    v = variable("v", [1.0])
    with Session() as session:
        session.run("v/Assign")
        path = Saver([v]).save(session, str(tmp_path / "m"), write_meta_graph=False)
        assert not (tmp_path / "m.meta").exists()
        Saver([v], name="b").save(session, str(tmp_path / "n"), meta_graph_suffix="graph")
        assert read_meta_graph_file(tmp_path / "n.graph").graph_def.node
    assert path == str(tmp_path / "m")


@pytest.mark.parametrize("as_text", [False, True])
def test_exported_graph_is_read_back(tmp_path, graph, as_text):
    variable("v", [1.0])
    graph.add_to_collection("numbers", 3)
    file = tmp_path / "g.meta"
    exported = export_meta_graph(file, as_text=as_text, collection_list=["numbers"])
    assert read_meta_graph_file(file) == exported
    assert list(exported.collection_def) == ["numbers"]
    if as_text:
        assert text_format.Parse(file.read_text(), MetaGraphDef()) == exported
    with Graph().as_default() as other:
        assert import_meta_graph(file) is None
        assert other.get_collection("numbers") == [3]


def test_graph_without_a_saver_gets_one_for_its_variables(tmp_path):
    variable("v", [1.0])
    message = export_meta_graph()
    with Graph().as_default(), Session() as session:
        saver = import_meta_graph(message)
        session.run("v/Assign")
        saver.save(session, str(tmp_path / "m"))


def test_savers_in_a_collection_are_exported(graph):
    saver = Saver([variable("v", [1.0])])
    graph.add_to_collection(GraphKeys.SAVERS, saver)
    message = saver.export_meta_graph()
    assert message.saver_def == saver.as_saver_def()
    with Graph().as_default() as other:
        import_meta_graph(message)
        (found,) = other.get_collection(GraphKeys.SAVERS)
        assert found.as_saver_def() == saver.as_saver_def()


def test_what_is_no_graph_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"no.meta does not exist"):
        import_meta_graph(tmp_path / "no.meta")
    (tmp_path / "bad.meta").write_text("buy milk")
    with pytest.raises(OSError, match="Cannot parse file as MetaGraphDef"):
        import_meta_graph(tmp_path / "bad.meta")
