"""Names of operations and scopes, and finding things by them."""

import pytest

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph


@pytest.fixture
def graph():
    with Graph().as_default() as graph:
        yield graph


def no_op(name=None):
    return apply_op("NoOp", name)


def test_an_operation_is_called_after_its_type_by_default(graph):
    assert [no_op().name, no_op().name, no_op().name] == ["NoOp", "NoOp_1", "NoOp_2"]


def test_names_that_differ_in_case_only_count_as_equal(graph):
    assert [no_op("a").name, no_op("A").name, no_op("a").name] == ["a", "A_1", "a_2"]


def test_a_number_behind_a_name_skips_what_is_taken(graph):
    no_op("a_1")
    assert [no_op("a").name, no_op("a").name, no_op("a").name] == ["a", "a_2", "a_3"]


def test_scopes_nest_and_are_made_unique(graph):
    with graph.name_scope("outer") as outer:
        assert outer == "outer/"
        with graph.name_scope("inner") as inner:
            assert inner == "outer/inner/"
            assert no_op("x").name == "outer/inner/x"
        with graph.name_scope("inner") as inner:
            assert inner == "outer/inner_1/"
    with graph.name_scope("outer") as outer:
        assert outer == "outer_1/"
    assert graph.get_name_scope() == ""


def test_a_scope_that_was_left_is_entered_again_by_its_own_name(graph):
    with graph.name_scope("layer") as scope:
        no_op("x")
    with graph.name_scope("other"), graph.name_scope(scope) as again:
        assert again == "layer/"
        assert no_op("x").name == "layer/x_1"


@pytest.mark.parametrize("none", [None, ""])
def test_no_name_leaves_all_scopes(graph, none):
    with graph.name_scope("outer"):
        with graph.name_scope(none) as scope:
            assert scope == ""
            assert no_op("x").name == "x"
        assert no_op("x").name == "outer/x"


def test_an_operation_may_take_the_name_of_its_scope(graph):
    with graph.name_scope("layer") as scope:
        assert no_op(scope).name == "layer"
    assert no_op("layer").name == "layer_1"


def test_a_full_name_that_is_taken_is_refused(graph):
    with graph.name_scope("layer") as scope:
        no_op(scope)
    with pytest.raises(ValueError, match="Duplicate node name in graph: 'layer'"):
        no_op(scope)
    assert [op.name for op in graph.get_operations()] == ["layer"]


def test_unique_name_can_be_asked_without_taking_it(graph):
    no_op("a")
    assert graph.unique_name("a", mark_as_used=False) == "a_1"
    assert graph.unique_name("a") == "a_1"
    assert graph.unique_name("a") == "a_2"
    with graph.name_scope("s"):
        assert graph.unique_name("a") == "s/a"


@pytest.mark.parametrize("name", ["_x", "a b", "a:0", "^a", "-a", "/", "ä"])
def test_a_malformed_name_is_refused(graph, name):
    with pytest.raises(ValueError, match="is not a valid scope name"):
        no_op(name)
    with pytest.raises(ValueError, match="is not a valid node name"):
        graph.create_op("NoOp", [], [], name=name)
    assert graph.get_operations() == []


def test_inside_a_scope_a_name_may_begin_with_an_underscore(graph):
    with graph.name_scope("s"):
        assert no_op("_x").name == "s/_x"


def test_name_scope_takes_the_first_name_given_and_the_graph_of_the_values():
    graph = Graph()
    with graph.as_default():
        x = convert_to_tensor(1.0)
    with scopes.name_scope(None, "default", [x]) as scope:
        assert scope == "default/"
        assert no_op("op").graph is graph
    with scopes.op_scope([x], "mine", "default") as scope:
        assert scope == "mine/"
    with pytest.raises(ValueError, match="At least one of name"), scopes.name_scope(None, None, []):
        pass


def test_name_scope_refuses_values_of_two_graphs():
    values = []
    for _ in range(2):
        with Graph().as_default():
            values.append(convert_to_tensor(1.0))
    with (
        pytest.raises(ValueError, match="must be from the same graph"),
        scopes.name_scope("s", values=values),
    ):
        pass


# Finding things by name.


@pytest.fixture
def elements(graph):
    op = convert_to_tensor(1.0, name="a").op
    return graph, op, op.outputs[0]


def test_operations_and_tensors_are_found_by_name(elements):
    graph, op, tensor = elements
    assert graph.as_graph_element("a") is op
    assert graph.as_graph_element("a:0") is tensor
    assert graph.get_operation_by_name("a") is op
    assert graph.get_tensor_by_name("a:0") is tensor
    assert graph.as_graph_element(tensor) is tensor
    assert graph.as_graph_element(op) is op


@pytest.mark.parametrize(
    ("name", "kinds", "error", "text"),
    [
        ("zz", {}, KeyError, "refers to an Operation not in the graph"),
        ("zz:0", {}, KeyError, "The operation, 'zz', does not exist in the graph"),
        ("a:1", {}, KeyError, "exists but has 1 outputs"),
        ("a:x", {}, ValueError, "is not a valid one"),
        ("a:-1", {}, ValueError, "is not a valid one"),
        ("a:0:0", {}, ValueError, "is not a valid one"),
        ("a:99999999999", {}, ValueError, "is not a valid one"),
        ("", {}, KeyError, "not in the graph"),
        ("a", {"allow_operation": False}, ValueError, "refers to an Operation, and a Tensor is"),
        ("zz", {"allow_operation": False}, ValueError, "neither an Operation nor a Tensor"),
        ("a:0", {"allow_tensor": False}, ValueError, "appears to refer to a Tensor"),
    ],
)
def test_a_name_of_nothing_says_what_is_wrong_with_it(elements, name, kinds, error, text):
    with pytest.raises(error, match=text):
        elements[0].as_graph_element(name, **kinds)


def test_what_is_no_element_of_the_graph_is_refused(elements):
    graph, op, tensor = elements
    with pytest.raises(TypeError, match="Can not convert a int into a Tensor or Operation"):
        graph.as_graph_element(3)
    with pytest.raises(TypeError, match="Can not convert a Operation into a Tensor"):
        graph.as_graph_element(op, allow_operation=False)
    with pytest.raises(TypeError, match="Can not convert a Tensor into a Operation"):
        graph.as_graph_element(tensor, allow_tensor=False)
    with pytest.raises(ValueError, match="is not an element of this graph"):
        Graph().as_graph_element(tensor)
    with pytest.raises(TypeError, match="Operation names are strings"):
        graph.get_operation_by_name(3)
    with pytest.raises(TypeError, match="Tensor names are strings"):
        graph.get_tensor_by_name(op)


def test_an_object_may_stand_for_an_element(elements):
    graph, _, tensor = elements

    class Stands:
        def _as_graph_element(self):
            return tensor

    assert graph.as_graph_element(Stands()) is tensor
