"""An operation: one node of a graph.

Attributes are kept in their canonical Python form (see `paramserve_core.graphdef`) and a `NodeDef`
is made when somebody asks, so that a large constant is held once.

Thread rule: an operation is complete when its graph has it, and does not change from then on; a
`Merge` of a loop is complete when the loop is (`Graph.close_loop`).
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from paramserve._framework import creation_site
from paramserve._framework.default_session import RunsFetches, evaluate
from paramserve._framework.node_attrs import attr_as_message, write_attr
from paramserve._framework.tensor import Tensor
from paramserve_core.graphdef import (
    COLOCATION_ATTR,
    COLOCATION_PREFIX,
    attr_from_proto,
)
from paramserve_core.opdefs import OpDef
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import attr_value_pb2, node_def_pb2, op_def_pb2

if TYPE_CHECKING:
    from paramserve._framework.graph import Graph
    from paramserve._framework.stacks import ControlFlow

SHAPES_ATTR: Final = "_output_shapes"
"""The attribute in which a graph may carry what was known of its shapes."""

GRADIENT_ATTR: Final = "_gradient_op_type"
"""The attribute that names another gradient function than that of the op's type."""

UNKNOWN_SHAPE: Final = TensorShape(None)


class Operation:
    """A node of a graph: it takes tensors, and computes tensors when a session runs it."""

    __slots__ = (
        "__weakref__",
        "_attrs",
        "_colocated_with",
        "_control_flow",
        "_control_inputs",
        "_definition",
        "_device",
        "_extra_attrs",
        "_graph",
        "_inputs",
        "_name",
        "_outputs",
        "_site",
    )

    def __init__(
        self,
        graph: Graph,
        name: str,
        definition: OpDef,
        attrs: Mapping[str, Any],
        inputs: Sequence[Tensor],
        *,
        control_inputs: Sequence[Operation],
        colocated_with: tuple[str, ...],
        device: str,
        extra_attrs: Mapping[str, attr_value_pb2.AttrValue],
        control_flow: ControlFlow | None,
        site: creation_site.Site,
    ) -> None:
        self._graph = graph
        self._name = name
        self._definition = definition
        self._attrs = attrs
        self._inputs = tuple(inputs)
        self._control_inputs = tuple(dict.fromkeys(control_inputs))
        self._device = device
        self._colocated_with = colocated_with
        self._extra_attrs = extra_attrs
        self._control_flow = control_flow
        self._site = site
        self._outputs: tuple[Tensor, ...] = tuple(
            [
                Tensor(self, index, dtype, UNKNOWN_SHAPE)
                for index, dtype in enumerate(definition.output_dtypes(attrs))
            ]
        )

    @property
    def name(self) -> str:
        """The name, unique in the graph."""
        return self._name

    @property
    def type(self) -> str:
        """The op's type, such as "MatMul"."""
        return self._definition.name

    @property
    def graph(self) -> Graph:
        """The graph that the operation belongs to."""
        return self._graph

    @property
    def inputs(self) -> Sequence[Tensor]:
        """The tensors that it takes."""
        return self._inputs

    @property
    def control_inputs(self) -> list[Operation]:
        """The operations that run before it."""
        return list(self._control_inputs)

    @property
    def outputs(self) -> list[Tensor]:
        """The tensors that it computes."""
        return list(self._outputs)

    @property
    def device(self) -> str:
        """The device that it was put on; "" where it may run anywhere."""
        return self._device

    @property
    def control_flow(self) -> ControlFlow | None:
        """The branch of a conditional, or the loop, that the operation was made in."""
        return self._control_flow

    @property
    def definition(self) -> OpDef:
        """The definition of the op."""
        return self._definition

    @property
    def traceback(self) -> traceback.StackSummary:
        """The user's stack when the operation was created, outermost frame first."""
        return creation_site.as_stack(self._site)

    @property
    def created_at(self) -> str | None:
        """The line of the user's program that created the operation: `file:line in function`."""
        return creation_site.user_line(self._site)

    def values(self) -> tuple[Tensor, ...]:
        """The tensors that it computes."""
        return self._outputs

    @property
    def colocated_with(self) -> tuple[str, ...]:
        """The names of the operations that it is placed with; its own where there is none."""
        return self._colocated_with or (self._name,)

    def colocation_groups(self) -> list[bytes]:
        """The groups that it is placed with, such as `b"loc:@weights"`; its own by default."""
        return [f"{COLOCATION_PREFIX}{name}".encode() for name in self.colocated_with]

    def get_attr(self, name: str) -> Any:
        """The value of an attribute, as TensorFlow answers it.

        Args:
            name: the attribute.

        Returns:
            A number, a bool, a DType, `bytes` for a string, a `TensorProto` or a
            `TensorShapeProto`; a list of those for a list. `attrs` has the same values as arrays
            and `TensorShape`s.

        Raises:
            ValueError: the operation has no such attribute.
        """
        if name in self._attrs:
            value = self._attrs[name]
        elif name == COLOCATION_ATTR and self._colocated_with:
            return self.colocation_groups()
        elif name in self._extra_attrs:
            value = attr_from_proto(self._extra_attrs[name])
        else:
            known = ", ".join([*self._attrs, *self._extra_attrs]) or "none"
            raise ValueError(
                f"Operation '{self._name}' ({self.type}) has no attr named '{name}'; it has: "
                f"{known}"
            )
        if isinstance(value, tuple):
            return [attr_as_message(item) for item in value]
        return attr_as_message(value)

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes that the definition names, in canonical form."""
        return self._attrs

    @property
    def extra_attrs(self) -> Mapping[str, attr_value_pb2.AttrValue]:
        """The attributes beyond those, whose names begin with "_"."""
        return self._extra_attrs

    @property
    def node_def(self) -> node_def_pb2.NodeDef:
        """The operation as a message, made anew."""
        node = node_def_pb2.NodeDef()
        self.write_to(node)
        return node

    def write_to(self, node: node_def_pb2.NodeDef, *, add_shapes: bool = False) -> None:
        """Fills in an empty message.

        Args:
            node: the message.
            add_shapes: with what is known of the outputs' shapes, for tools that show graphs.
        """
        node.name = self._name
        node.op = self._definition.name
        node.device = self._device
        for tensor in self._inputs:
            source = tensor.op.name
            node.input.append(f"{source}:{tensor.value_index}" if tensor.value_index else source)
        for op in self._control_inputs:
            node.input.append(f"^{op.name}")
        for name, value in self._attrs.items():
            write_attr(node.attr[name], value, self._definition.attrs[name])
        for name, proto in self._extra_attrs.items():
            node.attr[name].CopyFrom(proto)
        if self._colocated_with:
            node.attr[COLOCATION_ATTR].list.s.extend(self.colocation_groups())
        if add_shapes and self._outputs:
            shapes = [tensor.shape.as_proto() for tensor in self._outputs]
            node.attr[SHAPES_ATTR].list.shape.extend(shapes)

    @property
    def op_def(self) -> op_def_pb2.OpDef:
        """The signature of the op, as a message."""
        from paramserve._framework.op_list import as_op_def

        return as_op_def(self._definition)

    def run(self, feed_dict: Any = None, session: RunsFetches | None = None) -> None:
        """Runs the operation in `session`, or in the default session.

        Raises:
            ValueError: there is no session, or it runs another graph.
        """
        evaluate(self, self._graph, feed_dict, session, "execute operation using `run()`")

    def __repr__(self) -> str:
        return f"<paramserve.Operation '{self._name}' type={self.type}>"

    def __str__(self) -> str:
        return str(self.node_def)
