"""The default graph, collections, seeds, versions, finalizing."""

import threading

import pytest

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.collections import GraphKeys
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph, get_default_graph, graph_of, reset_default_graph
from paramserve._framework.seeds import get_seed, set_random_seed


@pytest.fixture
def graph():
    with Graph().as_default() as graph:
        yield graph


def no_op(name=None):
    return apply_op("NoOp", name)


def test_the_innermost_graph_is_the_default():
    outer, inner = Graph(), Graph()
    with outer.as_default() as entered:
        assert entered is outer
        with inner.as_default():
            assert get_default_graph() is inner
        assert get_default_graph() is outer
        assert no_op().graph is outer


def test_resetting_replaces_the_global_graph():
    before = get_default_graph()
    assert get_default_graph() is before
    reset_default_graph()
    assert get_default_graph() is not before
    assert get_default_graph().get_operations() == []


def test_resetting_inside_a_block_is_refused(graph):
    with pytest.raises(AssertionError, match=r"inside a `with graph.as_default\(\)`"):
        reset_default_graph()


def test_another_thread_has_its_own_default_graph_and_blocks(graph):
    found = []
    with graph.name_scope("here"):

        def elsewhere():
            found.append(get_default_graph() is graph)
            with graph.as_default():
                found.append(no_op("op").name)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found == [False, "op"]


def test_graph_of_refuses_tensors_of_two_graphs(graph):
    x = convert_to_tensor(1.0)
    with Graph().as_default():
        y = convert_to_tensor(1.0)
        assert graph_of([1, x, None]) is graph
        assert graph_of([1]) is get_default_graph()
        with pytest.raises(ValueError, match="must be from the same graph"):
            graph_of([x, y])


def test_a_graph_names_its_version_by_its_growth(graph):
    assert graph.version == 0
    no_op()
    no_op()
    assert graph.version == 2
    assert [n.name for n in graph.as_graph_def(from_version=1).node] == ["NoOp_1"]
    assert list(graph.as_graph_def(from_version=2).node) == []
    assert [n.name for n in graph.as_graph_def().node] == ["NoOp", "NoOp_1"]
    assert graph.as_graph_def().versions == graph.graph_def_versions


def test_a_finalized_graph_does_not_grow(graph):
    no_op()
    graph.finalize()
    assert graph.finalized
    for grow in (
        no_op,
        lambda: convert_to_tensor(1),
        lambda: graph.add_to_collection("c", 1),
        lambda: graph.add_to_collections(["c"], 1),
        lambda: graph.clear_collection("c"),
    ):
        with pytest.raises(RuntimeError, match="Graph is finalized and cannot be modified"):
            grow()
    assert graph.version == 1


# Collections.


def test_collections_keep_what_was_added_in_order(graph):
    scopes.add_to_collection("c", 1)
    scopes.add_to_collection("c", 1)
    scopes.add_to_collections(["c", "c", "d"], 2)
    scopes.add_to_collections("e", 3)
    assert scopes.get_collection("c") == [1, 1, 2]
    assert scopes.get_collection("d") == [2]
    assert graph.get_all_collection_keys() == ["c", "d", "e"]
    assert scopes.get_collection("none") == []
    assert "none" not in graph.get_all_collection_keys()


def test_a_copy_is_handed_out_unless_the_list_itself_is_asked_for(graph):
    graph.add_to_collection("c", 1)
    graph.get_collection("c").append(2)
    assert graph.get_collection("c") == [1]
    scopes.get_collection_ref("c").append(2)
    assert graph.get_collection("c") == [1, 2]
    scopes.get_collection_ref("new").append(3)
    assert graph.get_collection("new") == [3]
    graph.clear_collection("c")
    assert graph.get_collection("c") == []


def test_a_scope_selects_items_by_the_beginning_of_their_names(graph):
    with graph.name_scope("layer"):
        inside = no_op("x")
    outside = no_op("x/layer/")
    for item in (inside, outside, "a string"):
        graph.add_to_collection(GraphKeys.UPDATE_OPS, item)
    assert graph.get_collection(GraphKeys.UPDATE_OPS, "layer") == [inside]
    assert graph.get_collection(GraphKeys.UPDATE_OPS, ".*layer") == [inside, outside]


# Feeding and fetching.


def test_feeding_and_fetching_can_be_prevented(graph):
    x = convert_to_tensor(1.0)
    op = no_op()
    assert graph.is_feedable(x)
    assert graph.is_fetchable(x)
    assert graph.is_fetchable(op)
    graph.prevent_feeding(x)
    graph.prevent_fetching(x.op)
    graph.prevent_fetching(op)
    assert not graph.is_feedable(x)
    assert not graph.is_fetchable(x)
    assert not graph.is_fetchable(op)


# Seeds.


def test_without_seeds_there_is_none(graph):
    assert get_seed(None) == (None, None)


def test_an_op_seed_alone_gets_a_fixed_partner(graph):
    assert get_seed(5) == (87654321, 5)
    assert get_seed(0) == (87654321, 0)


def test_a_graph_seed_gives_every_op_its_own(graph):
    set_random_seed(7)
    assert graph.seed == 7
    first = get_seed(None)
    no_op()
    second = get_seed(None)
    assert (first, second) == ((7, 0), (7, 1))
    assert get_seed(5) == (7, 5)


def test_two_zeros_are_no_pair_of_seeds(graph):
    set_random_seed(0)
    assert get_seed(0) == (0, 2**31 - 1)


@pytest.mark.parametrize("seed", [2**31 - 1, 2**40, -1])
def test_any_integer_is_a_seed_that_fits_into_the_op(graph, seed):
    set_random_seed(seed)
    assert all(0 <= s < 2**31 for s in get_seed(seed))
