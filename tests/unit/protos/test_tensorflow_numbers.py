"""Our messages against a table of TensorFlow's, so that the promise holds without TensorFlow."""

import json

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor

import descriptor_table
from paramserve_protos.v1 import graph_pb2, node_def_pb2, tensor_pb2, types_pb2

OURS = descriptor_table.our_table()
THEIRS = json.loads(descriptor_table.GOLDEN.read_text())


def test_every_shared_message_and_enum_is_in_the_table():
    assert set(OURS) == set(THEIRS)


@pytest.mark.parametrize("name", sorted(OURS))
def test_fields_and_enum_values_are_tensorflows(name):
    differing = {k: (v, THEIRS[name].get(k)) for k, v in OURS[name].items()}
    assert {k: pair for k, pair in differing.items() if pair[0] != pair[1]} == {}


@pytest.mark.parametrize("message", descriptor_table.our_messages(), ids=lambda m: m.full_name)
def test_numbers_of_fields_left_out_are_reserved(message: Descriptor):
    proto = descriptor_pb2.DescriptorProto()
    message.CopyToProto(proto)
    name = message.full_name.removeprefix(f"{message.file.package}.")
    theirs = {int(line.split()[0]) for line in THEIRS[name].values()}
    left_out = theirs - {f.number for f in proto.field}
    reserved = {n for r in proto.reserved_range for n in range(r.start, r.end)}
    assert left_out <= reserved


def test_every_enum_value_of_tensorflow_is_ours():
    enums = [e for f in descriptor_table.our_files() for e in f.enum_types_by_name]
    assert {e: OURS[e] for e in enums} == {e: THEIRS[e] for e in enums}


def test_a_reference_type_is_its_value_type_plus_100():
    for name, number in types_pb2.DataType.items():
        if name.endswith("_REF"):
            assert number == types_pb2.DataType.Value(name.removesuffix("_REF")) + 100


def test_fields_unknown_to_us_survive_a_round_trip():
    # NodeDef.experimental_type (7), a message that we leave out.
    wire = b"\x0a\x01w\x12\x0aVariableV2\x3a\x02\x08\x01"
    node = node_def_pb2.NodeDef.FromString(wire)
    assert (node.name, node.op) == ("w", "VariableV2")
    graph = graph_pb2.GraphDef(node=[node])
    again = graph_pb2.GraphDef.FromString(graph.SerializeToString())
    assert again.node[0].SerializeToString() == wire


def test_tensor_bytes_are_the_ones_that_tensorflow_writes():
    # What TensorFlow's make_tensor_proto([1.5, -2.0], float32) serializes to.
    wire = bytes.fromhex("080112041202080222080000c03f000000c0")
    tensor = tensor_pb2.TensorProto.FromString(wire)
    assert tensor.dtype == types_pb2.DT_FLOAT
    assert [d.size for d in tensor.tensor_shape.dim] == [2]
    assert tensor.tensor_content == bytes.fromhex("0000c03f000000c0")
    assert tensor.SerializeToString(deterministic=True) == wire
