"""Steps that are given up: by a deadline, by Ctrl-C, by closing the session."""

import threading

import pytest

import paramserve as ps
from processes import programs, server

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture(params=["in process", "on a server"])
def target(request):
    if request.param == "in process":
        yield ""
    else:
        with ps.train.Server.create_local_server() as server:
            yield server.target


def long_step():
    """Many seconds of work, in pieces; a step can be given up between any two."""
    value = ps.random_normal([1000, 1000], stddev=0.01)
    for _ in range(1000):
        value = ps.matmul(value, value)
    return value


@pytest.mark.parametrize("how", ["options", "config"])
def test_a_step_that_is_late_is_given_up_and_the_session_goes_on(target, how):
    value, one = long_step(), ps.constant(1.0)
    config = ps.ConfigProto(operation_timeout_in_ms=300) if how == "config" else None
    options = ps.RunOptions(timeout_in_ms=300) if how == "options" else None
    with ps.Session(target, config=config) as sess:
        with pytest.raises(ps.errors.DeadlineExceededError, match=r"within 0\.3 s"):
            sess.run(value, options=options)
        assert sess.run(one) == 1.0


def test_closing_a_session_gives_up_its_steps(target):
    value = long_step()
    sess = ps.Session(target)
    sess.run(ps.constant(1.0))
    failures = []

    def work():
        try:
            sess.run(value)
        except ps.OpError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not sess._steps.get(id(value)) or sess._steps[id(value)].plan is None:
        thread.join(0.01)
    sess.close()
    thread.join()
    assert isinstance(failures[0], ps.errors.CancelledError)


INTERRUPTED = """
    import sys
    import paramserve as ps

    v = ps.Variable(0, name="v")
    value = ps.random_normal([1000, 1000], stddev=0.01)
    for _ in range(1000):
        value = ps.matmul(value, value)
    with ps.control_dependencies([value]):
        add = v.assign_add(1)
    with ps.Session(sys.argv[1]) as sess:
        sess.run(v.initializer)
        for _ in range(9):  # From then on who waits for an answer receives it itself.
            sess.run(v)
        try:
            print("ready", flush=True)
            sess.run(add)
        except KeyboardInterrupt:
            print("interrupted", sess.run(v), flush=True)
"""


@pytest.mark.parametrize("where", ["in process", "on a server"])
def test_ctrl_c_gives_up_the_step_everywhere_and_the_session_goes_on(tmp_path, where):
    def run(target):
        with programs(INTERRUPTED, [[target]]) as (client,):
            assert client.line() == "ready"
            client.interrupt()
            assert client.line() == "interrupted 0"
            client.output()

    if where == "in process":
        run("")
    else:
        with server(tmp_path) as process:
            run(process.target)
