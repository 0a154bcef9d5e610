"""A master with a task in this process, and with tasks elsewhere."""

import numpy as np
import pytest

from graph_builder import GraphBuilder
from paramserve_core.errors import (
    CancelledError,
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.local import LocalMaster
from paramserve_core.master.tasks import LocalTask
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.limits import TaskLimits
from simulation.cluster import Cluster, NoCheckpoints
from simulation.network import Weather

TASK = "/job:localhost/replica:0/task:0"


@pytest.fixture
def runtime():
    runtime = ThreadRuntime("test")
    yield runtime
    runtime.close()


@pytest.fixture
def store():
    return VariableStore()


@pytest.fixture
def master(runtime, store):
    task = LocalTask(TASK, "session", store, TaskLimits(), NoCheckpoints(), StepGate(runtime))
    master = LocalMaster([task], TASK, runtime, shows_task=False)
    yield master
    master.close()


def counter() -> GraphBuilder:
    g = GraphBuilder()
    g.variable("w", [2])
    g.placeholder("x", [2])
    g.assign("set", "w", "x")
    g.assign("add", "w", "x", op="AssignAdd")
    g.identity("read", "w")
    return g


def run(master, fetches, feeds=None, targets=(), timeout_s=None):
    feeds = feeds or {}
    plan = master.prepare(fetches, list(feeds), list(targets))
    return master.run(plan, [np.asarray(v, np.float32) for v in feeds.values()], timeout_s)


def test_variables_keep_their_values_between_steps(master):
    master.extend(counter().graph)
    run(master, [], {"x": [1, 2]}, ["set"])
    assert run(master, ["add:0"], {"x": [1, 1]})[0].tolist() == [2, 3]
    assert run(master, ["read:0"])[0].tolist() == [2, 3]


def test_the_graph_may_grow_between_steps(master):
    master.extend(counter().graph)
    run(master, [], {"x": [1, 2]}, ["set"])
    more = GraphBuilder()
    more.add("twice", "w", "w")
    master.extend(more.graph)
    assert run(master, ["twice:0"])[0].tolist() == [2, 4]


def test_what_is_fetched_belongs_to_the_caller(master, store):
    master.extend(counter().graph)
    run(master, [], {"x": [1, 2]}, ["set"])
    for fetches in (["read:0"], ["w:0"], ["read:0", "read:0"]):
        for array in run(master, fetches):
            array += 100
    assert run(master, ["read:0"])[0].tolist() == [1, 2]


def test_a_fetched_feed_is_a_copy(master):
    master.extend(counter().graph)
    plan = master.prepare(["x:0"], ["x:0"], [])
    fed = np.zeros(2, np.float32)
    (fetched,) = master.run(plan, [fed])
    fetched += 1
    assert fed.tolist() == [0, 0]


def test_a_variable_does_not_keep_the_callers_array(master):
    master.extend(counter().graph)
    plan = master.prepare([], ["x:0"], ["set"])
    fed = np.zeros(2, np.float32)
    master.run(plan, [fed])
    fed += 1
    assert run(master, ["read:0"])[0].tolist() == [0, 0]


def test_a_fresh_result_is_not_copied_again(master):
    g = GraphBuilder()
    g.placeholder("x")
    g.add("sum", "x", "x")
    master.extend(g.graph)
    assert run(master, ["sum:0"], {"x": [1.0, 2.0]})[0].flags.owndata


def test_reading_before_initialization_names_the_variable_and_the_op(master):
    master.extend(counter().graph)
    with pytest.raises(FailedPreconditionError, match="uninitialized value w") as caught:
        run(master, ["read:0"])
    assert caught.value.node_name == "read"
    assert caught.value.task is None


def test_a_failed_step_leaves_the_session_usable(master):
    master.extend(counter().graph)
    with pytest.raises(FailedPreconditionError):
        run(master, ["read:0"])
    run(master, [], {"x": [1, 2]}, ["set"])
    assert run(master, ["read:0"])[0].tolist() == [1, 2]


def test_a_plan_that_was_not_prepared_and_feeds_that_do_not_match_are_refused(master):
    master.extend(counter().graph)
    with pytest.raises(InvalidArgumentError, match="plan 9 was not prepared"):
        master.run(9, [])
    plan = master.prepare([], ["x:0"], ["set"])
    with pytest.raises(InvalidArgumentError, match="takes 1 feeds, 0 were given"):
        master.run(plan, [])


def test_an_unknown_fetch_is_not_found(master):
    with pytest.raises(NotFoundError):
        master.prepare(["nothing:0"], [], [])


def test_a_closed_session_runs_nothing(master):
    master.extend(counter().graph)
    plan = master.prepare([], ["x:0"], ["set"])
    master.close()
    with pytest.raises(CancelledError, match="closed"):
        master.run(plan, [np.zeros(2, np.float32)])


def test_variables_are_listed_and_reset(master):
    master.extend(counter().graph)
    run(master, [], {"x": [1, 2]}, ["set"])
    (listed,) = master.variables()
    assert (listed.name, listed.bytes, listed.initialized) == ("w", 8, True)
    master.reset([])
    assert master.variables() == []


def test_errors_of_other_tasks_name_the_task():
    cluster = Cluster(1, Weather(), tasks=2)

    def client():
        master = cluster.master()
        g = GraphBuilder()
        g.variable("w", device="/job:ps/task:1")
        g.identity("read", "w", device="/job:ps/task:1")
        master.extend(g.graph)
        with pytest.raises(FailedPreconditionError) as caught:
            run(master, ["read:0"])
        assert caught.value.task == "/job:ps/replica:0/task:1"
        assert caught.value.node_name == "read"
        master.close()

    cluster.scheduler.run(client)


def test_a_task_that_cannot_be_reached_is_named_with_its_address():
    cluster = Cluster(1, Weather(refuses=1.0))

    def client():
        master = cluster.master()
        with pytest.raises(UnavailableError, match=r"task:0 at ps0:2222 could not be reached"):
            master.prepare(["add0:0"], ["delta0:0"], [])
        assert cluster.scheduler.now >= 29
        master.close()

    cluster.scheduler.run(client)


def test_a_step_that_is_late_is_cancelled_and_runs_no_more():
    cluster = Cluster(1, Weather())

    def client():
        master = cluster.master()
        plan = master.prepare(["add0:0"], ["delta0:0"], [])
        cluster.network.weather = Weather(refuses=1.0, breaks=1.0)
        with pytest.raises(DeadlineExceededError, match=r"did not end within 0\.2 s"):
            master.run(plan, [np.asarray(1, np.int64)], 0.2)
        cluster.network.calm()
        assert master.run(plan, [np.asarray(1, np.int64)])[0] == 1
        master.close()

    cluster.scheduler.run(client)
    assert cluster.value(cluster.names[0]) == 1


def test_an_idle_session_outlives_its_connection():
    cluster = Cluster(1, Weather())

    def client():
        master = cluster.master()
        plan = master.prepare(["add0:0"], ["delta0:0"], [])
        for pipe in list(cluster.servers[0].pipes):
            pipe.break_now()
        cluster.runtime.sleep(100)
        assert master.run(plan, [np.asarray(1, np.int64)])[0] == 1
        master.close()

    cluster.scheduler.run(client)


def test_a_client_that_is_gone_leaves_no_session_behind():
    cluster = Cluster(1, Weather())
    host = cluster.hosts[cluster.names[0]]

    def client():
        master = cluster.master()
        master.prepare(["add0:0"], ["delta0:0"], [])
        assert host.session_count == 1
        cluster.network.weather = Weather(refuses=1.0)
        for pipe in list(cluster.servers[0].pipes):
            pipe.break_now()
        cluster.runtime.sleep(100)

    cluster.scheduler.run(client)
    assert host.session_count == 0


def test_a_server_that_drains_finishes_what_runs_and_refuses_what_is_new():
    cluster = Cluster(1, Weather())
    host = cluster.hosts[cluster.names[0]]

    def client():
        master = cluster.master()
        plan = master.prepare(["add0:0"], ["delta0:0"], [])
        assert host.drain(1.0)
        with pytest.raises(UnavailableError, match="is stopping"):
            master.run(plan, [np.asarray(1, np.int64)])
        master.close()

    cluster.scheduler.run(client)
    assert cluster.value(cluster.names[0]) == 0
