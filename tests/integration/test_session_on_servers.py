"""Sessions on servers in this process: the program that runs with `Session()` runs there too."""

import threading

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def server():
    with ps.train.Server.create_local_server() as server:
        yield server


@pytest.fixture
def cluster():
    """Two parameter servers."""
    spec = {"ps": ["localhost:0"]}
    with ps.train.Server(spec) as one, ps.train.Server(spec) as two:
        addresses = [s.target.removeprefix("grpc://") for s in (one, two)]
        yield ps.train.ClusterSpec({"ps": dict(enumerate(addresses))})


def test_variables_outlive_the_session_and_are_shared_by_name(server):
    v = ps.Variable([1.0, 2.0], name="v")
    with ps.Session(server.target) as sess:
        sess.run(v.initializer)
    with ps.Session(server.target) as one, ps.Session(server.target) as other:
        assert one.run(v).tolist() == [1.0, 2.0]
        one.run(v.assign_add([1.0, 1.0]))
        assert other.run(v).tolist() == [2.0, 3.0]
    with ps.Graph().as_default(), ps.Session(server.target) as stranger:
        same = ps.Variable([0.0, 0.0], name="v")
        assert stranger.run(same).tolist() == [2.0, 3.0]


def test_reset_clears_the_containers_it_names(server):
    with ps.container("mine"):
        mine = ps.Variable(1.0, name="mine")
    other = ps.Variable(2.0, name="other")
    with ps.Session(server.target) as sess:
        sess.run(ps.initialize_all_variables())
    ps.Session.reset(server.target, ["mine"])
    with ps.Session(server.target) as sess:
        assert sess.run(other) == 2.0
        assert not sess.run(ps.is_variable_initialized(mine))
    ps.Session.reset(server.target)
    with ps.Session(server.target) as sess:
        assert not sess.run(ps.is_variable_initialized(other))


def test_the_graph_may_grow_after_the_session_started(server):
    a = ps.constant(1, name="a")
    with ps.Session(server.target) as sess:
        assert sess.run(a) == 1
        assert sess.run(a + 1) == 2


def test_every_type_travels_there_and_back(server):
    with ps.Session(server.target) as sess:
        for dtype in (ps.bool, ps.uint8, ps.int64, ps.bfloat16, ps.float16, ps.complex64):
            x = ps.placeholder(dtype, [2])
            value = np.array([0, 1]).astype(dtype.as_numpy_dtype)
            found = sess.run(ps.identity(x), {x: value})
            assert found.dtype == value.dtype
            np.testing.assert_array_equal(found, value)
        s = ps.placeholder(ps.string, [None])
        assert sess.run(ps.identity(s), {s: ["a", b"\xff", ""]}).tolist() == [b"a", b"\xff", b""]
        assert sess.run(ps.constant("text")) == b"text"


def test_fetched_arrays_are_writable_and_the_callers_own(server):
    v = ps.Variable(ps.zeros([1000, 1000]), name="v")
    with ps.Session(server.target) as sess:
        sess.run(v.initializer)
        for fetch in (v, v.value(), v[:2]):
            value = sess.run(fetch)
            value += 1
        assert not sess.run(v).any()


def test_an_error_names_the_op_the_task_and_the_line(server):
    v = ps.Variable(ps.zeros([2]), name="v")
    bad = ps.scatter_add(v, [5], [1.0], name="bad")
    with ps.Session(server.target) as sess:
        sess.run(v.initializer)
        with pytest.raises(ps.errors.InvalidArgumentError) as info:
            sess.run(bad)
        assert sess.run(v).tolist() == [0.0, 0.0]
    assert info.value.op is bad.op
    assert info.value.task == "/job:local/replica:0/task:0"
    assert "test_session_on_servers.py" in info.value.created_at


def test_a_cluster_session_places_variables_where_they_are_pinned(cluster):
    with ps.device("/job:ps/task:0"):
        a = ps.Variable(1.0, name="a")
    with ps.device("/job:ps/task:1"):
        b = ps.Variable(2.0, name="b")
    total = a + b
    with ps.Session(cluster) as sess:
        sess.run(ps.initialize_all_variables())
        assert sess.run(total) == 3.0
        here = ps.Variable(3.0, name="here")
        sess.run(here.initializer)
        assert sess.run(total + here) == 6.0
    for task, (name, value) in enumerate([("a", 1.0), ("b", 2.0)]):
        target = f"grpc://{cluster.task_address('ps', task)}"
        with ps.Graph().as_default(), ps.Session(target) as sess:
            assert sess.run(ps.Variable(0.0, name=name)) == value


def test_a_server_reaches_the_other_tasks_of_its_cluster(cluster):
    address = cluster.task_address("ps", 1)
    spec = {"worker": ["localhost:0"], "ps": {1: address}}
    with ps.device("/job:ps/task:1"):
        v = ps.Variable(3.0, name="far")
    with ps.train.Server(spec, "worker") as worker, ps.Session(worker.target) as sess:
        sess.run(v.initializer)
        assert sess.run(v * 2.0) == 6.0
    with ps.Graph().as_default(), ps.Session(f"grpc://{address}") as sess:
        assert sess.run(ps.Variable(0.0, name="far")) == 3.0


def test_threads_and_sessions_update_one_variable(server):
    v = ps.Variable(0, name="v")
    add = v.assign_add(1)
    with ps.Session(server.target) as sess:
        sess.run(v.initializer)

        def work():
            with ps.Session(server.target, graph=v.graph) as own:
                for _ in range(10):
                    own.run(add.op)
                    sess.run(add.op)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sess.run(v) == 80


@pytest.mark.parametrize("is_cluster", [False, True], ids=["server", "cluster"])
def test_the_timeout_of_operations_is_for_reaching_a_server_too(monkeypatch, is_cluster):
    monkeypatch.setenv("PARAMSERVE_CONNECT_S", "1000")
    with ps.train.Server.create_local_server() as server:
        address = server.target.removeprefix("grpc://")
    cluster = ps.train.ClusterSpec({"ps": [address]})
    config = ps.ConfigProto(operation_timeout_in_ms=100)
    with ps.device("/job:ps" if is_cluster else None):
        a = ps.constant(1)
    with (
        ps.Session(cluster if is_cluster else server.target, config=config) as sess,
        pytest.raises(ps.errors.DeadlineExceededError, match=f"{address} did not answer"),
    ):
        sess.run(a)


def test_a_server_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("PARAMSERVE_CONNECT_S", "0.2")
    with ps.train.Server.create_local_server() as server:
        target = server.target
    a = ps.constant(1)
    sess = ps.Session(target)
    with pytest.raises(ps.errors.UnavailableError, match=target.removeprefix("grpc://")):
        sess.run(a)
    sess.close()
