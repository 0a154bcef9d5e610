"""A graph with its collections as one message, and back.

A collection of numbers, strings, operations, tensors or `Any` messages is written as it is. Objects
of the layers above this package, such as variables, are written as messages; their modules say how
with `register_proto_function`.

Thread rule: the registry is filled while modules are imported; export reads a graph, import adds
to the default graph of the calling thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message

from paramserve._framework.graph import Graph, get_default_graph
from paramserve._framework.importer import import_graph_def
from paramserve._framework.op_list import stripped_op_list
from paramserve_protos.v1 import graph_pb2
from paramserve_protos.v1.meta_graph_pb2 import CollectionDef, MetaGraphDef
from paramserve_protos.v1.saver_pb2 import SaverDef

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProtoFunctions:
    """How the items of a collection are written and read."""

    proto_type: type[Message] | None
    to_proto: Callable[..., Any] | None
    from_proto: Callable[..., Any] | None


_PROTO_FUNCTIONS: Final[dict[str, _ProtoFunctions]] = {}


def register_proto_function(
    collection_name: str,
    proto_type: type[Message] | None = None,
    to_proto: Callable[..., Any] | None = None,
    from_proto: Callable[..., Any] | None = None,
) -> None:
    """Says how the items of a collection are written into a MetaGraphDef and read from one.

    Args:
        collection_name: the collection.
        proto_type: the message's class.
        to_proto: called with an item; answers its message, or None to leave the item out.
        from_proto: called with a message, and with the keyword `import_scope` where the graph was
            imported into one; answers the item.

    Raises:
        KeyError: the collection has functions already.
        TypeError: one of them cannot be called.
    """
    if collection_name in _PROTO_FUNCTIONS:
        raise KeyError(f"proto functions of collection {collection_name!r} are registered already")
    for function in (to_proto, from_proto):
        if function is not None and not callable(function):
            raise TypeError(f"to_proto and from_proto must be functions, got {function!r}")
    _PROTO_FUNCTIONS[collection_name] = _ProtoFunctions(
        proto_type=proto_type, to_proto=to_proto, from_proto=from_proto
    )


def create_meta_graph_def(
    graph: Graph | None = None,
    *,
    graph_def: graph_pb2.GraphDef | None = None,
    meta_info_def: MetaGraphDef.MetaInfoDef | None = None,
    saver_def: SaverDef | None = None,
    collection_list: Iterable[str] | None = None,
    clear_devices: bool = False,
) -> MetaGraphDef:
    """A graph and its collections as one message.

    Collections of things that cannot be written, such as functions, are left out with a warning in
    the log.

    Args:
        graph: the graph; the default graph by default.
        graph_def: its nodes, if not those that it has now.
        meta_info_def: what to say about the graph; the definitions of its ops are added.
        saver_def: how its variables are saved.
        collection_list: the names of the collections to write; all by default.
        clear_devices: leave out where nodes are placed.

    Raises:
        ValueError: the message would be larger than 2 GiB.
    """
    graph = graph or get_default_graph()
    result = MetaGraphDef(meta_info_def=meta_info_def, saver_def=saver_def)
    result.graph_def.CopyFrom(
        graph.as_graph_def(add_shapes=True) if graph_def is None else graph_def
    )
    if clear_devices:
        for node in result.graph_def.node:
            node.device = ""
    if not result.meta_info_def.HasField("stripped_op_list"):
        op_types = {node.op for node in result.graph_def.node}
        result.meta_info_def.stripped_op_list.CopyFrom(stripped_op_list(op_types))
    names = graph.get_all_collection_keys() if collection_list is None else collection_list
    for name in names:
        _write_collection(graph, name, result)
    return result


def import_meta_graph_def(
    meta_graph_def: MetaGraphDef,
    *,
    clear_devices: bool = False,
    import_scope: str | None = None,
    input_map: Mapping[str, Any] | None = None,
) -> str:
    """Adds the nodes and collections of a message to the default graph, all of them or none.

    Args:
        meta_graph_def: the message.
        clear_devices: forget where its nodes are placed.
        import_scope: a scope for the names of the nodes.
        input_map: see `import_graph_def`.

    Returns:
        The scope that the nodes are in, without a "/" at its end: the open one, and in it
        `import_scope`, made unique.

    Raises:
        NotFoundError: an op that is not known here.
        ValueError: a malformed graph, or a collection that names what the graph does not have.
    """
    graph = get_default_graph()
    graph_def = meta_graph_def.graph_def
    if clear_devices:
        graph_def = graph_pb2.GraphDef()
        graph_def.CopyFrom(meta_graph_def.graph_def)
        for node in graph_def.node:
            node.device = ""
    info = meta_graph_def.meta_info_def
    with graph.all_or_nothing():
        scope = _unique_scope(graph, import_scope)
        import_graph_def(
            graph_def,
            name=f"{scope}/" if scope else "",
            input_map=input_map,
            producer_op_list=info.stripped_op_list if info.HasField("stripped_op_list") else None,
        )
        reader = _CollectionReader(graph, scope)
        collections = {
            name: reader.items(name, definition)
            for name, definition in sorted(meta_graph_def.collection_def.items())
        }
        for name, items in collections.items():
            for item in items:
                graph.add_to_collection(name, item)
    return scope


def _unique_scope(graph: Graph, import_scope: str | None) -> str:
    if not import_scope:
        return graph.get_name_scope()
    with graph.name_scope(import_scope) as scope:
        return scope.rstrip("/")


def _write_collection(graph: Graph, name: str, message: MetaGraphDef) -> None:
    items = graph.get_collection(name)
    if not items:
        return
    try:
        definition = _as_collection_def(graph, name, items)
    except (TypeError, ValueError, KeyError) as error:
        _log.warning("collection %r is left out of the MetaGraphDef: %s", name, error)
        return
    message.collection_def[name].CopyFrom(definition)


def _as_collection_def(graph: Graph, name: str, items: Sequence[Any]) -> CollectionDef:
    result = CollectionDef()
    functions = _PROTO_FUNCTIONS.get(name)
    if functions is not None and functions.to_proto is not None:
        result.bytes_list.SetInParent()
        for proto in map(functions.to_proto, items):
            if proto is not None:
                result.bytes_list.value.append(proto.SerializeToString())
    elif all(isinstance(item, (str, bytes)) for item in items):
        texts = [item.encode() if isinstance(item, str) else item for item in items]
        result.bytes_list.value.extend(texts)
    elif all(isinstance(item, AnyMessage) for item in items):
        result.any_list.value.extend(items)
    elif any(isinstance(item, (str, bytes, bool)) for item in items):
        raise TypeError("its items are not all numbers, all strings, or all graph elements")
    elif all(isinstance(item, Integral) for item in items):
        result.int64_list.value.extend(int(item) for item in items)
    elif all(isinstance(item, Real) for item in items):
        result.float_list.value.extend(float(item) for item in items)
    else:
        result.node_list.value.extend(graph.as_graph_element(item).name for item in items)
    return result


class _CollectionReader:
    """Reads the collections of one message; one message in two collections is one object."""

    def __init__(self, graph: Graph, scope: str) -> None:
        self._graph = graph
        self._scope = scope
        self._made: dict[tuple[Any, bytes], Any] = {}

    def items(self, name: str, definition: CollectionDef) -> list[Any]:
        """The items of a collection.

        Raises:
            ValueError: it names what the graph does not have, or holds a malformed message.
        """
        match definition.WhichOneof("kind"):
            case "node_list":
                return [self._element(name, text) for text in definition.node_list.value]
            case "bytes_list":
                functions = _PROTO_FUNCTIONS.get(name)
                values = definition.bytes_list.value
                if functions is None or functions.from_proto is None:
                    return list(values)
                return [self._object(name, functions, content) for content in values]
            case "int64_list":
                return list(definition.int64_list.value)
            case "float_list":
                return list(definition.float_list.value)
            case "any_list":
                return list(definition.any_list.value)
            case kind:
                _log.warning("collection %r is not imported: its kind is %s", name, kind)
                return []

    def _element(self, name: str, text: str) -> Any:
        full = f"{self._scope}/{text}" if self._scope else text
        try:
            return self._graph.as_graph_element(full)
        except (KeyError, ValueError) as error:
            raise ValueError(f"collection {name!r}: {error.args[0]}") from None

    def _object(self, name: str, functions: _ProtoFunctions, content: bytes) -> Any:
        assert functions.from_proto is not None
        key = functions.from_proto, content
        if key not in self._made:
            proto: Any = content
            if functions.proto_type is not None:
                try:
                    proto = functions.proto_type.FromString(content)
                except DecodeError as error:
                    kind = functions.proto_type.DESCRIPTOR.name
                    raise ValueError(f"collection {name!r} holds no {kind}: {error}") from None
            scope = {"import_scope": self._scope} if self._scope else {}
            try:
                self._made[key] = functions.from_proto(proto, **scope)
            except KeyError as error:
                raise ValueError(f"collection {name!r}: {error.args[0]}") from None
        return self._made[key]
