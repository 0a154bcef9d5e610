"""Event files: what a writer was given is read back, in order and once."""

import subprocess
import sys
import textwrap

import pytest

from paramserve._framework.graph import Graph
from paramserve._ops.array import constant
from paramserve._summary.event_file import summary_iterator
from paramserve._summary.writer import FileWriter
from paramserve_core.errors import DataLossError, NotFoundError
from paramserve_protos.v1.config_pb2 import RunMetadata
from paramserve_protos.v1.event_pb2 import Event, SessionLog
from paramserve_protos.v1.graph_pb2 import GraphDef
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef
from paramserve_protos.v1.summary_pb2 import Summary


def scalar(tag: str, value: float) -> Summary:
    summary = Summary()
    summary.value.add(tag=tag, simple_value=value)
    return summary


def files(directory):
    return sorted(directory.iterdir())


def events(directory):
    """All events but the version that each file begins with."""
    found = []
    for path in files(directory):
        first, *rest = summary_iterator(path)
        assert first.file_version == "brain.Event:2"
        found += rest
    return found


def test_summaries_are_read_back_with_their_steps(tmp_path):
    with FileWriter(str(tmp_path / "logs")) as writer:
        writer.add_summary(scalar("loss", 0.5), 1)
        writer.add_summary(scalar("loss", 0.25).SerializeToString(), global_step=2)
        assert writer.get_logdir() == str(tmp_path / "logs")
    found = events(tmp_path / "logs")
    assert [(e.step, e.summary.value[0].simple_value) for e in found] == [(1, 0.5), (2, 0.25)]
    assert 0 < found[0].wall_time <= found[1].wall_time


def test_every_kind_of_event_is_read_back(tmp_path):
    graph = Graph()
    with graph.as_default():
        constant(1.0, name="one")
    graph.add_to_collection("kept", 7)
    metadata = RunMetadata()
    metadata.step_stats.dev_stats.add(device="session")
    with FileWriter(str(tmp_path), graph) as writer:
        writer.add_graph(graph_def=graph.as_graph_def())
        writer.add_meta_graph(MetaGraphDef(graph_def=graph.as_graph_def()))
        writer.add_session_log(SessionLog(status=SessionLog.START), 3)
        writer.add_run_metadata(metadata, "step 4", 4)
        writer.add_event(Event(wall_time=1.0, step=5))
    with_shapes, whole, plain, meta, log, run, last = events(tmp_path)
    collections = MetaGraphDef.FromString(whole.meta_graph_def).collection_def
    assert collections["kept"].int64_list.value == [7]
    assert "_output_shapes" in GraphDef.FromString(with_shapes.graph_def).node[0].attr
    assert GraphDef.FromString(plain.graph_def) == graph.as_graph_def()
    assert MetaGraphDef.FromString(meta.meta_graph_def).graph_def.node[0].name == "one"
    assert (log.session_log.status, log.step) == (SessionLog.START, 3)
    assert run.tagged_run_metadata.tag == "step 4"
    assert RunMetadata.FromString(run.tagged_run_metadata.run_metadata) == metadata
    assert last == Event(wall_time=1.0, step=5)


def test_a_graph_that_is_a_message_has_no_collections(tmp_path):
    graph = Graph()
    with graph.as_default():
        constant(1.0, name="one")
        graph.add_to_collection("kept", 7)
        FileWriter(str(tmp_path), graph_def=graph.as_graph_def()).close()
    plain, meta = events(tmp_path)
    assert GraphDef.FromString(plain.graph_def) == graph.as_graph_def()
    found = MetaGraphDef.FromString(meta.meta_graph_def)
    assert found.graph_def == graph.as_graph_def()
    assert not found.collection_def


def test_events_are_written_when_the_queue_is_full_and_by_flush(tmp_path):
    writer = FileWriter(str(tmp_path), max_queue=2)
    for step in range(3):
        writer.add_summary(scalar("a", 0.0), step)
    assert len(events(tmp_path)) == 2
    writer.flush()
    assert len(events(tmp_path)) == 3
    writer.close()


def test_events_do_not_wait_longer_than_flush_secs(tmp_path):
    with FileWriter(str(tmp_path), flush_secs=0) as writer:
        writer.add_summary(scalar("a", 0.0))
        assert len(events(tmp_path)) == 1


@pytest.mark.slow
def test_a_program_that_ends_without_close_loses_nothing(tmp_path):
    program = f"""
        from paramserve._summary.writer import FileWriter
        from paramserve_protos.v1.event_pb2 import Event
        writer = FileWriter({str(tmp_path)!r})
        writer.add_event(Event(step=7))
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=60)
    assert [event.step for event in events(tmp_path)] == [7]


def test_writers_that_begin_in_one_second_have_a_file_each(tmp_path):
    for _ in range(3):
        with FileWriter(str(tmp_path), filename_suffix=".train") as writer:
            writer.add_summary(scalar("a", 0.0))
    assert len(files(tmp_path)) == len(events(tmp_path)) == 3
    for path in files(tmp_path):
        assert path.name.startswith("events.out.tfevents.")
        assert path.name.endswith(".train")


def test_a_closed_writer_refuses_events_until_it_is_reopened(tmp_path):
    writer = FileWriter(str(tmp_path))
    writer.close()
    writer.close()
    with pytest.raises(RuntimeError, match="closed; reopen"):
        writer.add_summary(scalar("a", 0.0))
    writer.reopen()
    writer.reopen()
    writer.add_summary(scalar("a", 1.0))
    writer.close()
    assert len(files(tmp_path)) == 2
    assert len(events(tmp_path)) == 1


def test_how_a_series_is_shown_is_said_once(tmp_path):
    summary = scalar("a", 0.0)
    summary.value[0].metadata.plugin_data.plugin_name = "scalars"
    with FileWriter(str(tmp_path)) as writer:
        writer.add_summary(summary)
        writer.add_summary(summary)
    first, second = events(tmp_path)
    assert first.summary.value[0].HasField("metadata")
    assert not second.summary.value[0].HasField("metadata")
    assert summary.value[0].HasField("metadata")


def test_what_is_no_event_is_refused(tmp_path):
    with FileWriter(str(tmp_path)) as writer:
        with pytest.raises(ValueError, match="no encoded Summary"):
            writer.add_summary(b"\xff\xff")
        with pytest.raises(TypeError, match="Graph or a GraphDef, got 'int'"):
            writer.add_graph(3)
        with pytest.raises(ValueError, match="either a graph or a graph_def"):
            writer.add_graph()
        with pytest.raises(TypeError, match="MetaGraphDef, got 'GraphDef'"):
            writer.add_meta_graph(GraphDef())
        writer.add_run_metadata(RunMetadata(), "tag")
        with pytest.raises(ValueError, match="tag was already used for this event type: 'tag'"):
            writer.add_run_metadata(RunMetadata(), "tag")
    assert len(events(tmp_path)) == 1


def test_reading_names_the_file_that_is_damaged_or_missing(tmp_path):
    with FileWriter(str(tmp_path)) as writer:
        writer.add_summary(scalar("a", 0.0))
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataLossError, match=rf"{path.name}: the record at byte \d+ is cut off"):
        list(summary_iterator(path))
    with pytest.raises(NotFoundError, match="there is no such file"):
        list(summary_iterator(tmp_path / "nothing"))
