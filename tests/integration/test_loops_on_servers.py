"""Loops and their gradients on servers, and one that never ends."""

import os
import signal
import threading

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
def cluster():
    """Two parameter servers."""
    spec = {"ps": ["localhost:0"]}
    with ps.train.Server(spec) as one, ps.train.Server(spec) as two:
        addresses = [s.target.removeprefix("grpc://") for s in (one, two)]
        yield ps.train.ClusterSpec({"ps": dict(enumerate(addresses))})


def variable_on(task, value):
    with ps.device(f"/job:ps/task:{task}"):
        return ps.Variable(value)


def weighted(n, a, b):
    """n steps of x = x * a + b, from 1."""
    return ps.while_loop(lambda i, x: i < n, lambda i, x: [i + 1, x * a + b], [0, 1.0])[1]


def test_a_loop_and_its_gradient_run_on_a_server(server):
    n = ps.placeholder(ps.int32, [])
    a, b = ps.Variable(2.0), ps.Variable(3.0)
    loop = weighted(n, a, b)
    found = ps.gradients(loop, [a, b])
    with ps.Session(server.target) as sess:
        sess.run(ps.global_variables_initializer())
        assert sess.run([loop, *found], {n: 2}) == [4 + 6 + 3, 2 * 2 + 3, 2 + 1]
        assert sess.run([loop, *found], {n: 0}) == [1, 0, 0]


def test_a_loop_may_read_variables_of_several_servers(cluster):
    n = ps.placeholder(ps.int32, [])
    a, b = variable_on(0, 2.0), variable_on(1, 3.0)
    loop = weighted(n, a, b)
    train = ps.train.GradientDescentOptimizer(0.5).minimize(loop)
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        assert sess.run([loop, *ps.gradients(loop, [a, b])], {n: 2}) == [13, 7, 3]
        sess.run(train, {n: 2})
        assert sess.run([a, b]) == [2 - 3.5, 3 - 1.5]


def test_a_loop_that_updates_a_variable_runs_where_that_is(cluster):
    a, b = variable_on(0, 2.0), variable_on(1, 1.0)

    def body(i):
        with ps.control_dependencies([ps.assign_add(b, a)]):
            return i + ps.cast(b.read_value(), ps.int32)

    loop = ps.while_loop(lambda i: i < 20, body, [0])
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        assert sess.run(loop) == 3 + 5 + 7 + 9
        assert sess.run(b) == 9


def test_a_loop_that_updates_variables_of_two_servers_is_refused(cluster):
    a, b = variable_on(0, 2.0), variable_on(1, 1.0)

    def body(i):
        with ps.control_dependencies([ps.assign_add(a, 1.0), ps.assign_add(b, 1.0)]):
            return i + 1

    loop = ps.while_loop(lambda i: i < 20, body, [0])
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        with pytest.raises(ps.errors.InvalidArgumentError, match="must be on one task"):
            sess.run(loop)
        assert sess.run([a, b]) == [2, 1]


def test_what_leaves_a_loop_may_be_used_elsewhere(cluster):
    a, b = variable_on(0, 2.0), variable_on(1, 3.0)
    with ps.device("/job:ps/task:0"):
        first = weighted(3, a, 1.0)
    with ps.device("/job:ps/task:1"):
        second = weighted(2, first, b)
    update = ps.assign(b, second)
    found = ps.gradients(second, [a, b])
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        # first = 15, second = 15 (15 + 3) + 3; by first: 2 * 15 + 3, by a: 3 a^2 + 2 a + 1
        assert sess.run([second, *found]) == [273, 33 * 17, 16]
        sess.run(update)
        assert sess.run(b) == 273


