"""TensorFlow's tools read what a traced step reports."""

import json

import pytest

import kernel_driver
import paramserve as ps

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


def training_step(lib):
    """A variable, a computation that reads it, and an update; fetches and feeds."""
    kind = {} if lib is ps else {"use_resource": False}
    v = lib.Variable([1.0, 2.0], name="v", **kind)
    x = lib.placeholder(lib.float32, [2], name="x")
    axis = lib.constant([0], name="axis")
    loss = lib.reduce_sum(lib.multiply(v, x, name="product"), axis, name="loss")
    update = lib.assign_sub(v, x, name="update")
    return v.initializer, [loss, update], {x: [3.0, 4.0]}


def traced(lib, level="FULL_TRACE", sess_options=None):
    with lib.Graph().as_default():
        init, fetches, feeds = training_step(lib)
        with lib.Session(**(sess_options or {})) as sess:
            sess.run(init)
            metadata = lib.RunMetadata()
            options = lib.RunOptions(trace_level=getattr(lib.RunOptions, level))
            sess.run(fetches, feeds, options=options, run_metadata=metadata)
            return metadata


def ops_of(metadata):
    return {n.node_name for d in metadata.step_stats.dev_stats for n in d.node_stats}


@pytest.fixture(scope="module")
def servers_report():
    """The report of a step on a server, which has requests in it too."""
    with ps.train.Server.create_local_server() as server, ps.Graph().as_default():
        init, fetches, feeds = training_step(ps)
        with ps.Session(server.target) as sess:
            sess.run(init)
            metadata = ps.RunMetadata()
            options = ps.RunOptions(trace_level=ps.RunOptions.FULL_TRACE)
            sess.run(fetches, feeds, options=options, run_metadata=metadata)
            return metadata


@pytest.mark.parametrize("options", [{"show_dataflow": True}, {"show_memory": True}])
def test_tensorflows_timeline_draws_our_statistics(tf, servers_report, options):
    from tensorflow.core.framework import step_stats_pb2
    from tensorflow.python.client import timeline

    theirs = step_stats_pb2.StepStats.FromString(servers_report.step_stats.SerializeToString())
    drawn = json.loads(timeline.Timeline(theirs).generate_chrome_trace_format(**options))
    shown = {e["args"]["name"] for e in drawn["traceEvents"] if e["ph"] == "X"}
    assert {"v", "product", "loss", "update"} <= shown
    assert any("RunStep" in name for name in shown)


def test_our_timeline_draws_tensorflows_statistics(tf):
    from paramserve_protos.v1.step_stats_pb2 import StepStats

    theirs = traced(tf.compat.v1).step_stats
    text = ps.Timeline(StepStats.FromString(theirs.SerializeToString()))
    drawn = json.loads(text.generate_chrome_trace_format(show_memory=True))
    shown = {e["args"]["name"] for e in drawn["traceEvents"] if e["ph"] == "X"}
    assert {"loss", "update"} <= shown


@pytest.mark.parametrize("level", ["NO_TRACE", "SOFTWARE_TRACE", "FULL_TRACE"])
def test_a_level_reports_ops_where_tensorflow_does(tf, level):
    v1 = tf.compat.v1
    off = v1.ConfigProto()
    off.graph_options.rewrite_options.disable_meta_optimizer = True
    theirs = ops_of(traced(v1, level, {"config": off}))
    ours = ops_of(traced(ps, level))
    assert bool(ours) == bool(theirs)
    assert ours <= theirs


@pytest.mark.parametrize("name", ["loss", "v/read"])
def test_an_op_is_described_as_tensorflow_describes_it(tf, name):
    def described(lib):
        stats = traced(lib).step_stats
        (node,) = [n for d in stats.dev_stats for n in d.node_stats if n.node_name == name]
        tensor = node.output[0].tensor_description
        return (
            node.timeline_label,
            node.output[0].slot,
            tensor.dtype,
            [d.size for d in tensor.shape.dim],
            tensor.allocation_description.requested_bytes,
        )

    assert described(ps) == described(tf.compat.v1)


def test_the_statistics_are_in_an_event_file_as_tensorboard_expects_them(
    tf, servers_report, tmp_path
):
    v1 = tf.compat.v1
    with ps.summary.FileWriter(str(tmp_path)) as writer:
        writer.add_run_metadata(servers_report, "step 7", 7)
    (path,) = tmp_path.iterdir()
    (event,) = [e for e in v1.train.summary_iterator(str(path)) if e.step == 7]
    assert event.tagged_run_metadata.tag == "step 7"
    found = v1.RunMetadata.FromString(event.tagged_run_metadata.run_metadata)
    assert ops_of(found) == ops_of(servers_report)
    assert found.step_stats.dev_stats[0].device == "/job:local/replica:0/task:0/device:CPU:0"


def test_tensorflow_imports_the_graph_of_a_task(tf):
    with ps.Graph().as_default():
        init, fetches, feeds = training_step(ps)
        with ps.Session() as sess:
            sess.run(init)
            metadata = ps.RunMetadata()
            options = ps.RunOptions(output_partition_graphs=True)
            sess.run(fetches, feeds, options=options, run_metadata=metadata)
    (part,) = metadata.partition_graphs
    v1 = tf.compat.v1
    with v1.Graph().as_default() as graph:
        theirs = v1.GraphDef.FromString(part.SerializeToString())
        v1.import_graph_def(theirs, name="")
        names = {op.name for op in graph.get_operations()}
    assert {"x/received_0", "v", "product", "loss", "update"} <= names
