"""TensorFlow's messages as a table, for comparing ours with it.

A field is one line, such as "5 repeated NodeDef.AttrEntry": all of it that decides about bytes on
the wire, and its oneof. `python tests/descriptor_table.py`, where TensorFlow is installed, writes
the table of every message that we share with it to `unit/protos/tensorflow_messages.json`.
"""

import importlib
import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor

Table = dict[str, dict[str, str]]

GOLDEN = Path(__file__).parent / "unit" / "protos" / "tensorflow_messages.json"
PROTO_FOLDER = Path(__file__).parents[1] / "protos" / "paramserve_protos" / "v1"
# Files whose messages are our own: TensorFlow has nothing to say about them.
OWN_FILES = {"service", "checkpoint_service", "local_transport", "stage_stats"}
# A field that we add to a message of TensorFlow's has at least this number.
FIRST_OWN_NUMBER = 1000

_Field = descriptor_pb2.FieldDescriptorProto
_TENSORFLOW_MODULES = [
    "tensorflow.core.framework.graph_pb2",
    "tensorflow.core.framework.step_stats_pb2",
    "tensorflow.core.framework.summary_pb2",
    "tensorflow.core.framework.tensor_slice_pb2",
    "tensorflow.core.framework.variable_pb2",
    "tensorflow.core.protobuf.config_pb2",
    "tensorflow.core.protobuf.meta_graph_pb2",
    "tensorflow.core.protobuf.tensor_bundle_pb2",
    "tensorflow.core.protobuf.tensorflow_server_pb2",
    "tensorflow.core.util.event_pb2",
    "tensorflow.core.util.saved_tensor_slice_pb2",
    "tensorflow.python.training.checkpoint_state_pb2",
]


def _field_line(message: descriptor_pb2.DescriptorProto, field: _Field, package: str) -> str:
    if field.type_name:
        kind = field.type_name.removeprefix(".").removeprefix(f"{package}.")
    else:
        kind = _Field.Type.Name(field.type).removeprefix("TYPE_").lower()
    label = _Field.Label.Name(field.label).removeprefix("LABEL_").lower()
    line = f"{field.number} {label} {kind}"
    if field.options.HasField("packed"):
        line += " packed" if field.options.packed else " unpacked"
    if field.proto3_optional:
        line += " with presence"
    elif field.HasField("oneof_index"):
        line += f" in {message.oneof_decl[field.oneof_index].name}"
    # In proto3 repeated numbers are packed unless the file says otherwise.
    return line.removesuffix(" packed")


def _message_tables(descriptor: Descriptor, package: str) -> Iterator[tuple[str, dict[str, str]]]:
    proto = descriptor_pb2.DescriptorProto()
    descriptor.CopyToProto(proto)
    name = descriptor.full_name.removeprefix(f"{package}.")
    shared = [f for f in proto.field if f.number < FIRST_OWN_NUMBER]
    yield name, {f.name: _field_line(proto, f, package) for f in shared}
    for nested in descriptor.nested_types:
        yield from _message_tables(nested, package)
    for enum in descriptor.enum_types:
        yield _enum_table(enum, package)


def _enum_table(descriptor: EnumDescriptor, package: str) -> tuple[str, dict[str, str]]:
    name = descriptor.full_name.removeprefix(f"{package}.")
    return name, {value.name: str(value.number) for value in descriptor.values}


def our_files() -> list[FileDescriptor]:
    """The descriptors of all `.proto` files that mirror TensorFlow's."""
    stems = sorted({p.stem for p in PROTO_FOLDER.glob("*.proto")} - OWN_FILES)
    modules = [importlib.import_module(f"paramserve_protos.v1.{s}_pb2") for s in stems]
    return [module.DESCRIPTOR for module in modules]


def our_messages() -> list[Descriptor]:
    """All our messages that mirror TensorFlow's, the nested ones included, map entries not."""

    def walk(messages: Iterable[Descriptor]) -> Iterator[Descriptor]:
        for message in messages:
            if not message.GetOptions().map_entry:
                yield message
                yield from walk(message.nested_types)

    return [m for f in our_files() for m in walk(f.message_types_by_name.values())]


def our_table() -> Table:
    """The table of our own messages and enums."""
    table: Table = {}
    for file in our_files():
        for message in file.message_types_by_name.values():
            table.update(_message_tables(message, file.package))
        for enum in file.enum_types_by_name.values():
            table.update([_enum_table(enum, file.package)])
    return table


def tensorflow_table() -> Table:
    """The table of TensorFlow's messages and enums that have a name of ours, with all fields.

    Imports TensorFlow.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in _TENSORFLOW_MODULES:
            importlib.import_module(name)
    pool = descriptor_pool.Default()
    everything: Table = {}
    for file in our_files():
        for name in file.message_types_by_name:
            message = pool.FindMessageTypeByName(f"tensorflow.{name}")
            everything.update(_message_tables(message, "tensorflow"))
        for name in file.enum_types_by_name:
            everything.update(
                [_enum_table(pool.FindEnumTypeByName(f"tensorflow.{name}"), "tensorflow")]
            )
    shared = our_table().keys()
    return {name: fields for name, fields in everything.items() if name in shared}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(tensorflow_table(), indent=1, sort_keys=True) + "\n")
    print(f"wrote {GOLDEN}")
