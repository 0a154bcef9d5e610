"""Variables that begin as the tensors of a checkpoint, for programs that go on from another model.

A saver restores into a session; this changes the graph: the initializer of each variable reads its
value from the checkpoint, where the variable is. So such a program initializes as any other.

Thread rule: adds to the default graph of the calling thread, whose variables it changes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from paramserve._framework.apply import apply_op
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._ops.io import restore_v2
from paramserve._saver.saveables import Saveable, named_variables, saveables_of
from paramserve._saver.state import latest_checkpoint
from paramserve._variables.collected import global_variables
from paramserve._variables.variable import Variable
from paramserve_core.checkpoint.reader import CheckpointReader
from paramserve_core.shapes import TensorShape


def init_from_checkpoint(
    ckpt_dir_or_file: str | os.PathLike[str], assignment_map: Mapping[str, Any]
) -> None:
    """Makes variables begin as tensors of a checkpoint.

    Call it before what takes the variables' initial values, such as `global_variables_initializer`.
    The checkpoint is read twice: its index on this machine and now, its tensors where the variables
    are, when they are initialized.

    Args:
        ckpt_dir_or_file: a checkpoint, or a directory, of whose checkpoints it is the newest.
        assignment_map: names in the checkpoint to variables, partitioned ones, lists of parts, or
            names of variables in the default graph; or scopes to scopes, which end with "/": each
            variable in the one takes the tensor of its name in the other. "/" is all.

    Raises:
        NotFoundError: there is no checkpoint.
        ValueError: there is no checkpoint in the directory, no variable or no tensor of a name, or
            a shape or type is another in the checkpoint.
    """
    path = os.fspath(ckpt_dir_or_file)
    if os.path.isdir(path):
        newest = latest_checkpoint(path)
        if newest is None:
            raise ValueError(f"Couldn't find 'checkpoint' file or checkpoints in directory {path}")
        path = newest
    reader = CheckpointReader(path)
    pairs = [
        pair for source, target in assignment_map.items() for pair in _pairs(source, target, path)
    ]
    chosen = [
        (variable, saveable)
        for key, value in pairs
        for variable, saveable in zip(_parts(value), saveables_of({key: value}), strict=True)
    ]
    for _, saveable in chosen:
        _check(saveable, reader, path)
    for variable, saveable in chosen:
        variable._begin_as(*_restored(saveable, path))


def _pairs(source: str, target: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Names in the checkpoint with the variables that take them."""
    if not isinstance(target, str):
        yield source, target
        return
    known = named_variables(global_variables())
    if target in known:
        yield source, known[target]
        return
    if not target.endswith("/"):
        raise ValueError(f"{target}: there is no such variable, to begin as {source} of {path!r}")
    if not source.endswith("/"):
        raise ValueError(
            f"Assignment map with scope only name {target} should map from scope only {source}. "
            "Should be 'scope/': 'other_scope/'."
        )
    outer, inner = source.removeprefix("/"), target.removeprefix("/")
    for name, variable in known.items():
        if name.startswith(inner):
            yield outer + name.removeprefix(inner), variable


def _parts(value: Any) -> list[Variable]:
    if isinstance(value, list | tuple):
        return list(value)
    return list(value._get_variable_list()) if hasattr(value, "_get_variable_list") else [value]


def _check(saveable: Saveable, reader: CheckpointReader, path: str) -> None:
    """Raises ValueError unless the checkpoint has what the variable takes."""
    name, key = saveable.op.name, saveable.key
    found = reader.get_variable_to_shape_map().get(key)
    if found is None:
        raise ValueError(f"Tensor {key}, for {name}, is not found in {path} checkpoint")
    wanted = saveable.shape if saveable.part is None else TensorShape(saveable.part.full_shape)
    if not wanted.is_compatible_with(found):
        raise ValueError(
            f"Shape of variable {name} ({wanted}) doesn't match with shape of tensor {key} "
            f"({found}) from checkpoint reader."
        )
    dtype = reader.get_variable_to_dtype_map()[key]
    if dtype is not saveable.ref.dtype.base_dtype:
        raise ValueError(
            f"Type of variable {name} ({saveable.ref.dtype.base_dtype.name}) doesn't match with "
            f"type of tensor {key} ({dtype.name}) from checkpoint reader."
        )


def _restored(saveable: Saveable, path: str) -> tuple[Tensor, Operation]:
    """The value in the checkpoint, and the op that stores it in the variable."""
    graph, op = saveable.ref.graph, saveable.op
    key, part = (
        np.array([text.encode()], np.object_) for text in (saveable.key, saveable.shape_and_slice)
    )
    with (
        graph.as_default(),
        graph.control_dependencies(None),
        graph.name_scope(None),
        graph.name_scope(f"{op.name}/init_from_checkpoint"),
        graph.colocate_with(op, ignore_existing=True),
    ):
        (value,) = restore_v2(path, key, part, [saveable.ref.dtype.base_dtype])
        value.set_shape(saveable.shape)
        assigned: Tensor = apply_op("Assign", "Assign", ref=saveable.ref, value=value)
    return value, assigned.op
