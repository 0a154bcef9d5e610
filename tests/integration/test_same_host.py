"""Sessions and servers on one host: what each transport does, and what is left of the killed."""

import contextlib
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

import paramserve as ps
from local_fakes import until
from paramserve_core.transport import local_socket
from processes import ProgramProcess, mapped_segments_of, segments_of, server, sockets_of

pytestmark = [pytest.mark.slow, pytest.mark.own_transport]

MIB = 1 << 20
ELEMENTS = 4 * MIB


@pytest.fixture
def process(tmp_path, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "shm")
    with ps.Graph().as_default(), server(tmp_path) as process:
        yield process


@pytest.mark.parametrize("transport", ["auto", "shm", "grpc"])
def test_every_transport_gives_the_same_results(tmp_path, monkeypatch, transport):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", transport)
    with ps.Graph().as_default(), server(tmp_path) as process:
        fed = ps.placeholder(ps.float32, [ELEMENTS])
        v = ps.Variable(ps.zeros([ELEMENTS]), name="v")
        push = v.assign_sub(fed)
        with ps.Session(process.target) as sess:
            sess.run(v.initializer)
            values = np.arange(ELEMENTS, dtype=np.float32)
            sess.run(push.op, {fed: values})
            first = sess.run(v)
            sess.run(push.op, {fed: values})
            second = sess.run(push, {fed: np.ones(ELEMENTS, np.float32)})
            first[0] = 7
            np.testing.assert_array_equal(first[1:], -values[1:])
            np.testing.assert_array_equal(second, -2 * values - 1)
            np.testing.assert_array_equal(sess.run(v), second)
            assert bool(segments_of(process.process.pid)) == (transport != "grpc")


def test_a_fetch_maps_the_variable_and_copies_nothing(process):
    v = ps.Variable(ps.ones([ELEMENTS]), name="v")
    with ps.Session(process.target) as sess:
        sess.run(v.initializer)
        before = segments_of(process.process.pid), mapped_segments_of(os.getpid())
        fetched = [sess.run(v) for _ in range(5)]
        assert segments_of(process.process.pid) == before[0]
        assert mapped_segments_of(os.getpid()) == before[1] + 5
        fetched[0][:] = 2
        assert all((array == 1).all() for array in fetched[1:])


def test_fetched_arrays_outlive_updates_the_session_and_the_server(process):
    v = ps.Variable(ps.ones([ELEMENTS]), name="v")
    double = v.assign_add(v).op
    with ps.Session(process.target) as sess:
        sess.run(v.initializer)
        fetched = [sess.run(v)]
        for _ in range(3):
            sess.run(double)
            fetched.append(sess.run(v))
        with ps.Session(process.target) as other:
            also = other.run(v)
        assert all((array == 2**n).all() for n, array in enumerate(fetched))
        sess.run(double)
        assert (also == 8).all()
        process.kill()
    assert all((array == 2**n).all() for n, array in enumerate(fetched))


def test_memory_of_fetched_arrays_returns_to_the_server(process):
    v = ps.Variable(ps.ones([ELEMENTS]), name="v")
    add = v.assign_add(v).op
    with ps.Session(process.target) as sess:
        sess.run(v.initializer)
        for _ in range(20):
            fetched = sess.run(v)
            sess.run(add)
        del fetched
        # The variable and the buffer that it had before; perhaps one more, where an update came
        # before the end of a lease.
        assert mapped_segments_of(process.process.pid) <= 3


HOLDS_ARRAYS = """
    import sys
    import numpy as np
    import paramserve as ps

    fed = ps.placeholder(ps.float32, [1 << 22])
    v = ps.Variable(ps.ones([1 << 22]), name="v")
    push = v.assign_add(fed).op
    with ps.Session(sys.argv[1]) as sess:
        if sys.argv[2] == "first":
            sess.run(v.initializer)
        held = [sess.run(v) for _ in range(5)]
        print("holding", flush=True)
        while True:
            sess.run(push, {fed: np.ones(1 << 22, np.float32)})
"""


def test_clients_that_are_killed_leave_no_segments_and_no_connections(process):
    pid = process.process.pid
    before = sockets_of(pid)
    rounds = []
    for role in ("first", "next", "next"):
        client = ProgramProcess(HOLDS_ARRAYS, process.target, role)
        try:
            assert client.line() == "holding"
        finally:
            client.kill()
        until(lambda: sockets_of(pid) == before)
        rounds.append((segments_of(pid), mapped_segments_of(pid)))
    # What the server has of its own; nothing of the dead.
    assert rounds[1] == rounds[2]
    assert all(mapped <= 3 for _, mapped in rounds)


