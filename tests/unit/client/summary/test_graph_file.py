"""Graphs written to files of their own."""

import pytest
from google.protobuf import text_format

import paramserve as ps


@pytest.fixture
def graph():
    graph = ps.Graph()
    with graph.as_default():
        ps.constant(1.0, name="one")
    return graph


def test_text_and_binary_files_hold_the_graph(graph, tmp_path):
    text = ps.train.write_graph(graph, str(tmp_path / "new"), "graph.pbtxt")
    assert text == str(tmp_path / "new" / "graph.pbtxt")
    found = text_format.Parse((tmp_path / "new" / "graph.pbtxt").read_text(), ps.GraphDef())
    assert found == graph.as_graph_def()
    ps.train.write_graph(graph.as_graph_def(), str(tmp_path), "graph.pb", as_text=False)
    assert ps.GraphDef.FromString((tmp_path / "graph.pb").read_bytes()) == found


def test_a_file_that_cannot_be_written_leaves_nothing(graph, tmp_path):
    (tmp_path / "graph.pb").mkdir()
    with pytest.raises(OSError, match="directory"):
        ps.train.write_graph(graph, str(tmp_path), "graph.pb")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.pb"]
