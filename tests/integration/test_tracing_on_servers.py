"""Traced steps on servers: each op on its own task, all on the client's clock."""

import numpy as np
import pytest

import paramserve as ps

TRACED = ps.RunOptions(trace_level=ps.RunOptions.FULL_TRACE, output_partition_graphs=True)
PS = "/job:ps/replica:0/task:{}"
CPU = "/device:CPU:0"


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture(params=["grpc", "shm"])
def transport(request, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", request.param)
    return request.param


@pytest.fixture
def server(transport):
    with ps.train.Server.create_local_server() as server:
        yield server


@pytest.fixture
def addresses(transport):
    """Two parameter servers that know each other."""
    with ps.train.Server({"ps": ["localhost:0"]}) as one:
        first = one.target.removeprefix("grpc://")
        with ps.train.Server({"ps": [first, "localhost:0"]}, task_index=1) as two:
            yield [first, two.target.removeprefix("grpc://")]


def traced(sess, fetches, feed_dict=None):
    metadata = ps.RunMetadata()
    values = sess.run(fetches, feed_dict, options=TRACED, run_metadata=metadata)
    return values, metadata


def ops_by_device(metadata):
    return {
        device.device: {node.node_name for node in device.node_stats}
        for device in metadata.step_stats.dev_stats
    }


def pinned_step():
    """A variable on each of two servers, both read and both updated by what is computed."""
    with ps.device("/job:ps/task:0"):
        a = ps.Variable(ps.ones([1000]), name="a")
    with ps.device("/job:ps/task:1"):
        b = ps.Variable(ps.ones([2000]), name="b")
    total = ps.add(ps.reduce_sum(a), ps.reduce_sum(b), name="total")
    step = ps.group(a.assign_add(ps.fill([1000], total)), b.assign_add(ps.fill([2000], total)))
    return total, step


def check_times(metadata):
    """Nothing happens on a task before its request was sent, or after the answer came."""
    stages = {}
    for stage in metadata.stage_stats:
        stages.setdefault(stage.task + CPU, []).append(stage)
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats if device.device in stages else ():
            began = node.all_start_nanos
            ended = began + node.all_end_rel_nanos
            assert any(
                s.start_nanos - 2000 <= began <= ended <= s.start_nanos + s.round_trip_nanos + 2000
                for s in stages[device.device]
            ), node


def test_a_step_on_a_server_is_reported_with_what_it_took_to_ask(server, transport):
    v = ps.Variable(ps.zeros([1000]), name="v")
    x = ps.placeholder(ps.float32, [1000], name="x")
    update = v.assign_add(x)
    with ps.Session(server.target) as sess:
        sess.run(v.initializer)
        value, metadata = traced(sess, update, {x: np.ones(1000)})
    assert value.tolist() == [1.0] * 1000
    task = "/job:local/replica:0/task:0"
    found = ops_by_device(metadata)
    assert found.keys() == {task + CPU, f"{task}/transport:{transport}"}
    assert found[task + CPU] == {"v", update.op.name}
    inner, whole = metadata.stage_stats
    assert (inner.task, inner.transport) == (task, "in process")
    assert (whole.task, whole.transport) == (task, transport)
    assert (whole.request_bytes, whole.response_bytes) == (4000, 4000)
    assert whole.wait_nanos + whole.apply_nanos <= whole.round_trip_nanos
    assert whole.start_nanos <= inner.start_nanos
    check_times(metadata)
    (part,) = metadata.partition_graphs
    assert {node.name for node in part.node} == {"x/received_0", "v", update.op.name}


def test_a_worker_reports_each_request_to_each_server(addresses, transport):
    total, step = pinned_step()
    with ps.Session(ps.train.ClusterSpec({"ps": addresses})) as sess:
        sess.run(ps.global_variables_initializer())
        (value, _), metadata = traced(sess, [total, step])
    assert value == 3000.0
    found = ops_by_device(metadata)
    worker = "/job:worker/replica:0/task:0"
    assert "total" in found[worker + CPU]
    for task in map(PS.format, (0, 1)):
        assert found[f"{task}/transport:{transport}"] == {"RunStage 0", "RunStage 1"}
    assert "a" in found[PS.format(0) + CPU]
    assert "b" in found[PS.format(1) + CPU]
    by_task = {}
    for stage in metadata.stage_stats:
        by_task.setdefault(stage.task, []).append(stage)
        if stage.task != worker:
            assert stage.transport == transport
            assert stage.wait_nanos + stage.apply_nanos <= stage.round_trip_nanos
    # The first answer of each server goes to the worker, and what it computes to both.
    for task in map(PS.format, (0, 1)):
        assert [s.stage for s in by_task[task]] == [0, 1]
        first, second = by_task[task]
        assert first.request_bytes == 0
        assert first.response_bytes > 0
        assert second.request_bytes > 0
        assert first.start_nanos + first.round_trip_nanos <= second.start_nanos
    check_times(metadata)
    assert len(metadata.partition_graphs) == 3


def test_a_server_that_plans_reports_what_the_others_ran_for_it(addresses, transport):
    total, step = pinned_step()
    with ps.Session(f"grpc://{addresses[1]}") as sess:
        sess.run(ps.global_variables_initializer())
        (value, _), metadata = traced(sess, [total, step])
    assert value == 3000.0
    found = ops_by_device(metadata)
    assert "a" in found[PS.format(0) + CPU]
    assert {"b", "total"} <= found[PS.format(1) + CPU]
    assert f"{PS.format(0)}/transport:{transport}" in found
    assert found[f"{PS.format(1)}/transport:{transport}"] == {"RunStep"}
    whole = metadata.stage_stats[-1]
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            assert whole.start_nanos <= node.all_start_nanos
            ended = node.all_start_nanos + node.all_end_rel_nanos
            assert ended <= whole.start_nanos + whole.round_trip_nanos + 2000


def test_an_untraced_step_after_a_traced_one_is_as_before(server):
    v = ps.Variable(ps.zeros([10]), name="v")
    with ps.Session(server.target) as sess:
        sess.run(v.initializer)
        traced(sess, v)
        assert sess.run(v).tolist() == [0.0] * 10


def test_an_error_of_a_traced_step_is_the_one_without_tracing(server):
    v = ps.Variable(ps.zeros([2]), name="v")
    with ps.Session(server.target) as sess:
        with pytest.raises(ps.errors.FailedPreconditionError, match="uninitialized value v"):
            traced(sess, v)
        sess.run(v.initializer)
        assert traced(sess, v)[0].tolist() == [0.0, 0.0]
