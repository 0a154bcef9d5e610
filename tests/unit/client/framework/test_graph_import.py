"""Graphs as messages: what is exported, and what is imported, from anyone."""

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.importer import import_graph_def
from paramserve._framework.scopes import control_dependencies
from paramserve_core.errors import NotFoundError, OpError
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import attr_value_pb2, graph_pb2, node_def_pb2, op_def_pb2, types_pb2
from strange_graphs import strange_graph


@pytest.fixture
def graph():
    with Graph().as_default() as graph:
        yield graph


@pytest.fixture
def source():
    """A graph with inputs, outputs beyond the first, waiting, devices and colocation."""
    graph = Graph()
    with graph.as_default(), graph.device("/job:ps"):
        x = apply_op("Placeholder", "x", dtype="float32", shape=[2, None])
        ready = apply_op("NoOp", "ready")
        parts = apply_op("Split", "parts", split_dim=0, value=x, num_split=2)
        one = convert_to_tensor(1.0, name="one")
        with control_dependencies([ready]), graph.colocate_with(x):
            apply_op("Add", "total", x=parts[1], y=one)
        with graph.gradient_override_map({"Neg": "Mine"}):
            apply_op("Neg", "negative", x=x)
    return graph


def parse(text):
    return text_format.Parse(text, graph_pb2.GraphDef())


def float_node(name, *inputs, op="Identity", key="T"):
    listed = " ".join(f'input: "{i}"' for i in inputs)
    return (
        f'node {{ name: "{name}" op: "{op}" {listed} '
        f'attr {{ key: "{key}" value {{ type: DT_FLOAT }} }} }}'
    )


PLACEHOLDER = float_node("x", op="Placeholder", key="dtype")


def names(graph):
    return [op.name for op in graph.get_operations()]


# Export.


def test_shapes_are_exported_where_they_are_asked_for(source):
    def shapes(message):
        node = next(n for n in message.node if n.name == "parts")
        return [TensorShape(s) for s in node.attr["_output_shapes"].list.shape]

    assert shapes(source.as_graph_def(add_shapes=True)) == [TensorShape([1, None])] * 2
    assert shapes(source.as_graph_def()) == []


def test_a_graph_that_no_message_can_hold_is_refused(graph, monkeypatch):
    apply_op("Const", value=np.zeros(10), dtype="float64")
    apply_op("Const", value=np.zeros(10), dtype="float64")
    monkeypatch.setattr("paramserve._framework.graph.MAX_PROTO_BYTES", 100)
    with pytest.raises(ValueError, match=r"cannot be larger than 2GB: .* take 160 bytes"):
        graph.as_graph_def()
    assert len(graph.as_graph_def(from_version=1).node) == 1


# Import.


def test_what_was_exported_is_imported_the_same(source, graph):
    exported = source.as_graph_def(add_shapes=True)
    assert import_graph_def(exported, name="") is None
    assert graph.as_graph_def(add_shapes=True) == exported
    assert names(graph) == names(source)
    total = graph.get_operation_by_name("total")
    assert total.colocation_groups() == [b"loc:@x"]


def test_names_get_a_scope_of_their_own(source, graph):
    import_graph_def(source.as_graph_def())
    total = graph.get_operation_by_name("import/total")
    assert [t.name for t in total.inputs] == ["import/parts:1", "import/one:0"]
    assert [op.name for op in total.control_inputs] == ["import/ready"]
    assert total.colocation_groups() == [b"loc:@import/x"]
    import_graph_def(source.as_graph_def())
    assert graph.get_operation_by_name("import_1/total").graph is graph
    with graph.name_scope("outer"):
        import_graph_def(source.as_graph_def(), name="mine")
    assert graph.get_operation_by_name("outer/mine/total").graph is graph


def test_elements_are_answered_by_their_old_names(source, graph):
    op, tensor = import_graph_def(source.as_graph_def(), return_elements=["parts", "parts:1"])
    assert (op.name, tensor.name) == ("import/parts", "import/parts:1")
    assert import_graph_def(source.as_graph_def(), return_elements=[]) == []


