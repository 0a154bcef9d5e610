"""Deadlines hold while a server takes nothing."""

import threading

import numpy as np
import pytest

import paramserve as ps
from local_fakes import until
from paramserve_core.executor.updating import Ref, Update
from paramserve_core.serving import ServingOptions, TaskServer
from paramserve_core.task.limits import TaskLimits

pytestmark = pytest.mark.own_transport

ELEMENTS = 4 << 20  # More than gRPC takes before the server has read it.
WAIT_S = 30.0
SOON = ps.RunOptions(timeout_in_ms=100)


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture(params=["shm", "grpc"])
def served(request, monkeypatch):
    """A server with room for one message."""
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", request.param)
    served = TaskServer(ServingOptions(limits=TaskLimits(max_inflight_bytes=1000)))
    served.start()
    yield served, request.param
    served.stop(1)


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
def test_a_deadline_ends_pushes_and_new_fetches_that_a_full_server_keeps_waiting(served, kind):
    served, transport = served
    cluster = ps.train.ClusterSpec({"ps": [served.address]})
    with ps.device("/job:ps/task:0"):
        v = ps.Variable(ps.zeros([ELEMENTS]), name="v")
        fed = ps.placeholder(ps.float32, [ELEMENTS])
        push, new = v.assign_add(fed).op, v[:3]
    ones = np.ones(ELEMENTS, np.float32)
    target = cluster if kind == "planned here" else f"grpc://{served.address}"
    with ps.Session(target) as sess:
        sess.run(v.initializer)
        held = served.host.store.find("v")
        assert held is not None
        with Update(Ref(held)):
            pushing = [in_thread(lambda: sess.run(push, {fed: ones}))]
            until(lambda: held._turn.waiting_count == 1)
            # The server has no room for this one.
            with pytest.raises(ps.errors.DeadlineExceededError):
                sess.run(push, {fed: ones}, options=SOON)
            pushing.append(in_thread(lambda: sess.run(push, {fed: ones})))
            until(lambda: served.host.waiting_count >= 1)
            # Nor does it read what comes after it on the connection.
            with pytest.raises(ps.errors.DeadlineExceededError):
                sess.run(new, options=SOON)
            with pytest.raises(ps.errors.DeadlineExceededError):
                sess.run(push, {fed: ones}, options=SOON)
        for thread in pushing:
            thread.join(WAIT_S)
        # Through shared memory the late ones had been sent, and the server may have begun them.
        (value,) = np.unique(sess.run(v))
        assert value in ([2] if transport == "grpc" else [2, 3, 4])
        assert sess.run(new).tolist() == [value] * 3
