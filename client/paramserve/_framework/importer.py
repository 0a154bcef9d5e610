"""Adds the nodes of a `GraphDef` to a graph.

The message may come from anyone, TensorFlow included. Nodes may come in any order, and all of them
are added or none is. The edges on which a loop goes back to its beginning are added last.

Thread rule: adds to the default graph of the calling thread, whose lock it holds meanwhile.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

from google.protobuf.message import Message

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph, get_default_graph
from paramserve._framework.names import check_op_name
from paramserve._framework.node_reading import NodeContent, read_node
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve_core.devices import canonical_name
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.frames import FRAME_NAME, MERGE_OPS, is_back_edge
from paramserve_core.graphdef import InputName, split_input
from paramserve_core.opdefs import find_op
from paramserve_protos.v1 import attr_value_pb2, graph_pb2, node_def_pb2, op_def_pb2


def import_graph_def(
    graph_def: Any,
    input_map: Mapping[str, Any] | None = None,
    return_elements: Sequence[str] | None = None,
    name: str | None = None,
    op_dict: Any = None,
    producer_op_list: op_def_pb2.OpList | None = None,
) -> list[Any] | None:
    """Adds the nodes of a graph to the default graph.

    Args:
        graph_def: a `GraphDef`, ours or TensorFlow's.
        input_map: names of tensors in `graph_def` ("x" or "x:0") to tensors of the default graph
            that are taken in their place; "^x" to an operation or tensor that is waited for.
        return_elements: names of operations and tensors in `graph_def` to answer.
        name: a scope for the names of the nodes; "import" by default, "" for none.
        op_dict: not needed; the ops' definitions are known.
        producer_op_list: the ops as the writer of the graph knows them. Attributes that are not
            known here and have the value that is their default there are passed over.

    Returns:
        The `return_elements`, Operations and Tensors; None where none were asked for.

    Raises:
        TypeError: `graph_def` is no GraphDef, or `input_map` or `return_elements` is malformed.
        NotFoundError: an op that is not known here.
        ValueError: a malformed graph: two nodes of one name, an input that does not exist or is of
            another type, a cycle that is no loop, attributes or shapes that cannot be; or a name
            in `input_map` or `return_elements` that the graph does not have. Nothing was added.
    """
    message = _as_graph_def(graph_def)
    mapped = dict(input_map or {})
    if not all(isinstance(key, str) for key in mapped):
        raise TypeError("input_map must map names, strings, to tensors")
    wanted = tuple(return_elements or ())
    if isinstance(return_elements, str) or not all(isinstance(item, str) for item in wanted):
        raise TypeError("return_elements must be a list of names, strings")
    defaults = {
        op.name: {a.name: a.default_value for a in op.attr if a.HasField("default_value")}
        for op in (producer_op_list.op if producer_op_list is not None else ())
    }
    nodes = [_without_surplus(node, defaults.get(node.op, {})) for node in message.node]
    graph = get_default_graph()
    with graph.all_or_nothing(), graph.name_scope("import" if name is None else name) as scope:
        importer = _Importer(graph, nodes, scope, mapped)
        importer.add_nodes()
        found = [importer.element(item) for item in wanted]
    return None if return_elements is None else found


def _as_graph_def(value: Any) -> graph_pb2.GraphDef:
    if isinstance(value, graph_pb2.GraphDef):
        return value
    # TensorFlow's class has another package, and the same bytes.
    if isinstance(value, Message) and value.DESCRIPTOR.name == "GraphDef":
        return graph_pb2.GraphDef.FromString(value.SerializeToString())
    raise TypeError(f"graph_def must be a GraphDef proto, got {type(value).__name__}")


def _without_surplus(
    node: node_def_pb2.NodeDef, defaults: Mapping[str, attr_value_pb2.AttrValue]
) -> node_def_pb2.NodeDef:
    """The node without attributes that are not known here and say what their writer's default is.

    Args:
        node: a node.
        defaults: the default of each attribute of the op, as the writer knows it.
    """
    definition = find_op(node.op)
    if definition is None:
        return node
    surplus = [
        key
        for key in node.attr
        if key not in definition.attrs and defaults.get(key) == node.attr[key]
    ]
    if not surplus:
        return node
    result = node_def_pb2.NodeDef()
    result.CopyFrom(node)
    for key in surplus:
        del result.attr[key]
    return result


class _Importer:
    """One import: the nodes by name, and what has become of them."""

    def __init__(
        self,
        graph: Graph,
        nodes: Sequence[node_def_pb2.NodeDef],
        scope: str,
        mapped: Mapping[str, Any],
    ) -> None:
        self._graph = graph
        self._scope = scope
        self._nodes: dict[str, node_def_pb2.NodeDef] = {}
        for node in nodes:
            check_op_name(node.name)
            if node.name in self._nodes:
                raise ValueError(f"Node '{node.name}' is not unique: two nodes have this name")
            self._nodes[node.name] = node
        self._inputs = {node.name: _inputs(node) for node in nodes}
        self._contents = {node.name: read_node(node) for node in nodes}
        self._mapped = self._replacements(mapped)
        self._back_edges = self._find_back_edges()
        self._used: set[InputName] = set()
        self._added: dict[str, Operation] = {}

    def add_nodes(self) -> None:
        """Adds every node, each after those that it needs."""
        for name in self._in_order():
            self._add(name)
        for name, index, key in self._back_edges:
            self._close_loop(name, index, key)
        # What a node is placed with may have come after it.
        for name, content in self._contents.items():
            op = self._added[name]
            if content.colocated_with:
                op._device = self._device_of_group(content, op)
        unknown = [
            str(key)
            for key in self._mapped
            if key not in self._used and key.node not in self._nodes
        ]
        if unknown:
            raise ValueError(
                f"Attempted to map inputs that were not found in graph_def: {', '.join(unknown)}"
            )

    def element(self, name: str) -> Tensor | Operation:
        """What a name in the message stands for now.

        Raises:
            ValueError: the message has no such node, or the node no such output.
        """
        key = _parsed(name, "return_elements")
        if key.index is None:
            raise ValueError(f"return_elements: {name!r} is a control input, no tensor")
        if key.node not in self._nodes:
            raise ValueError(f"Requested return node '{key.node}' not found in graph def")
        if ":" not in name:
            return self._added[key.node]
        return self._tensor(key, f"return_elements: {name!r}")

    def _replacements(self, mapped: Mapping[str, Any]) -> dict[InputName, Any]:
        result: dict[InputName, Any] = {}
        made = any(not _is_element(value) for value in mapped.values())
        if made and not self._scope:
            raise ValueError(
                "import_graph_def needs a non-empty `name` where `input_map` has values that are "
                "no tensors; or call convert_to_tensor on them first"
            )
        with self._graph.name_scope("_inputs") if made else nullcontext():
            for name, value in mapped.items():
                key = _parsed(name, "input_map")
                if key.index is None:
                    element = self._graph.as_graph_element(value)
                    result[key] = element.op if isinstance(element, Tensor) else element
                else:
                    result[key] = convert_to_tensor(value)
        return result

    def _find_back_edges(self) -> list[tuple[str, int, InputName]]:
        """The inputs that come from an earlier iteration: node, number of the input, tensor."""
        return [
            (name, index, key)
            for name, inputs in self._inputs.items()
            if self._nodes[name].op in MERGE_OPS
            for index, key in enumerate(inputs)
            if key not in self._mapped
            and key.node in self._nodes
            and key.index is not None
            and is_back_edge(self._nodes[key.node].op, self._nodes[name].op)
        ]

    def _in_order(self) -> Iterable[str]:
        """The names of the nodes, each after those that it needs, else as in the message."""
        waiting: dict[str, int] = {}
        followers: dict[str, list[str]] = {name: [] for name in self._nodes}
        back_edges = {(name, key) for name, _, key in self._back_edges}
        for name, inputs in self._inputs.items():
            needed = {
                key.node
                for key in inputs
                if key not in self._mapped and (name, key) not in back_edges
            }
            for source in needed:
                if source not in self._nodes:
                    raise ValueError(
                        f"Node '{name}': Unknown input node '{source}'; the graph has no such "
                        "node, and input_map does not replace it"
                    )
                followers[source].append(name)
            waiting[name] = len(needed)
        names = list(self._nodes)
        position = {name: index for index, name in enumerate(names)}
        ready = [position[name] for name, count in waiting.items() if not count]
        while ready:
            name = names[heapq.heappop(ready)]
            yield name
            del waiting[name]
            for follower in followers[name]:
                waiting[follower] -= 1
                if not waiting[follower]:
                    heapq.heappush(ready, position[follower])
        if waiting:
            some = ", ".join(f"'{name}'" for name in list(waiting)[:5])
            raise ValueError(
                f"{len(waiting)} nodes are in a cycle or wait for one ({some}); only a loop, whose "
                "NextIteration leads to a Merge, may go back"
            )

    def _add(self, name: str) -> None:
        content = self._contents[name]
        inputs: list[Tensor] = []
        controls: list[Operation] = []
        is_open = False
        for key in self._inputs[name]:
            if key.index is None:
                controls.append(self._operation(key))
            elif key in self._mapped or key.node in self._added:
                inputs.append(self._tensor(key, f"Node '{name}'"))
            elif not inputs:
                raise ValueError(f"Node '{name}': a Merge of a loop begins with what enters it")
            else:  # the end of an iteration, which comes later
                inputs.append(inputs[0])
                is_open = True
        self._check_types(name, content, inputs)
        groups = [self._renamed(group, name) for group in content.colocated_with]
        try:
            op = self._graph.add_operation(
                content.definition,
                self._scoped(content.attrs),
                inputs,
                f"{self._scope}{name}/",
                extra_attrs=content.extra_attrs,
                control_inputs=controls,
                colocated_with=groups,
                device=canonical_name(self._nodes[name].device),
                place=not content.colocated_with,
                # What the end of an iteration gives need not have the shape of what enters.
                infer=not is_open,
            )
            for tensor, shape in zip(op.values(), content.shapes, strict=False):
                tensor.set_shape(shape)
        except (TypeError, ValueError) as error:
            raise ValueError(f"Node '{name}': {error}") from error
        self._added[name] = op

    def _scoped(self, attrs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The attributes, where a loop has another name than those of earlier imports."""
        if FRAME_NAME not in attrs or not self._scope:
            return attrs
        return {**attrs, FRAME_NAME: f"{self._scope}{attrs[FRAME_NAME]}"}

    def _close_loop(self, name: str, index: int, key: InputName) -> None:
        tensor = self._tensor(key, f"Node '{name}'")
        try:
            self._graph.close_loop(self._added[name], index, tensor)
        except TypeError as error:
            raise ValueError(f"Node '{name}': {error}") from None

    def _check_types(self, name: str, content: NodeContent, inputs: Sequence[Tensor]) -> None:
        wanted = content.definition.input_dtypes(content.attrs)
        if len(wanted) != len(inputs):
            raise ValueError(
                f"Node '{name}': op {content.definition.name} takes {len(wanted)} inputs with "
                f"these attributes, the node has {len(inputs)}"
            )
        for i, (tensor, dtype) in enumerate(zip(inputs, wanted, strict=True)):
            if tensor.dtype is not dtype and tensor.dtype.base_dtype is not dtype:
                raise ValueError(
                    f"Input {i} of node '{name}' was passed {tensor.dtype.name} from "
                    f"{tensor.name}, incompatible with expected {dtype.name}"
                )

    def _operation(self, key: InputName) -> Operation:
        if key not in self._mapped:
            return self._added[key.node]
        self._used.add(key)
        replaced: Operation = self._mapped[key]
        return replaced

    def _tensor(self, key: InputName, where: str) -> Tensor:
        if key in self._mapped:
            self._used.add(key)
            replaced: Tensor = self._mapped[key]
            return replaced
        outputs = self._added[key.node].values()
        if key.index is None or key.index >= len(outputs):
            raise ValueError(
                f"{where}: there is no output {key.index} of node '{key.node}', which has "
                f"{len(outputs)}"
            )
        return outputs[key.index]

    def _renamed(self, group: str, name: str) -> str:
        if group not in self._nodes:
            raise ValueError(f"Node '{name}' expects to be colocated with unknown node '{group}'")
        return f"{self._scope}{group}"

    def _device_of_group(self, content: NodeContent, op: Operation) -> str:
        for group in content.colocated_with:
            device = self._added[group].device
            if device:
                return device
        return op.device


def _inputs(node: node_def_pb2.NodeDef) -> list[InputName]:
    try:
        names = [split_input(text) for text in node.input]
    except InvalidArgumentError as error:
        raise ValueError(f"Node '{node.name}': {error.message}") from None
    for before, after in pairwise(names):
        if before.index is None and after.index is not None:
            raise ValueError(
                f"Node '{node.name}': Control dependencies must come after regular dependencies"
            )
    return names


def _parsed(name: str, argument: str) -> InputName:
    try:
        return split_input(name)
    except InvalidArgumentError as error:
        raise ValueError(f"{argument}: {error.message}") from None


def _is_element(value: Any) -> bool:
    return isinstance(value, (Tensor, Operation)) or hasattr(value, "_as_graph_element")
