"""From a `NodeDef` of any origin to what a graph keeps of it.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paramserve._framework.operation import SHAPES_ATTR
from paramserve_core.errors import InvalidArgumentError, NotFoundError
from paramserve_core.graphdef import (
    COLOCATION_ATTR,
    attr_from_proto,
    colocation_groups,
    decode_attrs,
)
from paramserve_core.opdefs import OpDef, find_op
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import attr_value_pb2, node_def_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeContent:
    """A node without its name and its inputs.

    Attributes:
        definition: the op.
        attrs: the attributes that it has, in canonical form.
        extra_attrs: attributes beyond those; their names begin with "_".
        colocated_with: the names of the nodes that it is placed with.
        shapes: what the writer of the node knew of the outputs' shapes; empty where it did not
            say.
    """

    definition: OpDef
    attrs: Mapping[str, Any]
    extra_attrs: Mapping[str, attr_value_pb2.AttrValue]
    colocated_with: tuple[str, ...]
    shapes: tuple[TensorShape, ...]


def read_node(node: node_def_pb2.NodeDef) -> NodeContent:
    """Reads and checks a node.

    Raises:
        NotFoundError: an op that is not known here.
        ValueError: an attribute is missing, malformed or not one of the op's.
    """
    definition = find_op(node.op)
    if definition is None:
        raise NotFoundError(
            node, None, f"Op type not registered {node.op!r}: node '{node.name}' cannot run here"
        )
    try:
        attrs = decode_attrs(node, definition)
        groups = tuple(colocation_groups(node.attr))
        shapes = _recorded_shapes(node)
    except InvalidArgumentError as error:
        raise ValueError(f"Node '{node.name}': {error.message}") from None
    kept = [name for name in node.attr if name not in definition.attrs]
    extra = {name: node.attr[name] for name in kept if name not in (COLOCATION_ATTR, SHAPES_ATTR)}
    return NodeContent(
        definition=definition,
        attrs=attrs,
        extra_attrs={name: _copy(proto) for name, proto in extra.items()},
        colocated_with=groups,
        shapes=shapes,
    )


def _recorded_shapes(node: node_def_pb2.NodeDef) -> tuple[TensorShape, ...]:
    if SHAPES_ATTR not in node.attr:
        return ()
    shapes = attr_from_proto(node.attr[SHAPES_ATTR])
    if not isinstance(shapes, tuple) or not all(isinstance(s, TensorShape) for s in shapes):
        raise InvalidArgumentError(node, None, f"attribute {SHAPES_ATTR!r} is no list of shapes")
    return shapes


def _copy(proto: attr_value_pb2.AttrValue) -> attr_value_pb2.AttrValue:
    result = attr_value_pb2.AttrValue()
    result.CopyFrom(proto)
    return result