@pytest.mark.parametrize("key", ["x", "x:0"])
def test_an_input_is_replaced(source, graph, key):
    mine = apply_op("Placeholder", "mine", dtype="float32", shape=[2, 7])
    (parts, x) = import_graph_def(
        source.as_graph_def(), input_map={key: mine}, return_elements=["parts:0", "x:0"]
    )
    assert parts.op.inputs[1] is mine
    assert x is mine
    assert parts.shape == TensorShape([1, 7])


def test_a_value_is_replaced_by_a_constant_in_the_scope(graph):
    (y,) = import_graph_def(
        parse(PLACEHOLDER + float_node("y", "x")), input_map={"x": 5.0}, return_elements=["y:0"]
    )
    assert y.op.inputs[0].name == "import/_inputs/Const:0"
    with pytest.raises(ValueError, match="needs a non-empty `name`"):
        import_graph_def(parse(PLACEHOLDER), input_map={"x": 5.0}, name="")


def test_what_a_node_waits_for_is_replaced(source, graph):
    mine = convert_to_tensor(1.0, name="mine")
    (total,) = import_graph_def(
        source.as_graph_def(), input_map={"^ready": mine}, return_elements=["total"]
    )
    assert total.control_inputs == [mine.op]


def test_an_input_that_the_message_lacks_can_be_given(graph):
    mine = convert_to_tensor(1.0)
    (y,) = import_graph_def(
        parse(float_node("y", "gone:3")), input_map={"gone:3": mine}, return_elements=["y"]
    )
    assert y.inputs == (mine,)


def test_nodes_may_come_in_any_order(source, graph):
    message = source.as_graph_def()
    backwards = graph_pb2.GraphDef(node=reversed(message.node))
    import_graph_def(backwards, name="")
    by_name = {node.name: node for node in graph.as_graph_def().node}
    assert by_name == {node.name: node for node in message.node}


def test_a_node_goes_where_what_it_is_placed_with_goes(graph):
    message = parse(
        'node { name: "a" op: "NoOp" attr { key: "_class" value { list { s: "loc:@b" } } } }'
        'node { name: "b" op: "NoOp" device: "/cpu:0" }'
    )
    with graph.device("/job:ps"):
        import_graph_def(message, name="")
    assert [op.device for op in graph.get_operations()] == ["/job:ps/device:CPU:0"] * 2


def test_a_node_that_is_placed_with_a_node_of_no_place_keeps_its_own(graph):
    message = parse(
        'node { name: "b" op: "NoOp" } node { name: "a" op: "NoOp" device: "/cpu:0" '
        'attr { key: "_class" value { list { s: "loc:@b" } } } }'
    )
    import_graph_def(message, name="")
    assert [op.device for op in graph.get_operations()] == ["", "/device:CPU:0"]


def test_blocks_around_apply_to_what_is_imported(graph):
    first = apply_op("NoOp", "first")
    with control_dependencies([first]):
        import_graph_def(parse(PLACEHOLDER + float_node("y", "x")), name="")
    assert graph.get_operation_by_name("x").control_inputs == [first]
    assert graph.get_operation_by_name("y").control_inputs == []


def test_recorded_shapes_add_to_what_is_inferred(graph):
    message = parse(PLACEHOLDER + float_node("y", "x"))
    message.node[1].attr["_output_shapes"].list.shape.append(TensorShape([2, None]).as_proto())
    (y,) = import_graph_def(message, return_elements=["y:0"])
    assert y.shape == TensorShape([2, None])
    assert "_output_shapes" not in y.op.node_def.attr


