"""What an operation and its tensors say about themselves."""

import gc
import sys
import weakref

import numpy as np
import pytest

from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.default_session import default_sessions
from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.tensor import Tensor
from paramserve_core import dtypes
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import attr_value_pb2, tensor_pb2, tensor_shape_pb2


@pytest.fixture
def graph():
    with Graph().as_default() as graph:
        yield graph


@pytest.fixture
def split(graph):
    return apply_op("Split", "parts", split_dim=1, value=np.ones([2, 6], np.float32), num_split=3)


def placeholder(shape, name="x"):
    return apply_op("Placeholder", name, dtype="float32", shape=shape)


def test_an_operation_describes_itself(graph, split):
    op = split[0].op
    assert (op.name, op.type, op.graph, op.device) == ("parts", "Split", graph, "")
    assert [t.name for t in op.inputs] == ["parts/split_dim:0", "parts/value:0"]
    assert op.outputs == list(split)
    assert op.values() == tuple(split)
    assert op.control_inputs == []
    assert repr(op) == "<paramserve.Operation 'parts' type=Split>"
    assert 'op: "Split"' in str(op)


def test_a_tensor_describes_itself(graph, split):
    second = split[1]
    assert (second.name, second.value_index, second.graph) == ("parts:1", 1, graph)
    assert second.dtype is dtypes.float32
    assert second.shape == second.get_shape() == TensorShape([2, 2])
    assert repr(second) == "<paramserve.Tensor 'parts:1' shape=(2, 2) dtype=float32>"
    assert str(second) == 'Tensor("parts:1", shape=(2, 2), dtype=float32)'
    with graph.device("/job:ps"):
        unknown = placeholder(None)
    assert str(unknown) == 'Tensor("x:0", dtype=float32, device=/job:ps)'


def test_tensors_know_their_consumers(graph, split):
    assert split[0].consumers() == []
    added = apply_op("Add", x=split[0], y=split[0])
    negated = apply_op("Neg", x=split[0])
    assert list(dict.fromkeys(split[0].consumers())) == [added.op, negated.op]


def test_tensors_are_compared_by_identity(graph, split):
    assert len({split[0], split[1], split[0]}) == 2
    assert split[0] == split[0]
    assert split[0] != split[1]


def test_a_node_names_outputs_other_than_the_first(graph, split):
    node = apply_op("Add", "sum", x=split[0], y=split[2]).op.node_def
    assert list(node.input) == ["parts", "parts:2"]


def test_attributes_are_answered_as_messages(graph):
    constant = convert_to_tensor([1.0, 2.0]).op
    assert isinstance(constant.get_attr("value"), tensor_pb2.TensorProto)
    assert constant.get_attr("dtype") is dtypes.float32
    np.testing.assert_array_equal(constant.attrs["value"], [1, 2])
    x = placeholder([None, 3])
    assert isinstance(x.op.get_attr("shape"), tensor_shape_pb2.TensorShapeProto)
    assert x.op.attrs["shape"] == TensorShape([None, 3])
    squeezed = apply_op("Squeeze", input=convert_to_tensor([[1.0]]), squeeze_dims=[0])
    assert squeezed.op.get_attr("squeeze_dims") == [0]


def test_an_attribute_that_is_not_there_says_which_are(graph, split):
    with pytest.raises(ValueError, match="no attr named 'nope'; it has: num_split, T"):
        split[0].op.get_attr("nope")


def test_an_operation_says_its_signature(graph, split):
    definition = split[0].op.op_def
    assert definition.name == "Split"
    assert [arg.name for arg in definition.input_arg] == ["split_dim", "value"]
    assert {attr.name: attr.type for attr in definition.attr} == {"num_split": "int", "T": "type"}


def test_an_operation_knows_the_users_line_that_made_it(graph):
    line = sys._getframe().f_lineno + 1
    op = apply_op("NoOp")
    assert op.created_at == f"{__file__}:{line} in {sys._getframe().f_code.co_name}"
    last = op.traceback[-1]
    assert (last.filename, last.lineno) == (__file__, line)


def test_set_shape_adds_to_what_is_known(graph):
    x = placeholder(None)
    x.set_shape([None, 3])
    x.set_shape([2, None])
    assert x.shape == TensorShape([2, 3])
    with pytest.raises(ValueError, match=r"Shapes \(2, 3\) and \(5, 3\) are not compatible"):
        x.set_shape([5, 3])


def test_a_tensor_has_no_truth_value_and_no_array(graph, split):
    with pytest.raises(TypeError, match="has no truth value"):
        bool(split[0])
    with pytest.raises(TypeError, match="run it in a session"):
        np.asarray(split[0])


@pytest.mark.parametrize("shape", [None, [], [None, 2]])
def test_a_tensor_without_a_static_length_is_not_iterable(graph, shape):
    with pytest.raises(TypeError, match="cannot be iterated over"):
        iter(placeholder(shape))


def test_iterating_gives_the_rows_of_a_tensor(graph):
    rows = list(placeholder([2, 3]))
    assert [row.shape for row in rows] == [TensorShape([3])] * 2


