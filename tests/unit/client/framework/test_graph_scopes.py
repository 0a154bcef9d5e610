"""What `with` blocks give to the operations that are made in them."""

import pytest

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve_core.devices import DeviceSpec


@pytest.fixture
def graph():
    with Graph().as_default() as graph:
        yield graph


def no_op(name=None):
    return apply_op("NoOp", name)


def identity(tensor, name=None):
    return apply_op("Identity", name, input=tensor)


# Devices.


def test_inner_devices_are_merged_into_outer_ones(graph):
    with scopes.device("/job:ps/task:1"):
        assert no_op().device == "/job:ps/task:1"
        with scopes.device("/cpu:0"):
            assert no_op().device == "/job:ps/task:1/device:CPU:0"
        with scopes.device("/task:2"):
            assert no_op().device == "/job:ps/task:2"
        with scopes.device(DeviceSpec(job="worker")):
            assert no_op().device == "/job:worker/task:1"
    assert no_op().device == ""


def test_no_device_passes_over_the_blocks_around(graph):
    with scopes.device("/job:ps"), scopes.device(None):
        assert no_op().device == ""
        with scopes.device("/cpu:0"):
            assert no_op().device == "/device:CPU:0"


def test_a_device_function_sees_the_operation_and_what_inner_blocks_said(graph):
    seen = []

    def choose(op):
        seen.append((op.type, op.name, op.device))
        return "/job:ps" if op.type == "Const" else op.device

    with scopes.device("/task:3"), scopes.device(choose), scopes.device("/cpu:0"):
        assert no_op("n").device == "/task:3/device:CPU:0"
        assert convert_to_tensor(1, name="c").device == "/job:ps/task:3"
    assert seen == [("NoOp", "n", "/device:CPU:0"), ("Const", "c", "/device:CPU:0")]


@pytest.mark.parametrize("nothing", [None, ""])
def test_a_device_function_may_say_nothing(graph, nothing):
    with scopes.device("/job:ps"), scopes.device(lambda op: nothing):
        assert no_op().device == "/job:ps"


def test_a_device_function_that_fails_leaves_the_graph_as_it_was(graph):
    x = convert_to_tensor(1.0)

    def fail(op):
        raise RuntimeError("no server left")

    with scopes.device(fail), pytest.raises(RuntimeError, match="no server left"):
        identity(x)
    assert len(graph.get_operations()) == 1
    assert x.consumers() == []


def test_what_is_no_device_is_refused(graph):
    with pytest.raises(TypeError, match="a device is a string"), scopes.device(3):
        pass
    with pytest.raises(ValueError, match="/nonsense"), scopes.device("/nonsense"):
        pass
    with scopes.device(lambda op: "/nonsense"), pytest.raises(ValueError, match="/nonsense"):
        no_op()


# Control dependencies.


def names(ops):
    return [op.name for op in ops]


def test_operations_of_the_block_wait(graph):
    a, b = no_op("a"), convert_to_tensor(1.0, name="b")
    with scopes.control_dependencies([a, b, "a", b.op]):
        assert names(no_op().control_inputs) == ["a", "b"]
    assert no_op().control_inputs == []


def test_nested_blocks_add_up_and_none_leaves_them(graph):
    a, b, c = no_op("a"), no_op("b"), no_op("c")
    with scopes.control_dependencies([a]):
        with scopes.control_dependencies([b]):
            assert names(no_op().control_inputs) == ["a", "b"]
            with scopes.control_dependencies(None):
                assert no_op().control_inputs == []
                with scopes.control_dependencies([c]):
                    assert names(no_op().control_inputs) == ["c"]
        assert names(no_op().control_inputs) == ["a"]


def test_an_operation_waits_only_for_what_its_inputs_do_not_wait_for(graph):
    a, x = no_op("a"), convert_to_tensor(1.0, name="x")
    with scopes.control_dependencies([a, x]):
        first = identity(x, "first")
        second = identity(first, "second")
    assert names(first.op.control_inputs) == ["a"]
    assert second.op.control_inputs == []
    assert list(first.op.node_def.input) == ["x", "^a"]


def test_the_rows_of_indexed_slices_are_waited_for(graph):
    x = convert_to_tensor([1.0])
    slices = IndexedSlices(x, convert_to_tensor([0]))
    with scopes.control_dependencies([slices]):
        assert no_op().control_inputs == [x.op]


def test_only_elements_of_the_graph_can_be_waited_for(graph):
    with Graph().as_default():
        other = no_op()
    with pytest.raises(ValueError, match="is not an element of this graph"):
        scopes.control_dependencies([other]).__enter__()
    with pytest.raises(TypeError, match="Can not convert a int"):
        scopes.control_dependencies([3]).__enter__()


# Colocation, containers, gradients.


