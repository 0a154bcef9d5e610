"""Steps: what runs, how often, what is sent, what fails and how it is told."""

import threading

import numpy as np
import pytest

import paramserve as ps


def test_each_op_runs_at_most_once_in_a_step(sess):
    counter = ps.Variable(0, name="counter")
    add = counter.assign_add(1)
    sess.run(counter.initializer)
    assert sess.run([add + 10, add + 20, add]) == [11, 21, 1]


def test_only_what_the_fetches_need_runs(sess):
    v = ps.Variable(1, name="v")
    add = v.assign_add(1)
    sess.run(v.initializer)
    sess.run(ps.constant(0))
    assert sess.run(v) == 1
    sess.run(add.op)
    assert sess.run(v) == 2


def test_control_dependencies_order_ops(sess):
    v = ps.Variable(1, name="v")
    with ps.control_dependencies([v.assign_add(10)]):
        read = v.read_value()
    sess.run(v.initializer)
    assert sess.run(read) == 11
    assert sess.run(read) == 21


def test_what_is_run_again_is_not_prepared_again(watched):
    x = ps.placeholder(ps.float32, [], name="x")
    y = x + 1.0
    with ps.Session() as sess:
        for i in range(3):
            assert sess.run([y, {"again": y}], {x: i}) == [i + 1, {"again": i + 1}]
        assert watched[0].calls == ["extend", "prepare", "run", "run", "run"]
        # Other structures and keys of the same names use the same plan.
        assert sess.run(y, {"x:0": 5.0}) == 6.0
        assert sess.run("add:0", {x: 5.0}) == 6.0
        assert watched[0].calls.count("prepare") == 1


def test_a_list_that_is_changed_is_another_fetch(sess):
    fetches = [ps.constant(1)]
    assert sess.run(fetches) == [1]
    fetches.append(ps.constant(2))
    assert sess.run(fetches) == [1, 2]


def test_only_what_is_new_in_the_graph_is_sent(watched):
    a = ps.constant(1, name="a")
    with ps.Session() as sess:
        sess.run(a)
        b = ps.add(a, 1, name="b")
        sess.run(a)
        assert watched[0].nodes == [["a"]]
        assert sess.run(b) == 2
        assert watched[0].nodes == [["a"], ["b/y", "b"]]


def test_a_finalized_graph_still_runs(sess, graph):
    a = ps.constant(1)
    graph.finalize()
    assert sess.run(a) == 1
    with pytest.raises(RuntimeError, match="finalized"):
        ps.constant(2)


def test_an_empty_graph_is_refused():
    with ps.Session(graph=ps.Graph()) as sess:
        with pytest.raises(RuntimeError, match="The Session graph is empty"):
            sess.run("a:0")
        with pytest.raises(RuntimeError, match="The Session graph is empty"):
            sess.partial_run_setup([])


def test_variables_of_a_session_in_process_end_with_it():
    v = ps.Variable(1.0, name="v")
    with ps.Session() as sess:
        sess.run(v.initializer)
    with ps.Session() as sess, pytest.raises(ps.errors.FailedPreconditionError, match="value v"):
        sess.run(v.value())


def test_two_sessions_in_process_share_nothing(graph):
    v = ps.Variable(1.0, name="v")
    with ps.Session() as one, ps.Session() as other:
        one.run(v.initializer)
        other.run(v.initializer)
        one.run(v.assign_add(1.0))
        assert (one.run(v), other.run(v)) == (2.0, 1.0)


def test_an_error_has_the_op_and_the_line_that_made_it(sess):
    v = ps.Variable(ps.zeros([2]), name="v")
    bad = ps.scatter_add(v, [5], [1.0], name="bad")
    sess.run(v.initializer)
    with pytest.raises(ps.errors.InvalidArgumentError, match="5") as info:
        sess.run(bad)
    error = info.value
    assert error.op is bad.op
    assert error.node_def.name == "bad"
    assert error.error_code == ps.errors.INVALID_ARGUMENT
    assert "test_session_run.py" in error.created_at
    assert str(error).count("bad") >= 1
    assert "created at: " in str(error)


def test_a_variable_that_is_fetched_without_a_value_is_named(sess):
    v = ps.Variable(1.0, name="v")
    for fetch in (v, v.value(), v.ref()):
        with pytest.raises(ps.errors.FailedPreconditionError, match="value v") as info:
            sess.run(fetch)
        assert info.value.op.name in ("v", "v/read")
        assert "test_session_run.py" in info.value.created_at


def test_an_error_of_an_op_that_the_graph_does_not_have_is_passed_on(sess, monkeypatch):
    a = ps.constant(1)
    sess.run(a)
    original = ps.errors.AbortedError(
        None, None, "restarted", node_name="elsewhere", task="/job:ps"
    )

    def fail(*args):
        raise original

    monkeypatch.setattr(sess._master, "run", fail)
    with pytest.raises(ps.errors.AbortedError) as info:
        sess.run(a)
    assert info.value is original


