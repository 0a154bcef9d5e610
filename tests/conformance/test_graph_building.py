"""The same program builds the same graph here and in TensorFlow, and each reads the other's."""

import contextlib
import random
import warnings

import numpy as np
import pytest

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.importer import import_graph_def
from paramserve._framework.meta_graph import create_meta_graph_def, import_meta_graph_def
from paramserve._framework.op_list import as_op_def
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.opdefs import all_ops
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import meta_graph_pb2, node_def_pb2

pytestmark = [pytest.mark.oracle, pytest.mark.slow]


@pytest.fixture(scope="module")
def tf():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tensorflow = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
        return tensorflow.compat.v1


# One program, played twice.


class Ours:
    """The functions that a program of the test calls, as they are here."""

    name_scope = staticmethod(scopes.name_scope)
    device = staticmethod(scopes.device)
    control_dependencies = staticmethod(scopes.control_dependencies)
    colocate_with = staticmethod(scopes.colocate_with)
    graph = Graph

    @staticmethod
    def no_op(name):
        return apply_op("NoOp", name)

    @staticmethod
    def identity(x, name):
        return apply_op("Identity", name, input=x)

    @staticmethod
    def constant(name):
        return convert_to_tensor(1.0, name=name)


class Theirs:
    """The same functions of TensorFlow."""

    def __init__(self, tf):
        self.name_scope = tf.name_scope
        self.device = tf.device
        self.control_dependencies = tf.control_dependencies
        self.graph = tf.Graph
        self._tf = tf

    def colocate_with(self, op, ignore_existing):
        return self._tf.get_default_graph().colocate_with(op, ignore_existing)

    def no_op(self, name):
        return self._tf.raw_ops.NoOp(name=name)

    def identity(self, x, name):
        return self._tf.raw_ops.Identity(input=x, name=name)

    def constant(self, name):
        return self._tf.constant(1.0, name=name or "Const")


NAMES = [None, "a", "A", "a_1", "b", "a/b", "B"]
DEVICES = [None, "/job:ps/task:1", "/cpu:0", "/job:worker", "/task:2/device:GPU:3", ""]


def play(api, seed):
    """Builds a random program; the same calls in the same order for the same seed."""
    choices = random.Random(seed)
    trace, entered, ops, tensors = [], [], [], []

    def element():
        return choices.choice(ops) if ops else None

    def block(depth):
        for _ in range(choices.randint(1, 5)):
            kind = choices.randrange(9)
            if kind < 2:
                op = api.no_op(choices.choice(NAMES))
                ops.append(op)
            elif kind == 2:
                tensors.append(api.constant(choices.choice(NAMES)))
                ops.append(tensors[-1].op)
            elif kind == 3 and tensors:
                name = choices.choice(NAMES)
                tensors.append(api.identity(choices.choice(tensors), name))
                ops.append(tensors[-1].op)
            elif depth < 4:
                with opened(kind):
                    block(depth + 1)

    @contextlib.contextmanager
    def opened(kind):
        if kind <= 5:
            name = choices.choice([*NAMES, "", *entered])
            with api.name_scope(name) as scope:
                trace.append(scope)
                if scope:
                    entered.append(scope)
                yield
        elif kind == 6:
            with api.device(choices.choice(DEVICES)):
                yield
        elif kind == 7:
            waited = choices.choice([None, [], [element()], [element(), element()]])
            with api.control_dependencies(waited and [op for op in waited if op is not None]):
                yield
        else:
            op = element()
            with api.colocate_with(op, choices.random() < 0.3 or op is None):
                yield

    with api.graph().as_default() as graph:
        block(0)
    for op in graph.get_operations():
        controls = sorted(other.name for other in op.control_inputs)
        trace.append((op.name, op.device, controls, op.colocation_groups()))
    return trace


def test_a_program_of_nested_blocks_builds_the_same_graph(tf):
    theirs = Theirs(tf)
    longest = 0
    for seed in range(400):
        ours = play(Ours, seed)
        assert ours == play(theirs, seed), f"seed {seed}"
        longest = max(longest, len(ours))
    assert longest > 50


# Each reads what the other wrote.


@pytest.fixture
def written_here():
    """A graph of ours with what a message can say: types, lists, strings, devices, waiting."""
    with Graph().as_default() as graph:
        x = apply_op("Placeholder", "x", dtype="float32", shape=[None, 2])
        with graph.device("/job:ps/task:1"):
            v = apply_op("VariableV2", "v", shape=[2], dtype="float32", container="c")
        init = apply_op("Assign", "v/Assign", ref=v, value=[1.0, 2.0])
        with graph.colocate_with(v):
            read = apply_op("Identity", "v/read", input=v)
        with graph.control_dependencies([init]), graph.name_scope("body"):
            parts = apply_op("Split", split_dim=1, value=x, num_split=2)
            total = apply_op("Add", x=apply_op("ConcatV2", values=parts, axis=1), y=read)
        apply_op("Const", "texts", value=np.array([b"a", b"\xff"], object), dtype="string")
        apply_op("Squeeze", "squeezed", input=total, squeeze_dims=[])
        apply_op("Assert", "check", condition=True, data=[total, "text", 3])
    return graph


