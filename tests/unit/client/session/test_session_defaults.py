"""Default sessions, and the end of a session."""

import threading

import pytest

import paramserve as ps


def test_in_its_block_a_session_and_its_graph_are_the_defaults():
    other = ps.Graph()
    with ps.Session(graph=other) as sess:
        assert ps.get_default_session() is sess
        assert ps.get_default_graph() is other
        assert ps.constant(3).eval() == 3
        ps.no_op().run()
    assert ps.get_default_session() is None
    assert ps.get_default_graph() is not other


def test_as_default_leaves_the_session_open(graph):
    a = ps.constant(3)
    sess = ps.Session()
    for _ in range(2):
        with sess.as_default() as entered:
            assert entered is sess
            assert a.eval() == 3
    assert a.eval(session=sess) == 3
    sess.close()


def test_the_innermost_session_is_the_default():
    a = ps.placeholder(ps.int32, [])
    with ps.Session() as outer:
        with ps.Session().as_default() as inner:
            assert ps.get_default_session() is inner
            assert a.eval({a: 4}) == 4
        inner.close()
        assert ps.get_default_session() is outer


def test_a_thread_has_no_default_session_of_another():
    found = []
    with ps.Session():
        thread = threading.Thread(target=lambda: found.append(ps.get_default_session()))
        thread.start()
        thread.join()
    assert found == [None]


def test_eval_without_a_session_or_with_one_of_another_graph_says_so():
    a = ps.constant(3)
    with pytest.raises(ValueError, match="No default session"):
        a.eval()
    with ps.Session(graph=ps.Graph()) as other:
        with pytest.raises(ValueError, match="different from the session's graph"):
            a.eval()
        with pytest.raises(ValueError, match="different from the session's graph"):
            a.op.run(session=other)


def test_a_session_is_entered_once():
    with (
        ps.Session() as sess,
        pytest.raises(RuntimeError, match=r"not re-entrant\. Use `Session.as_default"),
    ):
        sess.__enter__()


def test_a_closed_session_refuses_everything():
    a = ps.placeholder(ps.float32, [])
    sess = ps.Session()
    handle = sess.partial_run_setup([a], [a])
    sess.close()
    sess.close()
    for use in (
        lambda: sess.run(a, {a: 1.0}),
        lambda: sess.make_callable(a),
        lambda: sess.partial_run_setup([a], [a]),
        lambda: sess.partial_run(handle, a, {a: 1.0}),
        lambda: sess._synchronized_master(),
        lambda: sess.__enter__(),
    ):
        with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
            use()
    assert ps.get_default_session() is None


def test_the_blocks_error_is_the_one_that_is_seen(monkeypatch):
    def fail():
        raise ps.errors.UnavailableError(None, None, "no answer to close")

    sess = ps.Session()
    monkeypatch.setattr(sess._master, "close", fail)
    with pytest.raises(KeyError, match="mine"), sess:
        raise KeyError("mine")
    again = ps.Session()
    monkeypatch.setattr(again._master, "close", fail)
    with pytest.raises(ps.errors.UnavailableError), again:
        pass


def test_a_session_knows_its_graph_and_target(graph):
    ps.constant(1, name="a")
    with ps.Session() as sess:
        assert sess.graph is graph
        assert sess.sess_str == ""
        assert sess.graph_def == graph.as_graph_def()


def test_an_interactive_session_is_the_default_until_it_is_closed():
    a = ps.constant(3)
    sess = ps.InteractiveSession()
    assert a.eval() == 3
    sess.close()
    assert ps.get_default_session() is None


def test_an_interactive_session_with_a_graph_makes_that_the_default(graph):
    other = ps.Graph()
    sess = ps.InteractiveSession(graph=other)
    assert ps.get_default_graph() is other
    sess.close()
    assert ps.get_default_graph() is graph


def test_interactive_sessions_may_be_closed_in_any_order():
    one, two = ps.InteractiveSession(), ps.InteractiveSession()
    one.close()
    assert ps.get_default_session() is two
    two.close()
    assert ps.get_default_session() is None