def test_a_loop_in_a_branch_uses_variables_of_several_servers(cluster):
    a, b = variable_on(0, 2.0), variable_on(1, 3.0)
    pred = ps.placeholder(ps.bool, [])
    result = ps.cond(pred, lambda: weighted(2, a, b), lambda: a - b)
    found = ps.gradients(result, [a, b])
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        assert sess.run([result, *found], {pred: True}) == [13, 7, 3]
        assert sess.run([result, *found], {pred: False}) == [-1, 1, -1]


def test_rows_of_a_table_on_a_server_are_learned_in_a_loop(cluster):
    table = variable_on(1, np.zeros((4, 2), np.float32))

    def body(i, loss):
        row = ps.gather(table, i)
        return [i + 1, loss + ps.reduce_sum(ps.square(row - ps.cast(i, ps.float32))) / 2.0]

    loss = ps.while_loop(lambda i, loss: i < 3, body, [0, 0.0])[1]
    (rows,) = ps.gradients(loss, [table])
    update = ps.scatter_sub(table, rows.indices, rows.values)
    with ps.Session(cluster) as sess:
        sess.run(ps.global_variables_initializer())
        sess.run(update)
        assert sess.run(table).tolist() == [[0, 0], [1, 1], [2, 2], [0, 0]]


def forever():
    return ps.while_loop(lambda i: i >= 0, lambda i: ps.maximum(i + 1, 0) % 1000, [0])


@pytest.mark.parametrize("where", ["here", "server", "cluster"])
def test_a_loop_that_never_ends_ends_at_the_deadline_and_the_server_goes_on(where, server):
    target = {
        "here": "",
        "server": server.target,
        "cluster": ps.train.ClusterSpec({"ps": [server.target.removeprefix("grpc://")]}),
    }[where]
    with ps.device("/job:ps/task:0") if where == "cluster" else ps.device(None):
        loop, one = forever(), ps.constant(1)
    with ps.Session(target) as sess:
        with pytest.raises(ps.errors.DeadlineExceededError):
            sess.run(loop, options=ps.RunOptions(timeout_in_ms=100))
        assert sess.run(one) == 1
    with ps.Session(target) as another:
        assert another.run(one) == 1


def test_closing_a_session_ends_a_loop_that_never_ends(server):
    entered = threading.Event()
    ended = []
    ticks = ps.Variable(0)
    first = ps.assign_add(ticks, 1)
    with ps.control_dependencies([first]):
        loop = forever()

    def run(sess):
        try:
            entered.set()
            sess.run(loop)
        except (ps.errors.OpError, RuntimeError) as error:
            ended.append(error)

    sess = ps.Session(server.target)
    sess.run(ticks.initializer)
    thread = threading.Thread(target=run, args=(sess,))
    with ps.Session(server.target) as other:
        thread.start()
        entered.wait()
        while other.run(ticks.value()) == 0:
            pass
        sess.close()
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert ended
        assert other.run(ticks.value()) == 1


def test_an_interrupt_ends_a_loop_that_never_ends_here():
    entered = threading.Event()

    def body(i):
        (told,) = ps.py_func(lambda: entered.set() or np.int32(0), [], [ps.int32])
        told.set_shape([])
        return told

    def interrupt():
        entered.wait()
        os.kill(os.getpid(), signal.SIGINT)

    loop, one = ps.while_loop(lambda i: i >= 0, body, [0]), ps.constant(1)
    thread = threading.Thread(target=interrupt)
    with ps.Session() as sess:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            sess.run(loop)
        thread.join()
        assert sess.run(one) == 1


def test_an_interrupt_ends_a_loop_that_never_ends_on_a_server(server):
    ticks = ps.Variable(0)
    with ps.control_dependencies([ps.assign_add(ticks, 1)]):
        loop = forever()
    with ps.Session(server.target) as sess, ps.Session(server.target) as other:
        for _ in range(9):  # From then on who waits for an answer receives it itself.
            sess.run(ticks.initializer)

        def interrupt():
            while other.run(ticks.value()) == 0:
                pass
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            sess.run(loop)
        thread.join()
        assert sess.run(ticks.value()) == 1