def _shape(tensor):
    return TensorShape(None if tensor.shape.ndims is None else tensor.shape.as_list())


def test_tensorflow_imports_a_graph_of_ours_and_gives_it_back(tf, written_here):
    message = written_here.as_graph_def(add_shapes=True)
    theirs = tf.GraphDef.FromString(message.SerializeToString())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(theirs, name="")
    for op in written_here.get_operations():
        other = graph.get_operation_by_name(op.name)
        assert [t.name for t in other.inputs] == [t.name for t in op.inputs]
        assert [o.name for o in other.control_inputs] == [o.name for o in op.control_inputs]
        assert other.device == op.device
        for tensor, twin in zip(op.outputs, other.outputs, strict=True):
            assert twin.dtype.name == tensor.dtype.name
            assert _shape(twin).is_compatible_with(tensor.shape)
    with Graph().as_default() as again:
        import_graph_def(graph.as_graph_def(add_shapes=True), name="")
    ours = {node.name: node for node in written_here.as_graph_def().node}
    assert {node.name: node for node in again.as_graph_def().node} == ours


def test_a_graph_of_tensorflows_gives_its_values_here(tf):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        gathered = tf.gather(x, [0, 2, 1, 1], axis=1)
        hidden = tf.maximum(tf.add(gathered, [1.0, -1, 0, 2]), 0.0)
        norm = tf.reduce_sum(tf.square(hidden), axis=[1], keepdims=True)
        y = tf.identity(hidden / tf.sqrt(norm), name="y")
        tf.reshape(y, [tf.shape(x)[0], 2, 2], name="z")
    value = np.array([[1.0, 2, 3], [-1, 0, 1]], np.float32)
    with tf.Session(graph=graph) as session:
        expected = session.run("z:0", {"x:0": value})
    with Graph().as_default() as ours:
        import_graph_def(graph.as_graph_def(), name="")
    assert ours.get_tensor_by_name("z:0").shape == TensorShape([None, 2, 2])
    nodes = [node for node in ours.as_graph_def().node if node.name != "x"]
    program = Program(nodes, received=["x:0"], returned=["z:0"])
    (found,) = program.run(StepContext(VariableStore(), RandomStreams(0)), [value], {})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_tensorflow_imports_a_meta_graph_of_ours(tf, written_here):
    written_here.add_to_collection("tensors", written_here.get_tensor_by_name("x:0"))
    written_here.add_to_collection("ops", written_here.get_operation_by_name("check"))
    for name, value in (("ints", 3), ("floats", 0.5), ("texts", "text")):
        written_here.add_to_collection(name, value)
    content = create_meta_graph_def(written_here).SerializeToString()
    with tf.Graph().as_default() as graph:
        tf.train.import_meta_graph(tf.MetaGraphDef.FromString(content))
    assert [t.name for t in graph.get_collection("tensors")] == ["x:0"]
    assert [op.name for op in graph.get_collection("ops")] == ["check"]
    assert graph.get_collection("ints") == [3]
    assert graph.get_collection("floats") == [0.5]
    assert graph.get_collection("texts") == [b"text"]


def test_a_meta_graph_of_tensorflows_is_imported(tf):
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [2], name="x")
        y = tf.matmul([x], tf.ones([2, 3]), name="y")
        graph.add_to_collection("outputs", y)
        graph.add_to_collection("steps", 7)
        content = tf.train.export_meta_graph(graph=graph).SerializeToString()
    with Graph().as_default() as ours:
        import_meta_graph_def(meta_graph_pb2.MetaGraphDef.FromString(content))
    assert ours.get_collection("outputs") == [ours.get_tensor_by_name("y:0")]
    assert ours.get_collection("steps") == [7]
    assert ours.get_tensor_by_name("y:0").shape == TensorShape([1, 3])


def test_a_message_of_tensorflows_class_is_taken_as_it_is(tf):
    message = tf.GraphDef()
    message.node.add(name="a", op="NoOp")
    with Graph().as_default() as graph:
        import_graph_def(message, name="")
    assert [op.name for op in graph.get_operations()] == ["a"]
    assert graph.as_graph_def().node[0] == node_def_pb2.NodeDef(name="a", op="NoOp")


# What ops are called, take and give.


def test_signatures_are_tensorflows(tf):
    from tensorflow.python.framework import op_def_registry

    def args(listed):
        return [(a.type, a.type_attr, a.number_attr, a.type_list_attr, a.is_ref) for a in listed]

    def signature(op):
        attrs = {(attr.name, attr.type) for attr in op.attr}
        return attrs, args(op.input_arg), args(op.output_arg)

    compared = 0
    for name, definition in all_ops().items():
        theirs = op_def_registry.get(name)
        if theirs is not None:
            assert signature(as_op_def(definition)) == signature(theirs), name
            compared += 1
    assert compared > 200
