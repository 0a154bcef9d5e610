"""Many workers on one server: side by side, in turns, and never more than it has room for."""

import contextlib
import gc
import threading
from collections.abc import Callable

import numpy as np
import psutil
import pytest

import paramserve as ps
from local_fakes import until
from paramserve_core.executor.updating import Ref, Update
from paramserve_core.serving import ServingOptions, TaskServer
from processes import free_port, peak_bytes_of, programs, server

pytestmark = pytest.mark.slow

MIB = 1 << 20
WAIT_S = 60.0


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default():
        yield


@contextlib.contextmanager
def server_here():
    """A server in this process, whose variables a test can hold."""
    found = TaskServer(ServingOptions())
    found.start()
    try:
        yield found
    finally:
        found.stop(1)


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_pushes_to_different_variables_do_not_wait_for_each_other():
    v = ps.Variable(ps.zeros([4]), name="v")
    w = ps.Variable(ps.zeros([4]), name="w")
    push, other = v.assign_add(ps.ones([4])), w.assign_add(ps.ones([4]))
    with server_here() as here, ps.Session(f"grpc://{here.address}") as sess:
        sess.run(ps.initialize_all_variables())
        held = here.host.store.find("v")
        assert held is not None
        with Update(Ref(held)):
            pushing = in_thread(lambda: sess.run(push))
            until(lambda: held._turn.waiting_count == 1)
            assert (sess.run(other) == 1).all()
            assert pushing.is_alive()
        pushing.join(WAIT_S)
        assert (sess.run(v) == 1).all()


def test_a_fetch_returns_while_updates_of_the_variable_run_and_wait():
    v = ps.Variable(ps.zeros([4]), name="v")
    push = v.assign_add(ps.ones([4])).op
    with server_here() as here, ps.Session(f"grpc://{here.address}") as sess:
        sess.run(v.initializer)
        held = here.host.store.find("v")
        assert held is not None
        lease = held.read()
        with Update(Ref(held), is_whole=True) as (array,):
            array += 1
            pushing = [in_thread(lambda: sess.run(push)) for _ in range(3)]
            until(lambda: held._turn.waiting_count == 3)
            assert (sess.run(v) == 0).all()
        for thread in pushing:
            thread.join(WAIT_S)
        assert (sess.run(v) == 4).all()
        del lease


@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
def test_what_a_call_brought_is_counted_until_the_call_has_ended(kind):
    """Apart for the two kinds of session: those that have a master here wait for the others."""
    elements = MIB
    with ps.device("/job:ps/task:0"):
        v = ps.Variable(ps.zeros([elements]), name="v")
        fed = ps.placeholder(ps.float32, [elements])
        push = v.assign_add(fed).op
    with server_here() as here:
        cluster = ps.train.ClusterSpec({"ps": [here.address]})
        target = cluster if kind == "planned here" else f"grpc://{here.address}"
        with ps.Session(target) as sess:
            sess.run(v.initializer)
            held = here.host.store.find("v")
            assert held is not None
            values = np.ones(elements, np.float32)
            with Update(Ref(held)):
                pushing = in_thread(lambda: sess.run(push, {fed: values}))
                until(lambda: held._turn.waiting_count == 1)
                rooms = here.host.stage_room, here.host.step_room
                used = [room.used_bytes for room in rooms]
                assert used == ([4 * MIB, 0] if kind == "planned here" else [0, 4 * MIB])
            pushing.join(WAIT_S)
            until(lambda: here.host.inflight_bytes == 0)
            assert (sess.run(v) == 1).all()


@pytest.fixture
def no_collector():
    """Nothing is freed but what nobody holds."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
@pytest.mark.parametrize("how", ["fails", "is late"])
def test_a_push_that_fails_holds_its_room_no_longer(no_collector, kind, how):
    elements = MIB
    with ps.device("/job:ps/task:0"):
        v = ps.Variable(ps.zeros([elements]), name="v")
        fed = ps.placeholder(ps.float32, [elements])
        index = ps.placeholder(ps.int32, [])
        push = v.assign_add(fed + ps.gather(fed, index)).op
    values = np.ones(elements, np.float32)
    with server_here() as here:
        cluster = ps.train.ClusterSpec({"ps": [here.address]})
        target = cluster if kind == "planned here" else f"grpc://{here.address}"
        with ps.Session(target) as sess:
            sess.run(v.initializer)
            if how == "fails":
                with pytest.raises(ps.errors.InvalidArgumentError):
                    sess.run(push, {fed: values, index: -1})
            else:
                held = here.host.store.find("v")
                assert held is not None
                soon = ps.RunOptions(timeout_in_ms=50)
                with Update(Ref(held)), pytest.raises(ps.errors.DeadlineExceededError):
                    sess.run(push, {fed: values, index: 0}, options=soon)
            until(lambda: here.host.inflight_bytes == 0)


def test_no_worker_starves_at_one_variable(tmp_path):
    workers, steps, elements = 4, 240, 2 * MIB
    v = ps.Variable(ps.zeros([elements]), name="v")
    fed = ps.placeholder(ps.float32, [elements])
    train = ps.train.AdamOptimizer(0.01).apply_gradients([(fed, v)])
    done = [0] * workers
    begin = threading.Barrier(workers)

    with server(tmp_path) as process:
        with ps.Session(process.target) as sess:
            sess.run(ps.initialize_all_variables())

        def work(number: int) -> None:
            with ps.Session(process.target, v.graph) as sess:
                buffer = sess.buffer_like(v)
                push = sess.make_callable(train, [fed])
                push(buffer)
                begin.wait(WAIT_S)
                while sum(done) < steps:
                    push(buffer)
                    done[number] += 1

        threads = [in_thread(lambda number=number: work(number)) for number in range(workers)]
        for thread in threads:
            thread.join(WAIT_S)
    assert sum(done) >= steps
    share = steps / workers
    assert all(share / 2 <= count <= share * 2 for count in done), done


FLOODS = """
    import sys
    import threading
    import numpy as np
    import paramserve as ps

    elements, threads, steps = int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    v = ps.Variable(ps.zeros([elements]), name="v")
    fed = ps.placeholder(ps.float32, [elements])
    push = v.assign_add(fed).op
    ones = np.ones(elements, np.float32)
    begin = threading.Barrier(threads + 1)

    def work():
        with ps.Session(sys.argv[1], v.graph) as sess:
            run = sess.make_callable(push, [fed])
            begin.wait()
            for _ in range(steps):
                run(ones)

    working = [threading.Thread(target=work) for _ in range(threads)]
    for thread in working:
        thread.start()
    print("ready", flush=True)
    input()
    begin.wait()
    for thread in working:
        thread.join()
    print("done", flush=True)
