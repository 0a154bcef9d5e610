"""Pushing from buffers of a session: nothing is copied, nothing tears, nothing is left."""

import gc
import os
import threading

import numpy as np
import pytest

import paramserve as ps
from local_fakes import until
from processes import (
    ProgramProcess,
    foreign_segments_of,
    mapped_segments_of,
    parameter_servers,
    server,
)

pytestmark = [pytest.mark.slow, pytest.mark.own_transport]

MIB = 1 << 20
ELEMENTS = 2 * MIB


@pytest.fixture
def process(tmp_path, monkeypatch):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", "shm")
    with ps.Graph().as_default(), server(tmp_path) as process:
        yield process


def cluster_of(*addresses: str) -> ps.train.ClusterSpec:
    return ps.train.ClusterSpec({"ps": list(addresses)})


@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
@pytest.mark.parametrize("transport", ["shm", "grpc"])
def test_what_is_written_after_a_step_is_not_in_its_update(tmp_path, monkeypatch, kind, transport):
    monkeypatch.setenv("PARAMSERVE_TRANSPORT", transport)
    with ps.Graph().as_default(), parameter_servers(tmp_path, 2) as processes:
        fed = ps.placeholder(ps.float32, [ELEMENTS])
        variables, pushes = [], []
        for task in range(2):
            with ps.device(f"/job:ps/task:{task}"):
                v = ps.Variable(ps.zeros([ELEMENTS]), name=f"v{task}")
                variables.append(v)
                optimizer = ps.train.GradientDescentOptimizer(1.0)
                pushes.append(optimizer.apply_gradients([(fed, v)]))
        cluster = cluster_of(*[process.address for process in processes])
        if kind == "planned by the server":
            pushes, variables = pushes[:1], variables[:1]
        target = cluster if kind == "planned here" else processes[0].target
        with ps.Session(target) as sess:
            sess.run([v.initializer for v in variables])
            buffer = sess.buffer_like(fed)
            for n in range(1, 21):
                buffer.fill(n)
                sess.run(pushes, {fed: buffer})
                buffer.fill(np.nan)
            for value in sess.run(variables):
                assert (value == -n * (n + 1) // 2).all()


@pytest.mark.parametrize("kind", ["planned here", "planned by the server"])
def test_a_buffer_is_mapped_once_and_no_other_memory_is_needed(process, kind):
    pid = process.process.pid
    with ps.device("/job:ps/task:0"):
        fed = ps.placeholder(ps.float32, [ELEMENTS])
        v = ps.Variable(ps.zeros([ELEMENTS]), name="v")
        push = v.assign_add(fed).op
    with ps.Session(cluster_of(process.address) if kind == "planned here" else process.target) as s:
        s.run(v.initializer)
        buffer = s.buffer([2, ELEMENTS])
        buffer.fill(1)
        s.run(push, {fed: buffer[0]})
        here, there = mapped_segments_of(os.getpid()), mapped_segments_of(pid)
        for n in range(20):
            s.run(push, {fed: buffer[n % 2]})
        assert mapped_segments_of(os.getpid()) == here
        assert mapped_segments_of(pid) == there
        assert (s.run(v) == 21).all()


def test_nothing_keeps_a_buffer_but_the_program(process):
    """Not as the value of a variable, nor as what an earlier step was answered."""
    fed = ps.placeholder(ps.float32, [ELEMENTS])
    v = ps.Variable(ps.zeros([ELEMENTS]), name="v")
    assign = v.assign(fed)
    with ps.Session(process.target) as sess:
        buffer = sess.buffer_like(v)
        buffer.fill(1)
        sess.run(assign.op, {fed: buffer})
        stored, echoed, reshaped = sess.run([assign, fed, ps.reshape(fed, [-1, 2])], {fed: buffer})
        before = mapped_segments_of(os.getpid())
        buffer.fill(2)
        for value in (stored, echoed, reshaped, sess.run(v)):
            assert (value == 1).all()
        del stored, echoed, reshaped, value, buffer
        sess.run(ps.no_op())
        gc.collect()
        until(lambda: mapped_segments_of(os.getpid()) < before)


def test_a_buffer_outlives_its_session_and_serves_another(process):
    fed = ps.placeholder(ps.float32, [ELEMENTS])
    v = ps.Variable(ps.zeros([ELEMENTS]), name="v")
    push = v.assign_add(fed).op
    with ps.Session(process.target) as sess:
        sess.run(v.initializer)
        buffer = sess.buffer_like(v)
        buffer.fill(1)
        sess.run(push, {fed: buffer})
    buffer.fill(2)
    with ps.Session(process.target) as sess:
        sess.run(push, {fed: buffer})
        assert (sess.run(v) == 3).all()


def test_indices_in_a_buffer_are_checked_as_they_are_used(process):
    """A client that changes them meanwhile has its update refused, or applied to some rows."""
    rows = ps.placeholder(ps.int32, [MIB])
    v = ps.Variable(ps.zeros([10, 2]), name="v")
    w = ps.Variable(ps.ones([1000]), name="w")
    scatter = ps.scatter_add(v, rows, ps.ones([MIB, 2])).op
    with ps.Session(process.target) as sess:
        sess.run(ps.initialize_all_variables())
        buffer = sess.buffer_like(rows)
        done = threading.Event()
        refusals: list[str] = []

        def scribble() -> None:
            while not done.is_set():
                buffer.fill(1 << 30)
                buffer.fill(-1)
                buffer.fill(3)

        scribbling = threading.Thread(target=scribble)
        scribbling.start()
        try:
            for _ in range(20):
                try:
                    sess.run(scatter, {rows: buffer})
                except ps.errors.InvalidArgumentError as error:
                    refusals.append(error.message)
        finally:
            done.set()
            scribbling.join()
        assert all("is not in [0, 10)" in message for message in refusals)
        assert (sess.run(v)[[0, 1, 2, 4, 5, 6, 7, 8, 9]] == 0).all()
        assert (sess.run(w) == 1).all()


SCRIBBLES = """
    import sys
    import threading
    import paramserve as ps

    fed = ps.placeholder(ps.float32, [1 << 22])
    v = ps.Variable(ps.zeros([1 << 22]), name="v")
    push = v.assign(fed).op
    with ps.Session(sys.argv[1]) as sess:
        buffer = sess.buffer_like(v)

        def scribble():
            while True:
                for n in (1, 2, 3):
                    buffer.fill(n)

        buffer.fill(1)
        threading.Thread(target=scribble, daemon=True).start()
        sess.run(push, {fed: buffer})
        print("pushed", flush=True)
        while True:
            sess.run(push, {fed: buffer})
"""


def test_a_client_that_writes_during_its_steps_and_is_killed_harms_nobody_else(process):
    pid = process.process.pid
    w = ps.Variable(ps.zeros([ELEMENTS]), name="w")
    add = w.assign_add(ps.ones([ELEMENTS])).op
    v = ps.Variable(ps.zeros([1 << 22]), name="v")
    with ps.Session(process.target) as sess:
        sess.run([w.initializer, v.initializer])
        sess.run(v)
        for n in range(1, 4):
            client = ProgramProcess(SCRIBBLES, process.target)
            try:
                assert client.line() == "pushed"
                sess.run(add)
                assert (sess.run(w) == n).all()
                # What it pushed is its own affair, but it is one value like any other.
                assert set(np.unique(sess.run(v))) <= {0, 1, 2, 3}
                first = sess.run(v)
                second = first.copy()
                assert foreign_segments_of(pid) == 1
            finally:
                client.kill()
            assert (first == second).all()
            until(lambda: foreign_segments_of(pid) == 0)
        assert (sess.run(w) == 3).all()