def test_what_a_newer_writer_would_fill_in_is_passed_over(graph):
    message = parse(PLACEHOLDER)
    message.node[0].attr["future"].b = False
    producer = op_def_pb2.OpList(op=[op_def_pb2.OpDef(name="Placeholder")])
    future = producer.op[0].attr.add(name="future", type="bool")
    with pytest.raises(ValueError, match="Placeholder has no attribute 'future'"):
        import_graph_def(message)
    future.default_value.b = True
    with pytest.raises(ValueError, match="Placeholder has no attribute 'future'"):
        import_graph_def(message, producer_op_list=producer)
    future.default_value.b = False
    import_graph_def(message, producer_op_list=producer)
    assert message.node[0].attr["future"] == attr_value_pb2.AttrValue(b=False)


def test_a_value_that_stands_for_a_large_tensor_stays_small(graph):
    message = parse('node { name: "c" op: "Const" }')
    message.node[0].attr["dtype"].type = types_pb2.DT_FLOAT
    tensor = message.node[0].attr["value"].tensor
    tensor.dtype = types_pb2.DT_FLOAT
    tensor.float_val.append(7)
    for _ in range(2):
        tensor.tensor_shape.dim.add(size=2**20)
    (c,) = import_graph_def(message, return_elements=["c:0"])
    assert c.shape == TensorShape([2**20, 2**20])
    assert graph.as_graph_def().node[0].attr["value"] == message.node[0].attr["value"]


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (PLACEHOLDER * 2, ValueError, "Node 'x' is not unique"),
        ('node { name: "a" op: "Nope" }', NotFoundError, "Op type not registered 'Nope'"),
        ('node { name: "_a" op: "NoOp" }', ValueError, "'_a' is not a valid node name"),
        ('node { op: "NoOp" }', ValueError, "'' is not a valid node name"),
        (float_node("y", "gone"), ValueError, "Node 'y': Unknown input node 'gone'"),
        (float_node("y", "^gone"), ValueError, "Node 'y': Unknown input node 'gone'"),
        (float_node("y"), ValueError, "Identity takes 1 inputs .*, the node has 0"),
        (float_node("y", "y"), ValueError, "1 nodes are in a cycle"),
        (float_node("a", "b") + float_node("b", "a"), ValueError, "2 nodes are in a cycle"),
        (PLACEHOLDER + float_node("y", "x:3"), ValueError, "no output 3 of node 'x', which has 1"),
        (PLACEHOLDER + float_node("y", "^x", "x"), ValueError, "must come after regular"),
        (PLACEHOLDER + float_node("y", "x:a"), ValueError, "'x:a' names no tensor"),
        (
            'node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_INT32 } } }'
            + float_node("y", "x"),
            ValueError,
            "was passed int32 from import/x:0, incompatible with expected float32",
        ),
        ('node { name: "y" op: "Identity" }', ValueError, "attribute 'T' of op Identity is miss"),
        ('node { name: "a" op: "NoOp" device: "/nonsense" }', ValueError, "Node 'a': .*/nonsense"),
        (
            'node { name: "a" op: "NoOp" attr { key: "_class" value { list { s: "loc:@b" } } } }',
            ValueError,
            "Node 'a' expects to be colocated with unknown node 'b'",
        ),
        (
            'node { name: "a" op: "NoOp" attr { key: "_output_shapes" value { i: 3 } } }',
            ValueError,
            "'_output_shapes' is no list of shapes",
        ),
    ],
)
def test_a_malformed_graph_is_refused_and_nothing_is_added(graph, text, error, match):
    mine = convert_to_tensor(1.0, name="mine")
    with pytest.raises(error, match=match):
        import_graph_def(parse(text))
    assert names(graph) == ["mine"]
    assert mine.consumers() == []


