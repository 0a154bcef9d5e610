"""A graph with its collections as one message, and back."""

import logging

import numpy as np
import pytest
from google.protobuf.any_pb2 import Any

from paramserve._framework import meta_graph
from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.meta_graph import (
    create_meta_graph_def,
    import_meta_graph_def,
    register_proto_function,
)
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef
from paramserve_protos.v1.saver_pb2 import SaverDef
from paramserve_protos.v1.variable_pb2 import VariableDef


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(meta_graph, "_PROTO_FUNCTIONS", {})


@pytest.fixture
def graph():
    with Graph().as_default() as graph:
        with graph.device("/job:ps"):
            x = apply_op("Placeholder", "x", dtype="float32", shape=[None, 2])
        graph.add_to_collection("tensors", x)
        graph.add_to_collection("ops", apply_op("Neg", "negative", x=x).op)
        for value in (3, np.int64(4)):
            graph.add_to_collection("ints", value)
        for value in (0.5, 2, np.float32(1.5)):
            graph.add_to_collection("floats", value)
        for value in ("text", b"\xff"):
            graph.add_to_collection("texts", value)
        yield graph


def imported(message, **arguments):
    with Graph().as_default() as graph:
        import_meta_graph_def(message, **arguments)
    return graph


def test_a_graph_returns_with_its_collections(graph):
    message = MetaGraphDef.FromString(create_meta_graph_def().SerializeToString())
    copy = imported(message)
    assert copy.as_graph_def(add_shapes=True) == graph.as_graph_def(add_shapes=True)
    assert copy.get_collection("tensors") == [copy.get_tensor_by_name("x:0")]
    assert copy.get_collection("ops") == [copy.get_operation_by_name("negative")]
    assert copy.get_collection("ints") == [3, 4]
    assert copy.get_collection("floats") == [0.5, 2.0, 1.5]
    assert copy.get_collection("texts") == [b"text", b"\xff"]


def test_the_message_says_shapes_ops_and_saver(graph):
    info = MetaGraphDef.MetaInfoDef(meta_graph_version="v7")
    message = create_meta_graph_def(
        graph, meta_info_def=info, saver_def=SaverDef(restore_op_name="restore")
    )
    node = message.graph_def.node[1]
    assert TensorShape(node.attr["_output_shapes"].list.shape[0]) == TensorShape([None, 2])
    assert [op.name for op in message.meta_info_def.stripped_op_list.op] == ["Neg", "Placeholder"]
    assert message.meta_info_def.meta_graph_version == "v7"
    assert message.saver_def.restore_op_name == "restore"
    assert not create_meta_graph_def(graph).HasField("saver_def")


def test_only_the_collections_asked_for_are_written(graph):
    message = create_meta_graph_def(graph, collection_list=["ints", "none"])
    assert list(message.collection_def) == ["ints"]


def test_devices_are_left_out_where_that_is_asked_for(graph):
    message = create_meta_graph_def(graph)
    assert message.graph_def.node[0].device == "/job:ps"
    assert imported(message).get_operation_by_name("x").device == "/job:ps"
    assert imported(message, clear_devices=True).get_operation_by_name("x").device == ""
    assert message.graph_def.node[0].device == "/job:ps"
    cleared = create_meta_graph_def(graph, clear_devices=True)
    assert {node.device for node in cleared.graph_def.node} == {""}


def test_a_graph_is_imported_into_a_scope(graph):
    message = create_meta_graph_def(graph)
    with Graph().as_default() as copy:
        scopes = [import_meta_graph_def(message, import_scope="scope") for _ in range(2)]
    assert scopes == ["scope", "scope_1"]
    assert [t.name for t in copy.get_collection("tensors")] == ["scope/x:0", "scope_1/x:0"]


def test_an_input_is_replaced(graph):
    message = create_meta_graph_def(graph)
    with Graph().as_default() as copy:
        mine = convert_to_tensor([[1.0, 2.0]])
        import_meta_graph_def(message, input_map={"x": mine})
        assert copy.get_operation_by_name("negative").inputs == (mine,)


