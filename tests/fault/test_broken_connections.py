"""Real connections, cut at random byte offsets between real clients and a real server."""

import threading

import numpy as np
import pytest

import paramserve as ps
from cutting_proxy import cutting_proxy
from processes import server

pytestmark = pytest.mark.slow

CUTS = 500


@pytest.fixture(autouse=True)
def only_grpc(monkeypatch):
    """A local socket would pass by the proxy."""
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "grpc")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
def test_updates_are_applied_once_however_often_the_connection_is_cut(tmp_path, kind):
    wanted_cuts = CUTS // 2
    with (
        server(tmp_path) as process,
        cutting_proxy(process.address, seed=5, most_bytes=6000) as proxy,
    ):
        if kind == "planned here":
            target = ps.train.ClusterSpec({"ps": [proxy.address]})
        else:
            target = f"grpc://{proxy.address}"
        values: list[int] = []

        def client() -> None:
            with ps.Graph().as_default(), ps.device("/job:ps/task:0"):
                counter = ps.Variable(np.int64(0), name="counter")
                ballast = ps.Variable(ps.zeros([100]), name="ballast")
                add = counter.assign_add(np.int64(1))
                fill = ballast.assign_add(ps.ones([100]))
                with ps.Session(target) as sess:
                    while proxy.cuts < wanted_cuts:
                        value, _ = sess.run([add, fill])
                        values.append(int(value))

        with ps.Graph().as_default(), ps.device("/job:ps/task:0"):
            counter = ps.Variable(np.int64(0), name="counter")
            ballast = ps.Variable(ps.zeros([100]), name="ballast")
            with ps.Session(process.target) as sess:
                sess.run(ps.initialize_all_variables())
                clients = [threading.Thread(target=client) for _ in range(3)]
                for thread in clients:
                    thread.start()
                for thread in clients:
                    thread.join()
                total, filled = sess.run([counter, ballast])
    assert proxy.cuts >= wanted_cuts
    assert sorted(values) == list(range(1, len(values) + 1))
    assert total == len(values)
    assert (filled == len(values)).all()


@pytest.mark.timeout(300)
def test_large_tensors_arrive_whole_although_connections_break_in_their_middle(tmp_path):
    with (
        server(tmp_path) as process,
        cutting_proxy(process.address, seed=6, most_bytes=9_000_000) as proxy,
        ps.Graph().as_default(),
        ps.device("/job:ps/task:0"),
    ):
        pushed = ps.placeholder(ps.float32, [1_000_000])
        large = ps.Variable(ps.zeros([1_000_000]), name="large")
        push = large.assign_add(pushed)
        with ps.Session(ps.train.ClusterSpec({"ps": [proxy.address]})) as sess:
            sess.run(large.initializer)
            count = 0
            while proxy.cuts < 10:
                sess.run(push.op, {pushed: np.ones(1_000_000, np.float32)})
                count += 1
                value = sess.run(large)
                assert (value == count).all()
