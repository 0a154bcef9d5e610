"""Our messages against the TensorFlow that is installed, by descriptor and by bytes."""

import json
import warnings

import pytest

import descriptor_table
from paramserve_protos.v1 import graph_pb2, meta_graph_pb2, op_def_pb2

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("tensorflow", reason="TensorFlow, the oracle, is not installed")


@pytest.fixture(scope="module")
def theirs(tf):
    return descriptor_table.tensorflow_table()


@pytest.fixture
def meta_graph(tf):
    """A TensorFlow MetaGraphDef with variables, a function, a gradient and a signature."""
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:

        @tf.function
        def double(x):
            return x * 2.0

        weights = v1.get_variable("weights", [3, 2], use_resource=False)
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        y = tf.identity(double(tf.matmul(x, weights)), name="y")
        v1.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(y))
        saver = v1.train.Saver(max_to_keep=3)
        meta = v1.train.export_meta_graph(graph=graph, saver_def=saver.saver_def)
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        meta.signature_def["serve"].CopyFrom(signature)
        return meta


def test_every_field_of_ours_is_tensorflows(theirs):
    ours = descriptor_table.our_table()
    differing = {
        f"{name}.{field}": (line, theirs[name].get(field))
        for name, fields in ours.items()
        for field, line in fields.items()
        if line != theirs[name].get(field)
    }
    assert differing == {}


def test_the_table_that_unit_tests_use_agrees_with_this_tensorflow(theirs):
    golden = json.loads(descriptor_table.GOLDEN.read_text())
    # A newer TensorFlow may have more fields and an older one fewer; none may differ.
    differing = {
        f"{name}.{field}": (line, theirs[name][field])
        for name, fields in golden.items()
        for field, line in fields.items()
        if line != theirs[name].get(field, line)
    }
    assert differing == {}


def test_a_tensorflow_meta_graph_survives_the_round_trip(meta_graph):
    ours = meta_graph_pb2.MetaGraphDef.FromString(meta_graph.SerializeToString())
    assert len(ours.graph_def.node) == len(meta_graph.graph_def.node)
    functions = [f.signature.name for f in ours.graph_def.library.function]
    assert functions == [f.signature.name for f in meta_graph.graph_def.library.function] != []
    assert ours.saver_def.max_to_keep == 3
    assert set(ours.collection_def) == set(meta_graph.collection_def)
    assert type(meta_graph).FromString(ours.SerializeToString()) == meta_graph


def test_a_graph_that_went_through_ours_imports_into_tensorflow(tf, meta_graph):
    ours = graph_pb2.GraphDef.FromString(meta_graph.graph_def.SerializeToString())
    theirs = tf.compat.v1.GraphDef.FromString(ours.SerializeToString())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(theirs, name="")
        assert graph.get_operation_by_name("weights").type == "VariableV2"


def test_signatures_of_all_tensorflow_ops_survive_the_round_trip(tf):
    from tensorflow.core.framework import op_def_pb2 as tf_op_def_pb2
    from tensorflow.python.framework import op_def_registry

    names = [n for n in dir(tf.raw_ops) if not n.startswith("_")]
    known = [op for op in map(op_def_registry.get, names) if op is not None]
    assert len(known) > 1000
    theirs = tf_op_def_pb2.OpList(op=known)
    ours = op_def_pb2.OpList.FromString(theirs.SerializeToString())
    assert tf_op_def_pb2.OpList.FromString(ours.SerializeToString()) == theirs