@pytest.mark.parametrize(
    "items", [[lambda: 1], [True], [None], [3, "a"], ["a", 3], [{"a": 1}], [object()]]
)
def test_what_cannot_be_written_is_left_out_with_a_warning(graph, caplog, items):
    graph.get_collection_ref("strange").extend(items)
    with caplog.at_level(logging.WARNING):
        message = create_meta_graph_def(graph)
    assert "strange" not in message.collection_def
    assert "ints" in message.collection_def
    assert "collection 'strange' is left out of the MetaGraphDef" in caplog.text


def test_empty_collections_are_not_written(graph):
    graph.get_collection_ref("empty")
    assert "empty" not in create_meta_graph_def(graph).collection_def


# Objects of upper layers.


class Thing:
    def __init__(self, name):
        self.name = name

    def to_proto(self):
        return VariableDef(variable_name=self.name) if self.name else None

    @staticmethod
    def from_proto(proto, import_scope=None):
        scope = f"{import_scope}/" if import_scope else ""
        return Thing(scope + proto.variable_name)


def register(name):
    register_proto_function(
        name, proto_type=VariableDef, to_proto=Thing.to_proto, from_proto=Thing.from_proto
    )


def test_objects_are_written_by_the_functions_of_their_collection(graph):
    register("things")
    for name in ("a", "", "b"):
        graph.add_to_collection("things", Thing(name))
    message = create_meta_graph_def(graph)
    assert [thing.name for thing in imported(message).get_collection("things")] == ["a", "b"]
    scoped = imported(message, import_scope="s").get_collection("things")
    assert [thing.name for thing in scoped] == ["s/a", "s/b"]


def test_an_object_in_two_collections_is_one_object_again(graph):
    register("things")
    register("others")
    thing = Thing("a")
    graph.add_to_collections(["things", "others"], thing)
    copy = imported(create_meta_graph_def(graph))
    assert copy.get_collection("things")[0] is copy.get_collection("others")[0]


def test_a_collection_is_registered_once():
    register("things")
    with pytest.raises(KeyError, match="'things' are registered already"):
        register("things")
    with pytest.raises(TypeError, match="must be functions"):
        register_proto_function("others", to_proto=3)


# Malformed messages.


def test_a_collection_that_names_what_is_not_there_adds_nothing(graph):
    message = create_meta_graph_def(graph)
    message.collection_def["tensors"].node_list.value.append("gone:0")
    with Graph().as_default() as copy:
        with pytest.raises(ValueError, match="collection 'tensors': The name 'gone:0' refers to"):
            import_meta_graph_def(message)
        assert copy.get_operations() == []
        assert copy.get_all_collection_keys() == []


def test_a_collection_of_damaged_messages_adds_nothing(graph):
    register("things")
    message = create_meta_graph_def(graph)
    message.collection_def["things"].bytes_list.value.append(b"\xff\xff")
    with Graph().as_default() as copy:
        with pytest.raises(ValueError, match="collection 'things' holds no VariableDef"):
            import_meta_graph_def(message)
        assert copy.get_operations() == []


def test_an_object_of_what_is_not_there_adds_nothing(graph):
    def missing(proto):
        raise KeyError("the variable 'gone' is not in the graph")

    register_proto_function("things", VariableDef, Thing.to_proto, missing)
    graph.add_to_collection("things", Thing("gone"))
    message = create_meta_graph_def(graph)
    with Graph().as_default() as copy:
        with pytest.raises(ValueError, match="'things': the variable 'gone' is not in the graph"):
            import_meta_graph_def(message)
        assert copy.get_operations() == []


def test_a_collection_of_an_unknown_kind_is_passed_over(graph, caplog):
    message = create_meta_graph_def(graph)
    message.collection_def["odd"].SetInParent()
    with caplog.at_level(logging.WARNING):
        copy = imported(message)
    assert "odd" not in copy.get_all_collection_keys()
    assert "collection 'odd' is not imported: its kind is None" in caplog.text


def test_messages_of_any_kind_return_as_they_were(graph):
    packed = Any()
    packed.Pack(SaverDef(restore_op_name="restore"))
    graph.add_to_collection("packed", packed)
    copy = imported(MetaGraphDef.FromString(create_meta_graph_def(graph).SerializeToString()))
    (found,) = copy.get_collection("packed")
    unpacked = SaverDef()
    assert found.Unpack(unpacked)
    assert unpacked.restore_op_name == "restore"