def test_a_failure_halfway_takes_back_what_was_added(graph):
    mine = convert_to_tensor([[1.0]], name="mine")
    text = PLACEHOLDER + float_node("y", "x") + float_node("z", "y", "x", op="MatMul")
    message = parse(text)
    message.node[0].attr["shape"].shape.CopyFrom(TensorShape([3]).as_proto())
    with pytest.raises(ValueError, match="Node 'z': "):
        import_graph_def(message, input_map={"x": mine, "y": [1.0]})
    assert mine.consumers() == []
    assert [n for n in names(graph) if "_inputs" not in n] == ["mine"]
    with pytest.raises(ValueError, match="Node 'z': "):
        import_graph_def(message, name="")
    assert convert_to_tensor(1.0, name="x").op.name == "x"


def test_an_import_is_one_step_for_whoever_watches_the_graph_grow(graph):
    versions = []

    def watch(op):
        versions.append(graph.version)
        if op.name == "import_1/y":
            raise RuntimeError("in the middle")

    message = parse(PLACEHOLDER + float_node("y", "x"))
    with graph.device(watch):
        import_graph_def(message)
        assert graph.version == 2
        with pytest.raises(RuntimeError, match="in the middle"):
            import_graph_def(message)
    assert versions == [0, 0, 2, 2]
    assert graph.version == 2


def test_a_name_that_is_taken_is_refused(graph):
    convert_to_tensor(1.0, name="x")
    with pytest.raises(ValueError, match="Duplicate node name in graph: 'x'"):
        import_graph_def(parse(PLACEHOLDER), name="")


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"return_elements": ["gone"]}, ValueError, "return node 'gone' not found"),
        ({"return_elements": ["x:1"]}, ValueError, "no output 1 of node 'x'"),
        ({"return_elements": ["^x"]}, ValueError, "is a control input"),
        ({"return_elements": "x"}, TypeError, "must be a list of names"),
        ({"input_map": {"gone": 1.0}}, ValueError, "not found in graph_def: gone:0"),
        ({"input_map": {3: 1.0}}, TypeError, "must map names"),
        ({"input_map": {"x:a": 1.0}}, ValueError, "'x:a' names no tensor"),
    ],
)
def test_names_that_the_message_lacks_are_refused(graph, arguments, error, match):
    with pytest.raises(error, match=match):
        import_graph_def(parse(PLACEHOLDER), **arguments)
    assert "import/x" not in names(graph)


def test_a_replacement_of_another_type_is_refused(graph):
    with pytest.raises(ValueError, match="was passed int32 from mine:0"):
        import_graph_def(
            parse(PLACEHOLDER + float_node("y", "x")),
            input_map={"x": convert_to_tensor(1, name="mine")},
        )


def test_only_a_graph_def_is_imported(graph):
    with pytest.raises(TypeError, match="must be a GraphDef proto, got str"):
        import_graph_def("graph.pbtxt")
    with pytest.raises(TypeError, match="must be a GraphDef proto, got NodeDef"):
        import_graph_def(node_def_pb2.NodeDef())


def test_a_long_chain_is_imported_without_recursion(graph):
    count = 1200
    nodes = [float_node("n0", op="Placeholder", key="dtype")]
    nodes += [float_node(f"n{i}", f"n{i - 1}") for i in range(1, count)]
    import_graph_def(parse("".join(reversed(nodes))))
    assert graph.version == count


# Graphs from strangers.


@pytest.mark.slow
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64))
def test_a_strangers_graph_is_imported_or_refused_and_never_half(seed):
    message = strange_graph(seed)
    with Graph().as_default() as graph:
        before = convert_to_tensor(1.0, name="before").op
        try:
            import_graph_def(message)
        except (ValueError, TypeError, OpError):
            assert graph.get_operations() == [before]
        else:
            assert graph.version == 1 + len(message.node)
            assert len(graph.as_graph_def(add_shapes=True).node) == graph.version


def test_a_stranger_writes_graphs_that_are_imported_and_graphs_that_are_not():
    outcomes = set()
    for seed in range(60):
        with Graph().as_default():
            try:
                import_graph_def(strange_graph(seed))
                outcomes.add("imported")
            except (ValueError, OpError):
                outcomes.add("refused")
    assert outcomes == {"imported", "refused"}
