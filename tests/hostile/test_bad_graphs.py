"""Graphs and steps that make no sense: the right error, and the server goes on serving."""

import numpy as np
import pytest

import paramserve as ps
from loop_graphs import damaged_loop
from paramserve_core.master.connect import connect_master
from paramserve_protos.v1 import graph_pb2
from processes import server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    with server(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(autouse=True)
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


@pytest.fixture(params=["fresh", "old"])
def sess(request, process, graph):
    """A session that has run nothing, or one that has run something well and something badly."""
    with ps.Session(process.target) as sess:
        if request.param == "old":
            assert sess.run(ps.constant(2.0)) == 2
            with pytest.raises(ps.errors.InvalidArgumentError):
                sess.run(ps.identity(ps.placeholder(ps.float32, name="earlier")))
        yield sess
        # Whatever the test did, the session and the server go on.
        assert sess.run(ps.constant(3.0)) == 3
    with ps.Session(process.target) as another:
        assert another.run(ps.constant(4.0)) == 4


def test_an_uninitialized_read_names_the_variable_the_task_and_the_line(sess):
    v = ps.Variable(1.0, name="never_initialized")
    with pytest.raises(ps.errors.FailedPreconditionError) as caught:
        sess.run(v.read_value())
    assert "Attempting to use uninitialized value never_initialized" in str(caught.value)
    assert "task" in str(caught.value)
    assert __file__ in str(caught.value)
    assert caught.value.op is not None


def test_an_unfed_placeholder_is_named(sess):
    x = ps.placeholder(ps.float32, [2], name="x")
    with pytest.raises(ps.errors.InvalidArgumentError, match="placeholder tensor 'x'"):
        sess.run(x + 1.0)


def test_a_fetch_of_another_graph_is_refused(sess):
    ps.constant(0.0)
    with ps.Graph().as_default():
        stranger = ps.constant(1.0)
    with pytest.raises((ValueError, TypeError), match="not an element of this graph"):
        sess.run(stranger)


def test_shapes_that_fit_only_by_declaration_are_refused_when_they_meet(sess):
    a = ps.placeholder(ps.float32)
    b = ps.placeholder(ps.float32)
    product = ps.matmul(a, b)
    with pytest.raises(ps.errors.InvalidArgumentError) as caught:
        sess.run(product, {a: np.ones((2, 3)), b: np.ones((4, 5))})
    assert caught.value.op is product.op


def test_a_shape_that_cannot_be_assigned_leaves_the_variable(sess):
    v = ps.Variable(ps.zeros([2]), name="stays")
    x = ps.placeholder(ps.float32)
    push = ps.assign(v, x)
    sess.run(v.initializer)
    with pytest.raises(ps.errors.InvalidArgumentError, match="shape"):
        sess.run(push, {x: np.ones(3)})
    assert sess.run(v).tolist() == [0, 0]


def test_an_index_out_of_range_leaves_the_variable(sess):
    v = ps.Variable(ps.zeros([2, 2]), name="rows")
    indices = ps.placeholder(ps.int32, [None])
    push = ps.scatter_add(v, indices, ps.ones([2, 2]))
    sess.run(v.initializer)
    with pytest.raises(ps.errors.InvalidArgumentError, match=r"7.*\[0, 2\)"):
        sess.run(push, {indices: [0, 7]})
    assert (sess.run(v) == 0).all()


def test_a_step_that_asks_for_more_memory_than_there_may_be_is_refused(sess):
    shape = ps.placeholder(ps.int32, [None])
    with pytest.raises(ps.errors.ResourceExhaustedError, match="limit"):
        sess.run(ps.fill(shape, 1.0), {shape: [1 << 20, 1 << 20]})


def test_an_op_that_the_server_does_not_know_is_named(process):
    master = connect_master(process.target)
    graph = graph_pb2.GraphDef()
    graph.node.add(name="odd", op="RunAnything")
    with pytest.raises(ps.errors.NotFoundError, match=r"'RunAnything'.*'odd'"):
        master.extend(graph)
    # Nothing of the message was taken, and the session goes on.
    graph.node[0].op = "NoOp"
    master.extend(graph)
    plan = master.prepare([], [], ["odd"])
    assert master.run(plan, []) == []
    master.close()


@pytest.mark.parametrize(
    "node",
    [
        {"name": "", "op": "NoOp"},
        {"name": "a\0b", "op": "NoOp"},
        {"name": "n", "op": "NoOp", "input": ["missing"]},
        {"name": "n", "op": "Identity"},
        {"name": "n", "op": "Add", "input": ["n:1", "n:2"]},
        {"name": "n", "op": "NoOp", "device": "/job:ps/task:99"},
        {"name": "n", "op": "NoOp", "device": "no device"},
    ],
)
def test_malformed_nodes_are_refused(process, node):
    master = connect_master(process.target)

    def run():
        master.extend(graph_pb2.GraphDef(node=[node]))
        master.prepare([], [], ["n"])

    with pytest.raises(ps.errors.InvalidArgumentError):
        run()
    master.close()


@pytest.mark.parametrize("seed", range(0, 60, 20))
def test_damaged_loops_are_refused_or_run_and_the_server_goes_on(process, seed):
    outcomes = set()
    for i in range(seed, seed + 20):
        master = connect_master(process.target)
        try:
            master.extend(damaged_loop(i))
            plan = master.prepare(["exit:0"], [], [])
            master.run(plan, [], timeout_s=0.5)
            outcomes.add("ran")
        except ps.errors.OpError as error:
            outcomes.add(type(error))
        finally:
            master.close()
    assert ps.errors.InvalidArgumentError in outcomes
    assert ps.errors.InternalError not in outcomes
    with ps.Session(process.target) as another:
        assert another.run(ps.constant(4.0)) == 4
