"""Op definitions as TensorFlow's `OpDef` messages, for graphs that carry their signatures.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable

from paramserve_core.graphdef import attr_to_proto, canonical_attr
from paramserve_core.opdefs import AttrDef, OpDef, find_op
from paramserve_core.opdefs.registry import REQUIRED, ArgDef
from paramserve_protos.v1 import op_def_pb2


def as_op_def(definition: OpDef) -> op_def_pb2.OpDef:
    """The definition as a message."""
    return op_def_pb2.OpDef(
        name=definition.name,
        input_arg=[_arg(arg) for arg in definition.inputs],
        output_arg=[_arg(arg) for arg in definition.outputs],
        attr=[_attr(definition, name, attr) for name, attr in definition.attrs.items()],
        is_stateful=definition.is_stateful,
        allows_uninitialized_input=definition.allows_uninitialized_input,
    )


def stripped_op_list(op_types: Iterable[str]) -> op_def_pb2.OpList:
    """The definitions of the given ops, by name, each once."""
    found = [find_op(name) for name in sorted(set(op_types))]
    return op_def_pb2.OpList(op=[as_op_def(d) for d in found if d is not None])


def _arg(arg: ArgDef) -> op_def_pb2.OpDef.ArgDef:
    return op_def_pb2.OpDef.ArgDef(
        name=arg.name,
        type=None if arg.dtype is None else arg.dtype.as_datatype_enum,
        type_attr=arg.type_attr or "",
        number_attr=arg.number_attr or "",
        type_list_attr=arg.type_list_attr or "",
        is_ref=arg.is_ref,
    )


def _attr(definition: OpDef, name: str, attr: AttrDef) -> op_def_pb2.OpDef.AttrDef:
    message = op_def_pb2.OpDef.AttrDef(
        name=name, type=f"list({attr.kind})" if attr.is_list else attr.kind
    )
    if attr.default is not REQUIRED:
        value = canonical_attr(attr.default, attr, op=definition.name, name=name)
        message.default_value.CopyFrom(attr_to_proto(value, attr))
    if attr.minimum is not None:
        message.has_minimum = True
        message.minimum = attr.minimum
    if attr.allowed:
        choices = AttrDef(kind=attr.kind, is_list=True)
        allowed = tuple(attr.allowed)
        message.allowed_values.CopyFrom(attr_to_proto(allowed, choices))
    return message
