"""Savers beside TensorFlow's: graphs go both ways, and the same checkpoints stay."""

import os
import warnings

import numpy as np
import pytest

from paramserve._framework.graph import Graph
from paramserve._saver.importing import import_meta_graph
from paramserve._saver.meta_graph import export_meta_graph
from paramserve._saver.saver import Saver
from paramserve._saver.state import generate_checkpoint_state_proto, get_checkpoint_state
from paramserve._session.session import Session
from paramserve._variables.initialization import initialize_all_variables
from paramserve._variables.partitioners import fixed_size_partitioner
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import get_variable
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_protos.v1.saver_pb2 import SaverDef

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf1():
    """TensorFlow as it was in 1.x: graphs and reference variables."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf = pytest.importorskip("tensorflow", reason="TensorFlow, the oracle, is not installed")
    tf.compat.v1.disable_resource_variables()
    return tf.compat.v1


FULL = np.arange(14, dtype=np.float32).reshape(7, 2)


def own_graph(**options):
    """A graph with a plain and a partitioned variable, and its saver."""
    weights = Variable(np.array([1.5, 2.5], np.float32), name="weights")
    table = get_variable("table", [7, 2], partitioner=fixed_size_partitioner(3))
    return weights, table, Saver(**options)


def fill(session, table):
    begin = 0
    for part in table:
        rows = part.get_shape().as_list()[0]
        part.load(FULL[begin : begin + rows], session)
        begin += rows


@pytest.mark.parametrize("options", [{}, {"sharded": True}, {"restore_sequentially": True}])
def test_tensorflow_runs_a_graph_and_saver_of_ours(tmp_path, tf1, options):
    with Graph().as_default() as graph, Session() as session:
        _, table, saver = own_graph(write_version=SaverDef.V2, **options)
        session.run(initialize_all_variables())
        fill(session, table)
        path = saver.save(session, str(tmp_path / "model"), 3)
    with tf1.Graph().as_default(), tf1.Session() as session:
        theirs = tf1.train.import_meta_graph(f"{path}.meta")
        theirs.restore(session, path)
        assert session.run("weights:0").tolist() == [1.5, 2.5]
        session.run(tf1.assign(tf1.global_variables()[0], [5.0, 6.0]))
        again = theirs.save(session, str(tmp_path / "again"))
    with graph.as_default(), Session() as session:
        saver.restore(session, again)
        assert session.run("weights:0").tolist() == [5.0, 6.0]
        parts = [session.run(part) for part in table]
        assert (np.concatenate(parts) == FULL).all()


@pytest.mark.parametrize("options", [{}, {"sharded": True}, {"restore_sequentially": True}])
def test_graph_and_saver_of_tensorflows_run_here(tmp_path, tf1, options):
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.Variable([1.5, 2.5], name="weights")
        table = tf1.get_variable("table", [7, 2], partitioner=tf1.fixed_size_partitioner(3))
        session.run(tf1.global_variables_initializer())
        begin = 0
        for part in table:
            session.run(part.assign(FULL[begin : begin + part.shape[0]]))
            begin += part.shape[0]
        theirs = tf1.train.Saver(max_to_keep=2, **options)
        path = theirs.save(session, str(tmp_path / "model"), 3)
    with Graph().as_default(), Session() as session:
        saver = import_meta_graph(f"{path}.meta")
        assert saver.as_saver_def().max_to_keep == 2
        saver.restore(session, path)
        assert session.run("weights:0").tolist() == [1.5, 2.5]
        again = saver.save(session, str(tmp_path / "again"))
        assert (CheckpointReader(again).get_tensor("table") == FULL).all()
        definition = saver.as_saver_def()
        fed = {definition.filename_tensor_name: np.array(str(tmp_path / "op").encode(), object)}
        session.run(definition.save_tensor_name, fed)
        assert (CheckpointReader(tmp_path / "op").get_tensor("table") == FULL).all()


def test_exported_graph_is_one_that_tensorflow_imports(tmp_path, tf1):
    with Graph().as_default():
        own_graph()
        export_meta_graph(tmp_path / "graph.meta")
    with tf1.Graph().as_default() as graph:
        tf1.train.import_meta_graph(str(tmp_path / "graph.meta"))
        assert {v.op.name for v in tf1.global_variables()} >= {"weights", "table/part_0"}
        assert graph.get_operation_by_name("save/restore_all")


@pytest.mark.parametrize("keep", [1, 3, 0, None])
def test_the_same_checkpoints_stay(tmp_path, tf1, keep):
    sequence = [1, 2, 2, 3, 1, 4, 5]
    for folder in ("ours", "theirs"):
        (tmp_path / folder).mkdir()
    with Graph().as_default(), Session() as session:
        Variable([1.0], name="v")
        ours = Saver(max_to_keep=keep)
        session.run(initialize_all_variables())
        with tf1.Graph().as_default(), tf1.Session() as their_session:
            tf1.Variable([1.0], name="v")
            theirs = tf1.train.Saver(max_to_keep=keep)
            their_session.run(tf1.global_variables_initializer())
            for step in sequence:
                mine = ours.save(session, str(tmp_path / "ours" / "m"), step)
                other = theirs.save(their_session, str(tmp_path / "theirs" / "m"), step)
                assert os.path.basename(mine) == os.path.basename(other)
                assert names(ours.last_checkpoints) == names(theirs.last_checkpoints)
                assert saved(tmp_path / "ours") == saved(tmp_path / "theirs")
                state = get_checkpoint_state(str(tmp_path / "ours"))
                their_state = tf1.train.get_checkpoint_state(str(tmp_path / "theirs"))
                assert names(state.all_model_checkpoint_paths) == names(
                    their_state.all_model_checkpoint_paths
                )
    assert tf1.train.get_checkpoint_state(str(tmp_path / "ours")).model_checkpoint_path == mine


def names(paths):
    return [os.path.basename(path) for path in paths]


def saved(folder):
    """The checkpoints that are in a folder, whatever their format."""
    return {name.split(".")[0] for name in os.listdir(folder)}


@pytest.mark.parametrize(
    "arguments",
    [
        ("d", "d/m-2", ["d/m-1"]),
        ("d", "d/m-2", ["d/m-1", "d/m-2"]),
        ("d", "m-2", None),
        ("d", "/abs/m-2", ["d/m-1"]),
        ("a/b", "a/m-2", ["a/b/m-1"]),
    ],
)
def test_states_are_as_tensorflows(tf1, arguments):
    directory, newest, paths = arguments
    ours = generate_checkpoint_state_proto(directory, newest, paths)
    theirs = tf1.train.generate_checkpoint_state_proto(directory, newest, paths and [*paths])
    assert ours.model_checkpoint_path == theirs.model_checkpoint_path
    assert list(ours.all_model_checkpoint_paths) == list(theirs.all_model_checkpoint_paths)