def test_an_error_keeps_its_task_and_cause(sess, monkeypatch):
    a = ps.constant(1, name="a")
    sess.run(a)

    def fail(*args):
        try:
            raise KeyError("why")
        except KeyError as cause:
            raise ps.errors.InternalError(None, None, "m", node_name="a", task="/job:ps") from cause

    monkeypatch.setattr(sess._master, "run", fail)
    with pytest.raises(ps.errors.InternalError) as info:
        sess.run(a)
    assert info.value.task == "/job:ps"
    assert info.value.op is a.op
    assert isinstance(info.value.__cause__, KeyError)


def test_after_an_error_the_session_goes_on(sess):
    v = ps.Variable(1.0, name="v")
    with pytest.raises(ps.errors.FailedPreconditionError):
        sess.run(v.value())
    sess.run(v.initializer)
    assert sess.run(v.value()) == 1.0


def test_a_plan_that_could_not_be_made_is_made_once_it_can(watched, monkeypatch):
    a = ps.constant(1)
    with ps.Session() as sess:
        master = watched[0]

        def refuse(nodes, timeout_s):
            raise ps.errors.UnavailableError(None, None, "no server yet")

        with monkeypatch.context() as patch:
            patch.setattr(master, "extend", refuse)
            with pytest.raises(ps.errors.UnavailableError, match="no server yet"):
                sess.run(a)
        assert sess.run(a) == 1
        assert len(master.nodes[0]) == 1


def test_a_keyboard_interrupt_reaches_the_program_and_the_session_goes_on(sess, monkeypatch):
    a = ps.constant(1)
    sess.run(a)

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sess._master, "run", interrupt)
        with pytest.raises(KeyboardInterrupt):
            sess.run(a)
    assert sess.run(a) == 1


def test_an_interrupt_while_the_graph_is_sent_leaves_the_session_whole(watched, monkeypatch):
    a = ps.constant(1, name="a")
    with ps.Session() as sess:
        master = watched[0]
        send = master.extend

        def send_and_interrupt(nodes, timeout_s):
            send(nodes, timeout_s)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(master, "extend", send_and_interrupt)
            with pytest.raises(KeyboardInterrupt):
                sess.run(a)
        assert sess.run(a + 1) == 2


def test_many_threads_run_and_grow_one_session(sess, graph):
    v = ps.Variable(0, name="v")
    sess.run(v.initializer)
    failures = []

    def work(number):
        try:
            with graph.as_default():
                add = v.assign_add(1)
                for _ in range(20):
                    sess.run(add)
                assert sess.run(ps.constant(number) + 1) == number + 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sess.run(v) == 160


def test_what_is_remembered_of_fetches_is_bounded(sess, monkeypatch):
    from paramserve._session import preparation as module

    monkeypatch.setattr(module, "_MAX_STEPS", 5)
    a = ps.constant(1, name="a")
    for i in range(20):
        assert sess.run({i: a}) == {i: 1}
    assert len(sess._steps) <= 5


class TestMakeCallable:
    def test_it_runs_what_run_would(self, sess):
        x, y = (ps.placeholder(ps.float32, [2], name=name) for name in "xy")
        call = sess.make_callable({"sum": x + y, "op": x.op}, ["x:0", y])
        for i in range(3):
            found = call([1.0, 2.0], np.full(2, i))
            assert found["sum"].tolist() == [1.0 + i, 2.0 + i]
            assert found["op"] is None

    def test_it_needs_no_feeds(self, sess):
        v = ps.Variable(0, name="v")
        sess.run(v.initializer)
        add = sess.make_callable(v.assign_add(1))
        assert [add() for _ in range(3)] == [1, 2, 3]

    def test_it_takes_options_if_asked(self, sess):
        x = ps.placeholder(ps.float32, [])
        call = sess.make_callable(x + 1.0, [x], accept_options=True)
        metadata = ps.RunMetadata()
        options = ps.RunOptions(trace_level=ps.RunOptions.FULL_TRACE)
        assert call(1.0, options=options, run_metadata=metadata) == 2.0
        assert metadata.step_stats.dev_stats
        assert call(2.0) == 3.0

    def test_it_refuses_what_run_would(self, sess):
        x = ps.placeholder(ps.float32, [2], name="x")
        with pytest.raises(TypeError, match="feed_list must be a list or tuple"):
            sess.make_callable(x, x)
        with pytest.raises(ValueError, match="Fetch argument 'nothing:0'"):
            sess.make_callable("nothing:0")
        call = sess.make_callable(x, [x])
        with pytest.raises(TypeError, match="takes 1 values to feed, got 0"):
            call()
        with pytest.raises(ValueError, match="Cannot feed value of shape"):
            call([1.0])
        with pytest.raises(TypeError, match="takes 1 values to feed, got 2"):
            call([1.0, 2.0], 3)

    def test_it_ends_with_its_session(self):
        with ps.Session() as sess:
            call = sess.make_callable(ps.constant(1))
        with pytest.raises(RuntimeError, match="closed Session"):
            call()
