"""The graph as a master holds it: every node checked once, when it arrives.

A node comes from a client that may be mistaken or hostile, so `extend` looks at everything that
the layers below rely on (the op exists, its attributes decode, its inputs exist and have the types
that the op takes) and takes a whole extension or none of it. After that a planner follows names
without looking back.

Thread rule: `extend` is called by one thread at a time; a reader may run beside it, because a node
that is in the graph never changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    InvalidArgumentError,
    NotFoundError,
    OpError,
    ResourceExhaustedError,
)
from paramserve_core.graphdef import InputName, colocation_groups, decode_attrs, split_input
from paramserve_core.opdefs import OpDef, find_op
from paramserve_protos.v1 import graph_pb2, node_def_pb2

DEFAULT_MAX_NODES: Final = 1_000_000

_NAME: Final = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\-/>]*")


class GraphNode:
    """One node with what a planner wants to know of it.

    Attributes:
        index: position in the order of creation.
        inputs: the tensors it takes, in order.
        controls: names of the nodes that must have run before it.
        input_dtypes: the type wanted of each of `inputs`, a reference type for a variable.
        outputs: the type of each output.
        colocated_with: names of the ops that the node asks to be placed with.
    """

    __slots__ = (
        "colocated_with",
        "controls",
        "definition",
        "device",
        "index",
        "input_dtypes",
        "inputs",
        "message",
        "name",
        "outputs",
    )

    def __init__(self, index: int, message: node_def_pb2.NodeDef) -> None:
        definition = find_op(message.op)
        if definition is None:
            raise NotFoundError(
                message,
                None,
                f"Op type not registered {message.op!r}, wanted by node {message.name!r}; there is "
                "no such op here: build the graph from known ones, see the list of ops in the "
                "documentation",
            )
        if _NAME.fullmatch(message.name) is None:
            raise InvalidArgumentError(
                message,
                None,
                f"{message.name[:200]!r} is no name for a node; it begins with a letter, digit or "
                "dot and goes on with those, '_', '-', '/' and '>'",
            )
        attrs = decode_attrs(message, definition)
        names = [split_input(text) for text in message.input]
        self.index = index
        self.message = message
        self.name = message.name
        self.definition: OpDef = definition
        self.device = message.device
        self.inputs: tuple[InputName, ...] = tuple(n for n in names if n.index is not None)
        self.controls = tuple(dict.fromkeys(n.node for n in names if n.index is None))
        self.outputs: tuple[DType, ...] = _checked_dtypes(definition, attrs, message)
        self.input_dtypes = definition.input_dtypes(attrs)
        self.colocated_with = tuple(colocation_groups(message.attr))
        if len(self.input_dtypes) != len(self.inputs):
            raise InvalidArgumentError(
                message,
                None,
                f"op {message.op!r} takes {len(self.input_dtypes)} inputs here, found "
                f"{len(self.inputs)}",
            )

    def check_inputs(self, find: Callable[[str], GraphNode | None]) -> None:
        """Raises InvalidArgumentError unless every input exists and has the type wanted."""
        for source, dtype in zip(self.inputs, self.input_dtypes, strict=True):
            producer = find(source.node)
            if producer is None:
                raise self._invalid(f"its input {source} is not in the graph")
            found = output_dtype(producer, source)
            if found.base_dtype is not dtype.base_dtype:
                raise self._invalid(f"its input {source} is {found.name}, wanted {dtype.name}")
            if dtype.is_ref and not found.is_ref:
                raise self._invalid(f"its input {source} is a value, wanted a variable's reference")
        for name in (*self.controls, *self.colocated_with):
            if find(name) is None:
                raise self._invalid(f"it refers to {name!r}, which is not in the graph")

    def _invalid(self, text: str) -> InvalidArgumentError:
        return InvalidArgumentError(self.message, None, f"node {self.name!r}: {text}")


def output_dtype(producer: GraphNode, tensor: InputName) -> DType:
    """The type of an output.

    Raises:
        InvalidArgumentError: the node has no output of that number.
    """
    if tensor.index is None or tensor.index >= len(producer.outputs):
        raise InvalidArgumentError(
            producer.message,
            None,
            f"{tensor} does not exist: {producer.name!r} has {len(producer.outputs)} outputs",
        )
    return producer.outputs[tensor.index]


class StepGraph:
    """All nodes that a session's client has sent, by name, in the order of creation."""

    def __init__(self, max_nodes: int = DEFAULT_MAX_NODES) -> None:
        self._nodes: dict[str, GraphNode] = {}
        self._max_nodes = max_nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, name: object) -> bool:
        return name in self._nodes

    def __iter__(self) -> Iterator[GraphNode]:
        return iter(list(self._nodes.values()))

    def extend(self, message: graph_pb2.GraphDef) -> None:
        """Adds nodes; each may refer to earlier ones and to the others of the same message.

        A node that is there already, just as it is, is passed over: a client that was interrupted
        while it sent its graph does not know what arrived, and sends it again.

        Raises:
            InvalidArgumentError: a malformed node, or one whose input is unknown or of another
                type; nothing was added.
            NotFoundError: an op that is not in the registry; nothing was added.
            ResourceExhaustedError: the limit of nodes; nothing was added.
        """
        size = len(self._nodes) + sum(node.name not in self._nodes for node in message.node)
        if size > self._max_nodes:
            raise ResourceExhaustedError(
                None, None, f"the graph would have {size} nodes, the limit is {self._max_nodes}"
            )
        added: dict[str, GraphNode] = {}
        for node in message.node:
            known = self._nodes.get(node.name)
            if known is not None and known.message == node:
                continue
            if known is not None or node.name in added:
                raise InvalidArgumentError(
                    node, None, f"node {node.name!r} is in the graph already; names are unique"
                )
            added[node.name] = GraphNode(len(self._nodes) + len(added), node)

        def find(name: str) -> GraphNode | None:
            return added.get(name) or self._nodes.get(name)

        for graph_node in added.values():
            graph_node.check_inputs(find)
        self._nodes.update(added)

    def node(self, name: str) -> GraphNode:
        """The node of that name.

        Raises:
            NotFoundError: there is none.
        """
        try:
            return self._nodes[name]
        except KeyError:
            raise NotFoundError(None, None, f"{name!r} is not in the graph") from None

    def tensor(self, name: str) -> InputName:
        """The tensor that a fetch or feed names, "weights/read:0" or "weights/read".

        Raises:
            InvalidArgumentError: the name is malformed, or the node has fewer outputs.
            NotFoundError: there is no such node.
        """
        tensor = split_input(name)
        output_dtype(self.node(tensor.node), tensor)
        return tensor


def _checked_dtypes(
    definition: OpDef, attrs: dict[str, Any], message: node_def_pb2.NodeDef
) -> tuple[DType, ...]:
    """The types of the outputs, once no list argument is longer than a node may be."""
    for arg in (*definition.inputs, *definition.outputs):
        if arg.number_attr is not None and attrs[arg.number_attr] > _MAX_ARGUMENTS:
            raise InvalidArgumentError(
                message,
                None,
                f"attribute {arg.number_attr!r} is {attrs[arg.number_attr]}, the limit is "
                f"{_MAX_ARGUMENTS}",
            )
    try:
        return definition.output_dtypes(attrs)
    except OpError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgumentError(message, None, f"outputs of {message.op}: {error}") from None


_MAX_ARGUMENTS: Final = 1_000_000