"""


@pytest.mark.own_transport
@pytest.mark.timeout(300)
def test_a_flood_of_pushes_is_applied_within_the_memory_that_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "grpc")
    elements, threads, steps = 25 * 1000 * 1000, 6, 2
    size = 4 * elements
    v = ps.Variable(ps.zeros([elements]), name="v")
    arguments = [str(elements), str(threads), str(steps)]
    with server(tmp_path, "--max-inflight-bytes", str(2 * size)) as process:
        pid = process.process.pid
        with (
            ps.Session(process.target) as sess,
            programs(FLOODS, [[process.target, *arguments]] * 2) as clients,
        ):
            sess.run(v.initializer)
            for client in clients:
                assert client.line() == "ready"
            before = psutil.Process(pid).memory_info().rss
            for client in clients:
                client.say("begin")
            for client in clients:
                assert client.line() == "done"
                client.output()
            # What it has room for, a copy of the variable while somebody looks at it, and what
            # gRPC has read ahead on twelve connections. All at once would be twelve messages.
            assert peak_bytes_of(pid) - before < 6 * size
            assert set(np.unique(sess.run(v))) == {2 * threads * steps}


@pytest.mark.own_transport
@pytest.mark.parametrize("transport", ["shm", "grpc"])
def test_pushes_larger_than_all_room_are_applied_one_by_one(tmp_path, monkeypatch, transport):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", transport)
    elements, workers, steps = MIB, 4, 5
    v = ps.Variable(ps.zeros([elements]), name="v")
    fed = ps.placeholder(ps.float32, [elements])
    push = v.assign_add(fed).op
    with (
        server(tmp_path, "--max-inflight-bytes", "1000") as process,
        ps.Session(process.target) as sess,
    ):
        sess.run(v.initializer)

        def work() -> None:
            with ps.Session(process.target, v.graph) as own:
                for _ in range(steps):
                    own.run(push, {fed: np.ones(elements, np.float32)})

        threads = [in_thread(work) for _ in range(workers)]
        for thread in threads:
            thread.join(WAIT_S)
        assert (sess.run(v) == workers * steps).all()


@pytest.mark.own_transport
@pytest.mark.parametrize("kind", ["planned here", "planned by the servers"])
def test_checkpoints_are_taken_while_all_room_is_taken(tmp_path, monkeypatch, kind):
    """Neither a save nor a step over several servers waits for what waits for it."""
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "grpc")
    elements, workers = MIB // 4, 6
    ports = [free_port() for _ in range(2)]
    spec = "ps=" + ",".join(f"127.0.0.1:{port}" for port in ports)
    fed = ps.placeholder(ps.float32, [elements])
    variables = []
    for task in range(2):
        with ps.device(f"/job:ps/task:{task}"):
            variables.append(ps.Variable(ps.zeros([elements]), name=f"v{task}"))
    push = ps.group(*[v.assign_add(fed) for v in variables])
    saver = ps.train.Saver(sharded=True)
    options = ["--max-inflight-bytes", "1000", "--cluster", spec]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                server(tmp_path / f"ps{i}", "--job", "ps", "--task", str(i), *options, port=port)
            )
            for i, port in enumerate(ports)
        ]
        cluster = ps.train.ClusterSpec({"ps": [process.address for process in processes]})

        def target(number: int):
            return cluster if kind == "planned here" else processes[number % 2].target

        sess = stack.enter_context(ps.Session(target(0)))
        sess.run(ps.initialize_all_variables())
        enough = threading.Event()
        counts = [0] * workers

        def work(number: int) -> None:
            with ps.Session(target(number), push.graph) as own:
                while not enough.is_set():
                    own.run(push, {fed: np.ones(elements, np.float32)})
                    counts[number] += 1

        threads = [in_thread(lambda number=number: work(number)) for number in range(workers)]
        for step in range(5):
            pushing = saver.save(sess, "model.ckpt", global_step=step, block=False)
            sess.run(push, {fed: np.ones(elements, np.float32)})
            pushing.result(WAIT_S)
        enough.set()
        for thread in threads:
            thread.join(WAIT_S)
        for value in sess.run(variables):
            assert (value == sum(counts) + 5).all()
        saver.restore(sess, saver.last_checkpoints[-1])
        first, second = sess.run(variables)
        assert (first == second).all()
        assert set(np.unique(first)) == {first[0]}
