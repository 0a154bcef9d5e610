"""Placing variables on parameter servers."""

import pytest

import paramserve as ps
from paramserve_protos.v1.cluster_pb2 import ClusterDef

CLUSTER = {"ps": ["ps0:1", "ps1:1"], "worker": ["w0:1", "w1:1", "w2:1"]}


def devices(**options):
    """The devices of some ops in a block with a setter."""
    with ps.device(ps.train.replica_device_setter(**options)):
        made = {name: ps.Variable(1.0, name=name) for name in ("a", "b", "c")}
        made["constant"] = ps.constant(1.0)
        with ps.device("/job:ps/task:5"):
            made["own task"] = ps.Variable(1.0)
        with ps.device("/job:other"):
            made["other job"] = ps.Variable(1.0)
        with ps.device("/cpu:0"):
            made["on cpu"] = ps.Variable(1.0)
            made["constant on cpu"] = ps.constant(1.0)
    return {name: item.device for name, item in made.items()}


def test_variables_go_to_the_servers_in_turn_and_other_ops_to_workers():
    assert devices(ps_tasks=2) == {
        "a": "/job:ps/task:0",
        "b": "/job:ps/task:1",
        "c": "/job:ps/task:0",
        "constant": "/job:worker",
        "own task": "/job:ps/task:5",
        "other job": "/job:other",
        "on cpu": "/job:ps/task:0/device:CPU:0",
        "constant on cpu": "/job:worker/device:CPU:0",
    }


def test_a_variable_takes_its_initializer_and_reading_along():
    with ps.device(ps.train.replica_device_setter(2)):
        ps.Variable(1.0)
        v = ps.get_variable("v", [2])
    for op in (v.op, v.initializer, v.value().op, v.initial_value.op):
        assert op.device == "/job:ps/task:1"


@pytest.mark.parametrize("kind", [dict, ps.train.ClusterSpec, "message"])
def test_a_cluster_says_how_many_servers_there_are(kind):
    spec = ps.train.ClusterSpec(CLUSTER)
    cluster = spec.as_cluster_def() if kind == "message" else kind(CLUSTER)
    assert isinstance(cluster, (dict, ps.train.ClusterSpec, ClusterDef))
    found = devices(cluster=cluster)
    assert [found[name] for name in "abc"] == [f"/job:ps/task:{i}" for i in (0, 1, 0)]


def test_tasks_are_numbered_as_the_cluster_numbers_them():
    found = devices(cluster={"ps": {1: "ps1:1", 4: "ps4:1"}})
    assert [found[name] for name in "abc"] == [f"/job:ps/task:{i}" for i in (1, 4, 1)]


def test_without_servers_nothing_is_placed():
    assert ps.train.replica_device_setter() is None
    assert ps.train.replica_device_setter(cluster={"worker": ["w0:1"]}) is None
    assert ps.train.replica_device_setter(cluster={"ps": []}) is None
    assert devices()["a"] == ""


def test_an_empty_worker_device_leaves_other_ops_to_the_session():
    assert devices(ps_tasks=1, worker_device="")["constant"] == ""


def test_devices_may_say_more_than_a_job():
    found = devices(ps_tasks=2, ps_device="/job:ps/cpu:0", worker_device="/job:worker/task:3")
    assert found["b"] == "/job:ps/task:1/device:CPU:0"
    assert found["other job"] == "/job:other/device:CPU:0"
    assert found["constant"] == "/job:worker/task:3"


def test_a_server_device_without_a_job_gets_no_task():
    assert devices(ps_tasks=2, ps_device="/cpu:0")["b"] == "/device:CPU:0"


def test_without_merging_a_device_of_the_program_is_left_alone():
    found = devices(ps_tasks=2, merge_devices=False)
    assert found["on cpu"] == found["constant on cpu"] == "/device:CPU:0"
    assert found["b"] == "/job:ps/task:1"


def test_other_ops_may_be_placed_on_servers():
    found = devices(ps_tasks=2, ps_ops=["Const"])
    assert found["a"] == "/job:worker"
    assert found["constant"].startswith("/job:ps/task:")


def test_a_strategy_chooses_among_the_tasks_of_the_cluster():
    found = devices(cluster={"ps": {2: "a:1", 7: "b:1"}}, ps_strategy=lambda op: 1)
    assert found["a"] == found["b"] == "/job:ps/task:7"


@pytest.mark.parametrize("answer", [2, -1])
def test_a_strategy_that_answers_no_server_is_refused(answer):
    with pytest.raises(ValueError, match=f"ps_strategy answers {answer} for a; there are 2 serv"):
        devices(ps_tasks=2, ps_strategy=lambda op: answer)


def test_what_is_no_cluster_or_strategy_is_refused():
    with pytest.raises(TypeError, match="a cluster is a mapping"):
        ps.train.replica_device_setter(cluster=3)
    with pytest.raises(TypeError, match="ps_strategy must be callable"):
        ps.train.replica_device_setter(ps_tasks=1, ps_strategy=3)
    with pytest.raises(ValueError, match="/job"):
        ps.train.replica_device_setter(ps_tasks=1, ps_device="/job:")


# Greedy.


def test_the_least_loaded_server_is_next():
    strategy = ps.train.GreedyLoadBalancingStrategy(2, ps.train.byte_size_load_fn)
    with ps.device(ps.train.replica_device_setter(2, ps_strategy=strategy)):
        made = [ps.Variable(ps.zeros([size])) for size in (100, 10, 10, 10, 70, 5)]
    assert [v.device[-1] for v in made] == ["0", "1", "1", "1", "1", "0"]


def test_the_load_is_in_bytes():
    assert ps.train.byte_size_load_fn(ps.Variable(ps.zeros([3, 5])).op) == 60
    assert ps.train.byte_size_load_fn(ps.Variable(ps.zeros([3, 5], ps.float64)).op) == 120


def test_the_shape_of_a_called_initial_value_is_known_to_the_strategy():
    strategy = ps.train.GreedyLoadBalancingStrategy(2, ps.train.byte_size_load_fn)
    with ps.device(ps.train.replica_device_setter(2, ps_strategy=strategy)):
        v = ps.get_variable("v", [100])
        w = ps.Variable(lambda: ps.zeros([10]), dtype=ps.float32)
        x = ps.Variable(lambda: ps.zeros([10]), dtype=ps.float32)
    assert [item.device[-1] for item in (v, w, x)] == ["0", "1", "1"]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ps.constant(1.0), "the load of a Const op is not known"),
        (lambda: ps.Variable("text"), "a string variable"),
        (lambda: ps.Variable(ps.zeros([2]), validate_shape=False), "of shape <unknown>"),
    ],
)
def test_what_has_no_size_is_refused(make, text):
    with pytest.raises(ValueError, match=text):
        ps.train.byte_size_load_fn(make().op)
