"""Python functions stay in the client, whatever the session works on."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def server():
    with ps.train.Server({"ps": ["localhost:0"]}) as server:
        yield server


@pytest.fixture
def cluster(server):
    return ps.train.ClusterSpec({"ps": [server.target.removeprefix("grpc://")]})


def test_a_worker_calls_a_function_between_reading_and_updating_a_server(cluster):
    with ps.device("/job:ps/task:0"):
        v = ps.Variable([1.0, 4.0])
    update = ps.assign(v, ps.py_func(np.sqrt, [v], ps.float32), validate_shape=False)
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        np.testing.assert_allclose(sess.run(update), [1, 2])


def test_a_function_on_a_device_of_a_server_is_refused(cluster):
    called = []
    with ps.device("/job:ps/task:0"):
        op = ps.py_func(lambda: called.append(1), [], [], name="f")
    message = "f: a Python function runs in the client, and /job:ps/replica:0/task:0 is a server"
    with ps.Session(cluster) as sess, pytest.raises(ps.errors.UnimplementedError, match=message):
        sess.run(op)
    assert not called


def test_a_session_on_a_server_refuses_a_function_even_of_its_own_process(server):
    called = []
    op = ps.py_func(lambda: called.append(1), [], [], name="f")
    with (
        ps.Session(server.target) as sess,
        pytest.raises(ps.errors.UnimplementedError, match="f: a Python function runs in the"),
    ):
        sess.run(op)
    assert not called