def test_an_operator_is_defined_once():
    class Probe(Tensor):
        pass

    with pytest.raises(ValueError, match="__repr__ of Tensor is defined already"):
        Probe.override_operator("__repr__", lambda self: "")


def test_indexed_slices_are_seen_through_their_rows(graph):
    rows, indices = convert_to_tensor([[1.0]], name="rows"), convert_to_tensor([3])
    slices = IndexedSlices(rows, indices)
    assert (slices.values, slices.indices, slices.dense_shape) == (rows, indices, None)
    assert (slices.name, slices.op, slices.dtype) == ("rows:0", rows.op, dtypes.float32)
    assert (slices.graph, slices.device) == (graph, "")
    assert (-slices).values.op.inputs == (rows,)
    assert (-slices).indices is indices
    assert repr(slices).startswith("<paramserve.IndexedSlices values=<paramserve.Tensor 'rows:0'")


# Running in a session.


class FakeSession:
    def __init__(self, graph):
        self.graph = graph

    def run(self, fetches, feed_dict=None):
        return fetches, feed_dict


def test_eval_and_run_use_the_session_given_or_the_default_one(graph, split):
    session = FakeSession(graph)
    assert split[0].eval({"a": 1}, session) == (split[0], {"a": 1})
    with default_sessions.entered(session):
        assert split[0].eval() == (split[0], None)
        assert split[0].op.run() is None
    with pytest.raises(ValueError, match="No default session is registered"):
        split[0].eval()
    with pytest.raises(ValueError, match="Cannot use the given session to evaluate"):
        split[0].eval(session=FakeSession(Graph()))
    with (
        default_sessions.entered(FakeSession(Graph())),
        pytest.raises(ValueError, match="Cannot use the default session to execute"),
    ):
        split[0].op.run()


# Creating operations without an op function.


def test_create_op_checks_what_it_is_told(graph):
    x = convert_to_tensor(1.0)
    attrs = {"T": attr_value_pb2.AttrValue(type=dtypes.float32.as_datatype_enum)}
    op = graph.create_op("Identity", [x], [dtypes.float32], name="copy", attrs=attrs)
    assert (op.name, op.outputs[0].shape) == ("copy", TensorShape([]))
    with pytest.raises(TypeError, match="gives float32; the caller expects"):
        graph.create_op("Identity", [x], [dtypes.int32], attrs=attrs)
    with pytest.raises(TypeError, match="takes float32; the caller expects"):
        graph.create_op("Identity", [x], [dtypes.float32], [dtypes.int32], attrs=attrs)
    with pytest.raises(TypeError, match="takes 1 inputs, got 0"):
        graph.create_op("Identity", [], [dtypes.float32], attrs=attrs)
    with pytest.raises(TypeError, match=r"must be a Tensor, got 1\.0"):
        graph.create_op("Identity", [1.0], [dtypes.float32], attrs=attrs)
    with pytest.raises(ValueError, match="attribute 'T' of op Identity is missing"):
        graph.create_op("Identity", [x], [dtypes.float32])
    assert graph.version == 2


def test_create_op_can_leave_shapes_and_devices_out(graph):
    attrs = {"dtype": attr_value_pb2.AttrValue(type=dtypes.float32.as_datatype_enum)}
    attrs["shape"] = attr_value_pb2.AttrValue(shape=TensorShape([2]).as_proto())
    with graph.device("/job:ps"):
        op = graph.create_op(
            "Placeholder", [], None, attrs=attrs, compute_shapes=False, compute_device=False
        )
    assert (op.outputs[0].shape.ndims, op.device) == (None, "")


def test_create_op_refuses_an_input_of_another_graph_or_a_value_for_a_reference(graph):
    x = convert_to_tensor(1.0)
    attrs = {"T": attr_value_pb2.AttrValue(type=dtypes.float32.as_datatype_enum)}
    with pytest.raises(ValueError, match="must be from the same graph"):
        Graph().create_op("Identity", [x], [dtypes.float32], attrs=attrs)
    with pytest.raises(TypeError, match="takes float32_ref"):
        graph.create_op("Assign", [x, x], [dtypes.float32], attrs=attrs)


# Memory.


@pytest.mark.slow
def test_a_graph_that_nobody_holds_is_collected():
    graph = Graph()
    with graph.as_default():
        apply_op("Neg", x=1.0)
    gone = weakref.ref(graph)
    del graph
    gc.collect()
    assert gone() is None


def test_a_constant_that_nobody_can_write_to_is_kept_as_it_is(graph):
    array = np.arange(1000, dtype=np.float32)
    array.flags.writeable = False
    assert convert_to_tensor(array).op.attrs["value"] is array
    assert apply_op("Const", value=array, dtype="float32").op.attrs["value"] is array


def test_a_constant_is_not_changed_by_writing_to_the_array_that_it_was_made_of(graph):
    array = np.zeros(3, np.float32)
    constant = convert_to_tensor(array).op
    array[:] = 1
    np.testing.assert_array_equal(constant.attrs["value"], 0)
