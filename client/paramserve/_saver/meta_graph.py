"""Graphs in files: exported with their collections and saver, and imported again.

Thread rule: reads or adds to the graph of the calling thread.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from paramserve._framework.collections import GraphKeys
from paramserve._framework.graph import Graph, get_default_graph
from paramserve._framework.meta_graph import create_meta_graph_def, import_meta_graph_def
from paramserve_protos.v1.graph_pb2 import GraphDef
from paramserve_protos.v1.meta_graph_pb2 import MetaGraphDef
from paramserve_protos.v1.saver_pb2 import SaverDef

SAVER_NAMES: Final = ("filename_tensor_name", "save_tensor_name", "restore_op_name")
"""The fields of a SaverDef that name something in a graph."""


def export_meta_graph(
    filename: str | os.PathLike[str] | None = None,
    meta_info_def: MetaGraphDef.MetaInfoDef | None = None,
    graph_def: GraphDef | None = None,
    saver_def: SaverDef | None = None,
    collection_list: Sequence[str] | None = None,
    as_text: bool = False,
    graph: Graph | None = None,
    clear_devices: bool = False,
    *,
    clear_extraneous_savers: bool = False,
    strip_default_attrs: bool = False,
) -> MetaGraphDef:
    """A graph with its collections and saver as one message, which TensorFlow reads.

    Args:
        filename: also write it to this file on this machine.
        meta_info_def: what to say about the graph.
        graph_def: nodes, if not those of the graph.
        saver_def: how the variables are saved.
        collection_list: names of the collections to write; all by default.
        as_text: write the file in text form.
        graph: the graph; the default graph by default.
        clear_devices: leave out where operations are placed.
        clear_extraneous_savers: leave out other savers than that of `saver_def`, and their ops.
        strip_default_attrs: leave out attributes that have the default value of their op, so that
            an older program reads the graph, which knows the op without them.

    Raises:
        OSError: the file cannot be written.
        ValueError: the message would be larger than 2 GiB.
    """
    found = create_meta_graph_def(
        graph,
        graph_def=graph_def,
        meta_info_def=meta_info_def,
        saver_def=saver_def,
        collection_list=collection_list,
        clear_devices=clear_devices,
    )
    if clear_extraneous_savers:
        _remove_savers(found, saver_def)
    if strip_default_attrs:
        _remove_default_attrs(found)
    if filename is not None:
        path = Path(filename)
        text = text_format.MessageToString(found, as_utf8=True).encode() if as_text else None
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(found.SerializeToString() if text is None else text)
        temporary.replace(path)
    return found


def import_definition(
    meta_graph_or_file: MetaGraphDef | str | os.PathLike[str],
    clear_devices: bool = False,
    import_scope: str | None = None,
    input_map: Any = None,
) -> SaverDef | None:
    """Adds a graph to the default graph; see `importing.import_meta_graph`.

    Returns:
        The definition of its saver, with names as they are in this graph; None if it has none.
    """
    message = meta_graph_or_file
    if not isinstance(message, MetaGraphDef):
        message = read_meta_graph_file(message)
    scope = import_meta_graph_def(
        message, clear_devices=clear_devices, import_scope=import_scope, input_map=input_map
    )
    if not message.HasField("saver_def"):
        return None
    return with_scope(message.saver_def, scope)


def with_scope(saver_def: SaverDef, scope: str | None) -> SaverDef:
    """A definition whose ops are in a scope."""
    found = SaverDef()
    found.CopyFrom(saver_def)
    if scope:
        for field in SAVER_NAMES:
            setattr(found, field, f"{scope.rstrip('/')}/{getattr(found, field)}")
    return found


def without_scope(saver_def: SaverDef, scope: str | None) -> SaverDef | None:
    """A definition as it is without a scope; None if its ops are not in it."""
    found = SaverDef()
    found.CopyFrom(saver_def)
    if scope:
        prefix = scope.rstrip("/") + "/"
        for field in SAVER_NAMES:
            name = getattr(found, field)
            if not name.startswith(prefix):
                return None
            setattr(found, field, name.removeprefix(prefix))
    return found


def has_variables(scope: str | None) -> bool:
    """Whether the default graph has variables, in a scope, that a saver would manage."""
    return bool(get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope))


def _remove_savers(message: MetaGraphDef, kept: SaverDef | None) -> None:
    """Takes out the savers of the collection that are not `kept`, and the ops in their scopes."""
    if GraphKeys.SAVERS not in message.collection_def:
        return
    savers = message.collection_def[GraphKeys.SAVERS].bytes_list
    removed = [
        saver
        for saver in map(SaverDef.FromString, savers.value)
        if kept is None or saver.filename_tensor_name != kept.filename_tensor_name
    ]
    scopes = tuple(saver.filename_tensor_name.rpartition("/")[0] + "/" for saver in removed)
    nodes = [node for node in message.graph_def.node if not node.name.startswith(scopes)]
    del message.graph_def.node[:]
    message.graph_def.node.extend(nodes)
    del savers.value[:]
    if kept is not None:
        savers.value.append(kept.SerializeToString())


def _remove_default_attrs(message: MetaGraphDef) -> None:
    info = message.meta_info_def
    defaults = {
        op.name: {a.name: a.default_value for a in op.attr if a.HasField("default_value")}
        for op in info.stripped_op_list.op
    }
    for node in message.graph_def.node:
        for name, value in defaults.get(node.op, {}).items():
            if name in node.attr and node.attr[name] == value:
                del node.attr[name]
    info.stripped_default_attrs = True


def read_meta_graph_file(filename: str | os.PathLike[str]) -> MetaGraphDef:
    """The graph in a file, binary or text.

    Raises:
        OSError: the file does not exist, cannot be read, or holds no MetaGraphDef.
    """
    path = Path(filename)
    if not path.is_file():
        raise OSError(f"File {path} does not exist.")
    content = path.read_bytes()
    found = MetaGraphDef()
    try:
        found.ParseFromString(content)
        return found
    except DecodeError:
        pass
    try:
        text_format.Parse(content.decode(), found)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise OSError(f"{path}: Cannot parse file as MetaGraphDef: {error}") from None
    return found