def is_mapped(address: int) -> bool:
    """Whether something of a segment is at an address of this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        bounds, *_ = line.split()
        begin, end = (int(bound, 16) for bound in bounds.split("-"))
        if begin <= address < end:
            return "/memfd:paramserve" in line
    return False


def test_a_server_that_is_killed_leaves_the_client_nothing_but_its_arrays(process):
    v = ps.Variable(ps.ones([ELEMENTS]), name="v")
    fed = ps.placeholder(ps.float32, [ELEMENTS])
    push = v.assign_add(fed).op
    pushed = np.ones(ELEMENTS, np.float32)
    with ps.Session(process.target) as sess:
        sess.run(v.initializer)
        sess.run(push, {fed: pushed})
        fetched = sess.run(v)
        before = sockets_of(os.getpid())
        process.kill()
        until(lambda: sockets_of(os.getpid()) < before)
        assert (fetched == 2).all()
        address = fetched.ctypes.data
        assert is_mapped(address)
        del fetched
        assert not is_mapped(address)


def cut() -> int:
    """Shuts this process's local connections; answers how many."""
    connections = [c for c in list(local_socket._clients) if c._reason is None]
    for connection in connections:
        # First, as whoever ends a connection does: until then the memory is the server's.
        connection._make_own()
        with contextlib.suppress(OSError):
            connection._socket.shutdown(socket.SHUT_RDWR)
    return len(connections)


@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
def test_updates_are_applied_once_however_often_a_local_connection_breaks(process, kind):
    fed = ps.placeholder(ps.float32, [MIB])
    with ps.device("/job:ps/task:0"):
        v = ps.Variable(ps.zeros([MIB]), name="v")
        push = v.assign_add(fed)
    cluster = ps.train.ClusterSpec({"ps": [process.address]})
    cuts: list[int] = []
    fetched: list[np.ndarray] = []
    count = 0
    pause = threading.Event()

    def breaks_connections() -> None:
        while sum(cuts) < 10:
            pause.wait(0.05)  # Time for a new connection to be of use.
            cuts.append(cut())

    with ps.Session(cluster if kind == "planned here" else process.target) as sess:
        sess.run(v.initializer)
        breaking = threading.Thread(target=breaks_connections)
        breaking.start()
        while breaking.is_alive():
            count += 1
            fetched = [*fetched[-2:], sess.run(push, {fed: np.ones(MIB, np.float32)})]
        breaking.join()
        assert (sess.run(v) == count).all()
    last = range(count - len(fetched) + 1, count + 1)
    assert [{float(x) for x in array} for array in fetched] == [{float(n)} for n in last]


def test_threads_that_pull_while_others_push_never_see_half_an_update(process):
    v = ps.Variable(ps.zeros([ELEMENTS]), name="v")
    add = v.assign_add(ps.ones([ELEMENTS])).op
    with ps.Session(process.target) as sess:
        sess.run(v.initializer)
        ended = threading.Event()

        def push() -> None:
            for _ in range(30):
                sess.run(add)
            ended.set()

        pushing = threading.Thread(target=push)
        pushing.start()
        seen = []
        while not ended.is_set():
            fetched = sess.run(v)
            assert (fetched == fetched[0]).all()
            seen.append(float(fetched[0]))
        pushing.join()
        assert seen == sorted(seen)
        assert sess.run(v)[0] == 30


def test_a_server_without_shared_memory_is_used_over_grpc(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "grpc")
    caplog.set_level("INFO", "paramserve_core.transport")
    with ps.Graph().as_default(), server(tmp_path) as process:
        monkeypatch.setenv("PARAMSERVE_TRANSPORT", "auto")
        with ps.Session(process.target) as sess:
            assert sess.run(ps.constant(3.0)) == 3
        told = [r for r in caplog.records if "using gRPC" in r.getMessage()]
        assert len(told) == 1
        monkeypatch.setenv("PARAMSERVE_TRANSPORT", "shm")
        with (
            ps.Session(process.target) as sess,
            pytest.raises(ps.errors.UnimplementedError, match="Method not found"),
        ):
            sess.run(ps.constant(3.0))
