"""What a traced step reports, in a session in this process."""

import time

import pytest

import paramserve as ps

TRACED = ps.RunOptions(trace_level=ps.RunOptions.FULL_TRACE)
DEVICE = "/job:localhost/replica:0/task:0/device:CPU:0"


def traced(sess, fetches, feed_dict=None, options=TRACED):
    metadata = ps.RunMetadata()
    sess.run(fetches, feed_dict, options=options, run_metadata=metadata)
    return metadata


def ops_of(metadata, device=DEVICE):
    (found,) = [d for d in metadata.step_stats.dev_stats if d.device == device]
    return {node.node_name: node for node in found.node_stats}


def test_every_op_that_ran_is_reported_with_its_device_type_and_inputs(sess):
    v = ps.Variable([1.0, 2.0], name="v")
    x = ps.placeholder(ps.float32, [2], name="x")
    y = ps.add(v, x, name="y")
    ps.add(y, x, name="unused")
    sess.run(v.initializer)
    ops = ops_of(traced(sess, y, {x: [1, 1]}))
    assert {name: op.timeline_label for name, op in ops.items()} == {
        "v": "v = VariableV2()",
        "v/read": "v/read = Identity(v)",
        "y": f"y = {y.op.type}(v/read, x)",
    }


def test_times_are_of_the_day_and_in_the_order_in_which_the_ops_ran(sess):
    a = ps.placeholder(ps.float32, [], name="a")
    b = ps.add(a, 1.0, name="b")
    c = ps.add(b, 1.0, name="c")
    began_ns = time.time_ns()
    ops = ops_of(traced(sess, c, {a: 1.0}))
    ended_ns = time.time_ns()
    first, second = ops["b"], ops["c"]
    assert began_ns <= first.scheduled_nanos <= first.all_start_nanos
    assert first.all_start_nanos + first.all_end_rel_nanos <= second.all_start_nanos
    # Two clocks are compared here, one of which may be set while the test runs.
    assert second.all_start_nanos <= ended_ns + 1_000_000_000
    assert first.all_start_micros == first.all_start_nanos // 1000
    assert first.all_end_rel_micros >= 1
    assert first.op_end_rel_micros == first.all_end_rel_micros


def test_outputs_are_described(sess):
    x = ps.placeholder(ps.float32, [2, 3], name="x")
    y = ps.add(x, x, name="y")
    op = ops_of(traced(sess, y, {x: [[1, 2, 3], [4, 5, 6]]}))["y"]
    tensor = op.output[0].tensor_description
    assert tensor.dtype == ps.float32.as_datatype_enum
    assert [d.size for d in tensor.shape.dim] == [2, 3]
    assert tensor.allocation_description.requested_bytes == 24
    assert [(m.allocator_name, m.total_bytes) for m in op.memory] == [("cpu", 24)]


@pytest.mark.parametrize("level", ["SOFTWARE_TRACE", "HARDWARE_TRACE", "FULL_TRACE"])
def test_every_level_of_tracing_reports_the_same(sess, level):
    y = ps.add(ps.constant(1.0), ps.constant(2.0), name="y")
    options = ps.RunOptions(trace_level=level)
    assert ops_of(traced(sess, y, options=options)).keys() == {"y"}


def test_nothing_is_reported_that_was_not_asked_for(sess):
    y = ps.add(ps.constant(1.0), ps.constant(2.0), name="y")
    assert traced(sess, y, options=ps.RunOptions()) == ps.RunMetadata()
    graphs = traced(sess, y, options=ps.RunOptions(output_partition_graphs=True))
    assert not graphs.HasField("step_stats")
    assert not traced(sess, y).partition_graphs


def test_a_stage_in_this_process_moves_nothing(sess):
    y = ps.add(ps.constant(1.0), ps.constant(2.0), name="y")
    (stage,) = traced(sess, y).stage_stats
    assert stage.task == "/job:localhost/replica:0/task:0"
    assert stage.transport == "in process"
    assert stage.request_bytes == stage.response_bytes == 0
    assert 0 < stage.apply_nanos <= stage.round_trip_nanos


def test_the_graph_of_the_step_has_what_runs_and_can_be_imported(sess):
    x = ps.placeholder(ps.float32, [2], name="x")
    y = ps.add(x, 1.0, name="y")
    ps.add(y, y, name="unused")
    options = ps.RunOptions(output_partition_graphs=True)
    (part,) = traced(sess, y, {x: [1, 2]}, options).partition_graphs
    assert {node.name for node in part.node} == {"x/received_0", "y", "y/y"}
    assert part.versions == sess.graph_def.versions
    with ps.Graph().as_default(), ps.Session() as other:
        fed, found = ps.import_graph_def(part, return_elements=["x/received_0:0", "y:0"])
        assert other.run(found, {fed: [1, 2]}).tolist() == [2, 3]


def test_the_values_are_the_same_as_without_tracing(sess):
    x = ps.placeholder(ps.float32, [3])
    y = ps.cond(ps.reduce_sum(x) > 0, lambda: x * 2, lambda: x * 3)
    metadata = ps.RunMetadata()
    values = sess.run([y, x], {x: [1, 2, 3]}, options=TRACED, run_metadata=metadata)
    assert [value.tolist() for value in values] == [[2, 4, 6], [1, 2, 3]]
    for value in values:
        value += 1  # the caller's own


def test_each_round_of_a_loop_is_reported(sess):
    i = ps.constant(0)
    last = ps.while_loop(lambda i: i < 3, lambda i: ps.add(i, 1, name="next"), [i])
    (device,) = traced(sess, last).step_stats.dev_stats
    rounds = [op for op in device.node_stats if op.node_name == "while/next"]
    assert len(rounds) == 3
    ended = [op.all_start_nanos + op.all_end_rel_nanos for op in rounds]
    assert ended == sorted(ended)


def test_a_callable_takes_options_and_metadata(sess):
    x = ps.placeholder(ps.float32, [])
    call = sess.make_callable(x * 2, [x], accept_options=True)
    metadata = ps.RunMetadata()
    assert call(2.0, options=TRACED, run_metadata=metadata) == 4.0
    assert "mul" in ops_of(metadata)
    assert call(3.0) == 6.0
    with pytest.raises(TypeError):
        sess.make_callable(x * 2, [x])(2.0, options=TRACED)


def test_a_step_that_fails_leaves_the_metadata_alone(sess):
    v = ps.Variable(1.0, name="v")
    metadata = ps.RunMetadata()
    metadata.step_stats.dev_stats.add(device="earlier")
    with pytest.raises(ps.errors.FailedPreconditionError):
        sess.run(v, options=TRACED, run_metadata=metadata)
    assert metadata.step_stats.dev_stats[0].device == "earlier"


def test_the_timeline_of_a_step_has_an_event_for_each_op(sess):
    y = ps.add(ps.constant(1.0), ps.constant(2.0), name="y")
    stats = traced(sess, y * 2).step_stats
    text = ps.Timeline(stats).generate_chrome_trace_format(show_memory=True)
    assert text.count('"ph": "X"') == 2
