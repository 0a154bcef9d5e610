"""Graphs with loops come in from anyone, whole or not at all."""

import pytest

import paramserve as ps
from loop_graphs import LoopBuilder, damaged_loop


@pytest.fixture
def graph():
    with ps.Graph().as_default() as graph:
        yield graph


def result(tensor):
    with ps.Session(graph=tensor.graph) as session:
        return session.run(tensor)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_a_loop_runs_as_it_did_whatever_order_its_nodes_come_in(graph, is_reversed):
    message = LoopBuilder().whole().graph
    if is_reversed:
        nodes = list(message.node)[::-1]
        del message.node[:]
        message.node.extend(nodes)
    (exit,) = ps.import_graph_def(message, return_elements=["exit:0"])
    assert result(exit) == 5


def test_a_loop_imported_twice_is_two_loops(graph):
    message = LoopBuilder().whole().graph
    first, second = (
        ps.import_graph_def(message, return_elements=["exit:0"], name=name)[0]
        for name in ("a", "b")
    )
    assert result(first + second) == 10
    enters = [op for op in graph.get_operations() if op.type == "Enter"]
    assert {op.get_attr("frame_name") for op in enters} == {b"a/loop", b"b/loop"}


def test_an_exported_loop_is_what_was_imported(graph):
    message = LoopBuilder().whole().graph
    ps.import_graph_def(message, name="")
    assert {node.name: list(node.input) for node in graph.as_graph_def().node} == {
        node.name: list(node.input) for node in message.node
    }


def test_a_tensor_of_the_graph_may_enter_an_imported_loop(graph):
    x = ps.constant(3.0)
    message = LoopBuilder().whole().graph
    (exit,) = ps.import_graph_def(message, {"first": x}, return_elements=["exit:0"])
    assert result(exit) == 5
    (exit,) = ps.import_graph_def(message, {"limit": x}, return_elements=["exit:0"])
    assert result(exit) == 3


def test_the_shape_of_an_imported_loop_variable_is_not_guessed(graph):
    builder = LoopBuilder().whole()
    (exit,) = ps.import_graph_def(builder.graph, return_elements=["exit:0"])
    assert exit.shape.ndims is None


def test_a_while_loop_that_was_exported_runs_and_has_gradients(graph):
    x = ps.placeholder(ps.float32, [], name="x")
    loop = ps.while_loop(lambda i, a: i < 3, lambda i, a: [i + 1, a * x], [0, x])[1]
    ps.identity(loop, name="y")
    with ps.Graph().as_default() as other:
        ps.train.import_meta_graph(ps.train.export_meta_graph(graph=graph))
        x, y = (other.get_tensor_by_name(f"{name}:0") for name in "xy")
        (gradient,) = ps.gradients(y, [x])
        with ps.Session() as session:
            assert session.run([y, gradient], {x: 2.0}) == [16, 32]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("merge", "next", "next"), "Node 'merge': a Merge of a loop begins with what enters it"),
        (("less", "less", "limit_in"), "in a cycle or wait for one.*NextIteration leads to a Mer"),
        (("merge", "enter", "next:1"), "no output 1 of node 'next'"),
        (("next", "less"), "Input 0 of node 'next' was passed bool"),
    ],
)
def test_a_malformed_loop_is_refused_and_nothing_is_added(graph, change, text):
    builder = LoopBuilder().whole()
    builder.replace(*change)
    with pytest.raises(ValueError, match=text):
        ps.import_graph_def(builder.graph)
    assert not graph.get_operations()
    assert graph.version == 0


@pytest.mark.parametrize("seed", range(100))
def test_a_damaged_loop_is_refused_or_gets_gradients_or_says_why_not(graph, seed):
    try:
        ps.import_graph_def(damaged_loop(seed), name="")
    except ValueError:
        assert not graph.get_operations()
        return
    try:
        exit, first = (graph.get_tensor_by_name(name) for name in ("exit:0", "first:0"))
    except (KeyError, ValueError):
        return
    count = len(graph.get_operations())
    try:
        ps.gradients(exit, [first])
    except (LookupError, TypeError, ValueError):
        assert count
