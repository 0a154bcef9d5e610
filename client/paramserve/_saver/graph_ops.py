"""The ops of a saver in its graph, and the way back from them.

Saving and restoring goes through the session and needs no ops. They are there for programs that
know a saver only as a `SaverDef`: TensorFlow can run a graph that was exported here, and a
`SaverDef` of TensorFlow's tells here which variables it means.

Thread rule: adds to and reads the graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from paramserve._framework.apply import apply_op
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import Graph
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops.io import merge_v2_checkpoints, restore_v2, save_v2, sharded_filename
from paramserve._saver.saveables import VARIABLE_OPS, Part, Saveable
from paramserve_core.dtypes import int32, string
from paramserve_core.opdefs.io import parse_shape_and_slice
from paramserve_protos.v1.saver_pb2 import SaverDef

Texts = NDArray[np.object_]


def add_ops(
    graph: Graph,
    saveables: Sequence[Saveable],
    *,
    name: str | None,
    reshape: bool,
    sharded: bool,
    in_sequence: bool,
    default_filename: str | bytes = "model",
) -> SaverDef:
    """Adds a saver's ops and answers the definition that names them.

    Args:
        graph: the graph of the variables.
        saveables: the variables.
        name: the scope of the ops; "save" by default.
        reshape: restored values take the shapes of the variables.
        sharded: each device writes its variables by itself.
        in_sequence: restore one variable after the other.
        default_filename: the path where none is fed.
    """
    with graph.as_default(), graph.name_scope(name or "save"):
        default = apply_op(
            "Const",
            "filename/input",
            value=np.array(os.fsencode(default_filename), np.object_),
            dtype=string,
        )
        named = apply_op("PlaceholderWithDefault", "filename", input=default, shape=[])
        path = apply_op("PlaceholderWithDefault", "Const", input=named, shape=[])
        groups = _by_device(saveables) if sharded else [("", list(saveables))]
        if sharded:
            saved = _save_sharded(graph, path, groups)
        else:
            saved = _save(graph, path, path, saveables)
        restored = []
        for device, group in groups:
            with graph.device(device):
                assigned = _restore(graph, path, group, reshape=reshape, in_sequence=in_sequence)
                if sharded:
                    assigned = [_group(graph, assigned, "restore_shard")]
            restored += assigned
        restore_all = _group(graph, restored, "restore_all")
    return SaverDef(
        filename_tensor_name=path.name,
        save_tensor_name=saved.name,
        restore_op_name=restore_all.name,
        sharded=sharded,
        version=SaverDef.V2,
    )


def saveables_in(graph: Graph, definition: SaverDef) -> list[Saveable]:
    """The variables that a definition's restore op assigns, and their names in checkpoints.

    Raises:
        ValueError: the graph does not have the ops, or they are not as a saver makes them.
    """
    try:
        root = graph.get_operation_by_name(definition.restore_op_name)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the saver's restore op {definition.restore_op_name!r} is not in the session's graph: "
            "import the graph that the saver was made in"
        ) from error
    found = {}
    for op in _reachable(root):
        if op.type == "Assign" and op.inputs[0].op.type in VARIABLE_OPS:
            saveable = _saveable(op)
            if saveable is not None:
                found[saveable.ref] = saveable
    if not found:
        raise ValueError(
            f"the saver's restore op {root.name!r} restores no variable that is known here"
        )
    return list(found.values())


def _save(graph: Graph, path: Tensor, result: Tensor, saveables: Sequence[Saveable]) -> Tensor:
    op = save_v2(path, *_names(saveables), [saveable.ref for saveable in saveables])
    with graph.control_dependencies([op]):
        saved: Tensor = apply_op("Identity", "control_dependency", input=result)
    return saved


def _save_sharded(
    graph: Graph, path: Tensor, groups: Sequence[tuple[str, list[Saveable]]]
) -> Tensor:
    count = convert_to_tensor(len(groups), int32, "num_shards")
    files, saved = [], []
    for shard, (device, group) in enumerate(groups):
        with graph.device(device):
            file = sharded_filename(path, convert_to_tensor(shard, int32, "shard"), count)
            files.append(file)
            saved.append(_save(graph, file, file, group))
    with graph.control_dependencies([tensor.op for tensor in saved]):
        merge = merge_v2_checkpoints(apply_op("Pack", "prefixes", values=files), path)
    with graph.control_dependencies([merge]):
        result: Tensor = apply_op("Identity", "Identity", input=path)
    return result


def _restore(
    graph: Graph,
    path: Tensor,
    saveables: Sequence[Saveable],
    *,
    reshape: bool,
    in_sequence: bool,
) -> list[Operation]:
    groups = [[saveable] for saveable in saveables] if in_sequence else [list(saveables)]
    assigned: list[Operation] = []
    for group in groups:
        with graph.control_dependencies(assigned[-1:] if in_sequence else []):
            types = [saveable.ref.dtype.base_dtype for saveable in group]
            values = restore_v2(path, *_names(group), types)
        for saveable, value in zip(group, values, strict=True):
            assigned.append(_assign(graph, saveable, value, reshape=reshape))
    return assigned


def _assign(graph: Graph, saveable: Saveable, value: Tensor, *, reshape: bool) -> Operation:
    shape = saveable.shape
    with graph.colocate_with(saveable.op):
        if reshape and shape.is_fully_defined():
            sizes = convert_to_tensor(np.array(shape.as_list(), np.int32), name="Reshape/shape")
            value = apply_op("Reshape", "Reshape", tensor=value, shape=sizes)
        assigned: Tensor = apply_op(
            "Assign",
            "Assign",
            ref=saveable.ref,
            value=value,
            validate_shape=not reshape and shape.is_fully_defined(),
        )
    return assigned.op


def _names(saveables: Sequence[Saveable]) -> tuple[Texts, Texts]:
    keys = [saveable.key.encode() for saveable in saveables]
    parts = [saveable.shape_and_slice.encode() for saveable in saveables]
    return np.array(keys, np.object_), np.array(parts, np.object_)


def _group(graph: Graph, ops: Sequence[Operation], name: str) -> Operation:
    with graph.control_dependencies(ops):
        op: Operation = apply_op("NoOp", name)
    return op


def _by_device(saveables: Sequence[Saveable]) -> list[tuple[str, list[Saveable]]]:
    ordered = sorted(saveables, key=lambda saveable: saveable.op.device)
    return [(device, list(g)) for device, g in groupby(ordered, lambda s: s.op.device)]


def _reachable(root: Operation) -> Iterator[Operation]:
    """The ops that `root` waits for, itself first, not looking behind assignments."""
    seen = {root}
    waiting = [root]
    while waiting:
        op = waiting.pop()
        yield op
        if op.type == "Assign":
            continue
        for other in (*op.control_inputs, *(tensor.op for tensor in op.inputs)):
            if other not in seen:
                seen.add(other)
                waiting.append(other)


def _saveable(assign: Operation) -> Saveable | None:
    """What an assignment restores; None if its value does not come from a checkpoint."""
    value = assign.inputs[1]
    while value.op.type in ("Reshape", "Identity"):
        value = value.op.inputs[0]
    source = value.op
    if source.type not in ("RestoreV2", "RestoreSlice", "Restore"):
        return None
    keys = _constant(source.inputs[1])
    parts = _constant(source.inputs[2]) if len(source.inputs) > 2 else None
    key = keys[value.value_index].decode()
    parsed = None
    if parts is not None:
        parsed = parse_shape_and_slice(parts[value.value_index].decode())
    part = None if parsed is None else Part(*map(tuple, parsed))
    return Saveable(key, assign.inputs[0], part)


def _constant(tensor: Tensor) -> list[bytes]:
    if tensor.op.type != "Const":
        raise ValueError(
            f"{tensor.op.name}: the names in the checkpoint are computed, so the variables that "
            "belong to them are not known; make a Saver of the variables themselves"
        )
    found: list[bytes] = np.atleast_1d(tensor.op.attrs["value"]).tolist()
    return found
