"""Separate processes that share variables on a server."""

import pytest

from processes import parameter_servers, programs, server

pytestmark = pytest.mark.slow

ADD = """
    import sys
    import numpy as np
    import paramserve as ps

    target, count = sys.argv[1], int(sys.argv[2])
    counter = ps.Variable(np.int64(0), name="counter")
    add = counter.assign_add(np.int64(1)).op
    with ps.Session(target) as sess:
        if sys.argv[3] == "first":
            sess.run(counter.initializer)
        print("ready", flush=True)
        input()
        for _ in range(count):
            sess.run(add)
        print("done", flush=True)
        input()
        print(sess.run(counter), flush=True)
"""


@pytest.mark.timeout(300)
def test_two_workers_add_20000_times_each_and_the_sum_is_exact(tmp_path):
    count = 20_000
    with (
        server(tmp_path) as process,
        programs(ADD, [[process.target, str(count), role] for role in ("first", "other")]) as both,
    ):
        for program in both:
            assert program.line() == "ready"
        for program in both:
            program.say("go")
        for program in both:
            assert program.line() == "done"
        for program in both:
            program.say("read")
            assert program.line() == str(2 * count)


WORKER = """
    import sys
    import numpy as np
    import paramserve as ps

    index, addresses = int(sys.argv[1]), sys.argv[2:]
    cluster = ps.train.ClusterSpec({"ps": addresses})
    with ps.device(ps.train.replica_device_setter(cluster=cluster)):
        a = ps.Variable(ps.zeros([1000]), name="a")
        b = ps.Variable(ps.zeros([1000]), name="b")
    devices = {a.device, b.device}
    move = ps.group(a.assign_sub(ps.ones([1000])), b.assign_add(ps.ones([1000])))
    with ps.Session(cluster) as sess:
        if index == 0:
            sess.run(ps.initialize_all_variables())
        print(len(devices), flush=True)
        input()
        for _ in range(100):
            sess.run(move)
        print("done", flush=True)
        input()
        print(*{float(x) for x in sess.run(a)}, *{float(x) for x in sess.run(b)}, flush=True)
"""


def test_workers_share_variables_placed_over_two_servers(tmp_path):
    with parameter_servers(tmp_path, 2) as servers:
        addresses = [process.address for process in servers]
        with programs(WORKER, [[str(i), *addresses] for i in range(2)]) as workers:
            for worker in workers:
                assert worker.line() == "2"
            for worker in workers:
                worker.say("go")
            for worker in workers:
                assert worker.line() == "done"
            workers[0].say("read")
            assert workers[0].line() == "-200.0 200.0"