def test_a_colocated_operation_goes_where_the_other_one_is(graph):
    with scopes.device("/job:ps/task:1"):
        v = convert_to_tensor(1.0, name="v")
    with scopes.device("/job:ps/task:0"), scopes.colocate_with(v):
        op = no_op("op")
        with scopes.device("/cpu:0"):
            assert no_op().device == "/job:ps/task:1"
    assert op.device == "/job:ps/task:1"
    assert op.colocation_groups() == [b"loc:@v"]
    assert op.get_attr("_class") == [b"loc:@v"]
    assert list(op.node_def.attr["_class"].list.s) == [b"loc:@v"]


def test_an_operation_is_in_its_own_group_by_default(graph):
    op = no_op("op")
    assert op.colocation_groups() == [b"loc:@op"]
    assert "_class" not in op.node_def.attr


def test_groups_of_nested_blocks_add_up(graph):
    a, b = no_op("a"), no_op("b")
    with scopes.colocate_with(b):
        c = no_op("c")
        with scopes.colocate_with(a):
            assert no_op().colocation_groups() == [b"loc:@a", b"loc:@b"]
        with scopes.colocate_with(a, ignore_existing=True):
            assert no_op().colocation_groups() == [b"loc:@a"]
        with scopes.colocate_with(None, ignore_existing=True):
            assert no_op("d").colocation_groups() == [b"loc:@d"]
    with scopes.colocate_with(c):
        assert no_op().colocation_groups() == [b"loc:@b"]
    with pytest.raises(ValueError, match="ignore_existing is False"):
        scopes.colocate_with(None).__enter__()


def test_variables_of_the_block_go_into_its_container(graph):
    def variable():
        return apply_op("VariableV2", shape=[2], dtype="float32")

    with scopes.container("experiment") as name:
        assert name == "experiment"
        inside = variable()
        named = apply_op("VariableV2", shape=[2], dtype="float32", container="own")
    assert inside.op.get_attr("container") == b"experiment"
    assert named.op.get_attr("container") == b"own"
    assert variable().op.get_attr("container") == b""


def test_a_gradient_is_overridden_for_the_block(graph):
    x = convert_to_tensor(1.0)
    with graph.gradient_override_map({"Identity": "Mine"}):
        inside = identity(x)
        with graph.gradient_override_map({"Neg": "Other"}):
            both = identity(x), apply_op("Neg", x=x)
    assert inside.op.get_attr("_gradient_op_type") == b"Mine"
    assert [t.op.get_attr("_gradient_op_type") for t in both] == [b"Mine", b"Other"]
    with pytest.raises(ValueError, match="has no attr named '_gradient_op_type'"):
        identity(x).op.get_attr("_gradient_op_type")
    with pytest.raises(TypeError, match="both strings"):
        graph.gradient_override_map({"Identity": 3}).__enter__()


def test_a_block_that_fails_restores_what_was_before(graph):
    a = no_op("a")
    with (
        pytest.raises(RuntimeError, match="in the block"),
        scopes.name_scope("s"),
        scopes.device("/job:ps"),
        scopes.control_dependencies([a]),
        scopes.colocate_with(a),
        scopes.container("c"),
        graph.gradient_override_map({"NoOp": "G"}),
    ):
        raise RuntimeError("in the block")
    op = no_op("op")
    assert (op.name, op.device, op.control_inputs) == ("op", "", [])
    assert op.colocation_groups() == [b"loc:@op"]
    assert op.extra_attrs == {}


# Conditionals.


class Branch:
    """Takes every tensor from outside through an Identity, and counts what is built in it."""

    def __init__(self, graph, pivot):
        self.graph = graph
        self.pivot = pivot
        self.ops = []

    def admit(self, op_type, inputs, control_inputs):
        with self.graph.control_flow(None):
            inside = [t if t.op in self.ops else identity(t, "enter") for t in inputs]
        return inside, [*control_inputs, self.pivot]

    def entered(self, op):
        self.ops.append(op)


def test_a_branch_replaces_what_comes_from_outside(graph):
    x, pivot = convert_to_tensor(1.0, name="x"), no_op("pivot")
    branch = Branch(graph, pivot)
    with graph.control_flow(branch):
        assert graph.current_control_flow is branch
        first = identity(x, "first")
        second = identity(first, "second")
        with scopes.control_dependencies(None):
            outside = no_op("outside")
    assert first.op.inputs[0].op.name == "first/enter"
    assert second.op.inputs[0] is first
    assert names(second.op.control_inputs) == ["pivot"]
    assert [op.name for op in branch.ops] == ["first", "second"]
    assert first.op.control_flow is branch
    assert (outside.control_flow, outside.control_inputs) == (None, [])
    assert graph.current_control_flow is None
    assert [op.name for op in graph.get_operations()][-4:] == [
        "first/enter",
        "first",
        "second",
        "outside",
    ]
