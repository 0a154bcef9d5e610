"""kill -9 of clients and servers, and Ctrl-C."""

import json
import subprocess
import threading

import psutil
import pytest

import paramserve as ps
from processes import ServerProcess, command_line, programs, server

pytestmark = pytest.mark.slow

MIB = 1 << 20

PUSH = """
    import sys
    import numpy as np
    import paramserve as ps

    elements = int(sys.argv[2])
    pushed = ps.placeholder(ps.float32, [elements])
    v = ps.Variable(ps.zeros([elements]), name="v")
    push = v.assign_add(pushed).op
    ones = np.ones(elements, np.float32)
    with ps.Session(sys.argv[1]) as sess:
        print("ready", flush=True)
        while True:
            sess.run(push, {pushed: ones})
            print("pushed", flush=True)
"""


def wait_until(holds) -> None:
    """Polls, without a limit of its own: the test's timeout is the limit."""
    event = threading.Event()
    while not holds():
        event.wait(0.02)


def session_count(process: ServerProcess) -> int:
    done = subprocess.run(
        command_line("status", process.target, "--json"), capture_output=True, text=True, check=True
    )
    return int(json.loads(done.stdout)["sessions"])


def test_a_worker_killed_while_it_pushes_leaves_no_half_update(tmp_path):
    elements = 4_000_000
    with server(tmp_path, "--session-grace", "0.2") as process, ps.Graph().as_default():
        v = ps.Variable(ps.zeros([elements]), name="v")
        with ps.Session(process.target) as sess:
            sess.run(v.initializer)
            for _ in range(5):
                with programs(PUSH, [[process.target, str(elements)]]) as (worker,):
                    assert worker.line() == "ready"
                    assert worker.line() == "pushed"
                    worker.kill()
                value = sess.run(v)
                assert value[0] >= 1
                assert (value == value[0]).all()
            assert sess.run(v.assign_add(ps.ones([elements])))[0] >= 6
        wait_until(lambda: session_count(process) == 0)


def test_the_next_run_after_a_server_was_killed_names_the_task(tmp_path, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_RECONNECT_S", "1")
    with server(tmp_path) as process, ps.Graph().as_default():
        v = ps.Variable(ps.zeros([3]), name="v")
        ps.Variable(ps.zeros([3]), name="w")
        saver = ps.train.Saver([v])
        missing = ps.report_uninitialized_variables()
        with ps.Session(process.target) as sess:
            sess.run(ps.initialize_all_variables())
            sess.run(v.assign([1.0, 2.0, 3.0]))
            path = saver.save(sess, "model.ckpt")
            process.kill()
            with pytest.raises(ps.errors.UnavailableError, match=process.address):
                sess.run(v)
            process.end()
            process.start()
            with pytest.raises(ps.errors.AbortedError, match="restarted"):
                sess.run(v)
        with ps.Session(process.target) as sess:
            assert sorted(sess.run(missing)) == [b"v", b"w"]
            saver.restore(sess, path)
            assert list(sess.run(missing)) == [b"w"]
            assert sess.run(v).tolist() == [1, 2, 3]


def test_a_run_with_a_deadline_ends_by_it_when_the_server_is_gone(tmp_path):
    with server(tmp_path) as process, ps.Graph().as_default():
        v = ps.Variable(ps.zeros([3]), name="v")
        with ps.Session(process.target) as sess:
            sess.run(v.initializer)
            process.kill()
            with pytest.raises((ps.errors.DeadlineExceededError, ps.errors.UnavailableError)):
                sess.run(v, options=ps.RunOptions(timeout_in_ms=300))


USE_AND_WAIT = """
    import sys
    import numpy as np
    import paramserve as ps

    pushed = ps.placeholder(ps.float32, [250_000])
    v = ps.Variable(ps.zeros([250_000]), name="v")
    push = v.assign(pushed).op
    with ps.Session(sys.argv[1]) as sess:
        sess.run(push, {pushed: np.ones(250_000, np.float32)})
        sess.run(v)
        print("used", flush=True)
        input()
"""


@pytest.mark.timeout(600)
def test_100_sessions_killed_leave_the_server_as_it_was(tmp_path):
    def use_and_kill(count: int) -> None:
        with programs(USE_AND_WAIT, [[process.target]] * count) as users:
            for user in users:
                assert user.line() == "used"
            for user in users:
                user.kill()
        wait_until(lambda: session_count(process) == 0)

    with server(tmp_path, "--session-grace", "0.2") as process:
        for _ in range(2):
            use_and_kill(5)
        before = process.resources()
        for _ in range(20):
            use_and_kill(5)
        memory, threads, descriptors = process.resources()
    # No object of a session is left: between 10 and 160 sessions, what the allocator has given out
    # grew by 0.3 MB in all. But where threads may have as many arenas as they like, each keeps what
    # was freed in it: the process grew by 20 MB over gRPC and by 8 MB over shared memory, most of
    # which `malloc_trim` gave back. With two arenas it grew by less than 1 MB. Segments are kept:
    # of each of five clients a value of 1 MB, what it pushed, and what replaces the value.
    assert memory - before[0] < (8 + 15) * MIB
    # Pools of threads and of shared segments grow to the most that was in use at once, which
    # differs by a few among five clients; a leak would be one for each of a hundred.
    assert threads <= before[1] + 10
    assert descriptors <= before[2] + 5


SLOW_STEP = """
    import sys
    import paramserve as ps

    v = ps.Variable(ps.ones([400, 400]), name="v")
    product = v
    for _ in range(3000):
        product = ps.matmul(product, v) * 0.0025
    with ps.Session(sys.argv[1]) as sess:
        for _ in range(9):  # From then on who waits for an answer receives it itself.
            sess.run(v.initializer)
        print("ready", flush=True)
        try:
            sess.run(product)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


def test_ctrl_c_in_a_client_leaves_nothing_running_on_the_server(tmp_path):
    with server(tmp_path) as process, programs(SLOW_STEP, [[process.target]]) as (client,):
        assert client.line() == "ready"
        busy = psutil.Process(process.process.pid)
        began = busy.cpu_times().user
        wait_until(lambda: busy.cpu_times().user > began + 0.2)
        client.interrupt()
        assert client.line() == "interrupted"
        client.output()
        wait_until(lambda: session_count(process) == 0)
        with ps.Graph().as_default(), ps.Session(process.target) as sess:
            assert sess.run(ps.constant(1.0)) == 1
        assert process.terminate() == 0


def test_a_server_told_to_stop_finishes_the_step_that_runs(tmp_path):
    program = SLOW_STEP.replace("3000", "300").replace(
        "            sess.run(product)", "            print(sess.run(product).shape, flush=True)"
    )
    with (
        server(tmp_path, "--grace", "100") as process,
        programs(program, [[process.target]]) as (client,),
    ):
        assert client.line() == "ready"
        busy = psutil.Process(process.process.pid)
        began = busy.cpu_times().user
        wait_until(lambda: busy.cpu_times().user > began + 0.1)
        assert process.terminate() == 0
        assert client.line() == "(400, 400)"
        client.output()
