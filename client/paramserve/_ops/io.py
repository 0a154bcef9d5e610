"""Functions that write tensors to checkpoints and read them: what a `Saver` puts into a graph.

Programs use `train.Saver`; these are for graphs that other programs run.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramserve._framework.apply import apply_op
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, TensorLike

__all__ = [
    "merge_v2_checkpoints",
    "restore_v2",
    "save_v2",
    "sharded_filename",
    "sharded_filespec",
]


def save_v2(
    prefix: TensorLike,
    tensor_names: TensorLike,
    shape_and_slices: TensorLike,
    tensors: Sequence[Any],
    name: str | None = None,
) -> Operation:
    """Writes tensors to a checkpoint of TensorFlow's V2 format.

    Args:
        prefix: scalar string, the checkpoint's path.
        tensor_names: `[n]` strings, the names in the checkpoint.
        shape_and_slices: `[n]` strings, empty for a whole tensor, else which part of a larger one
            it is, such as "784 200 0,100:-".
        tensors: n tensors or variables.
        name: the name of the op.
    """
    result: Operation = apply_op(
        "SaveV2",
        name,
        prefix=prefix,
        tensor_names=tensor_names,
        shape_and_slices=shape_and_slices,
        tensors=tensors,
    )
    return result


def restore_v2(
    prefix: TensorLike,
    tensor_names: TensorLike,
    shape_and_slices: TensorLike,
    dtypes: Sequence[DTypeLike],
    name: str | None = None,
) -> list[Tensor]:
    """Reads tensors from a checkpoint of any format.

    Args:
        prefix: scalar string, the checkpoint's path.
        tensor_names: `[n]` strings, the names in the checkpoint.
        shape_and_slices: `[n]` strings, empty for a whole tensor, else which part of it.
        dtypes: n types, which must be those in the checkpoint.
        name: the name of the op.

    Returns:
        n tensors.
    """
    result: list[Tensor] = apply_op(
        "RestoreV2",
        name,
        prefix=prefix,
        tensor_names=tensor_names,
        shape_and_slices=shape_and_slices,
        dtypes=dtypes,
    )
    return result


def merge_v2_checkpoints(
    checkpoint_prefixes: TensorLike,
    destination_prefix: TensorLike,
    delete_old_dirs: bool = True,
    name: str | None = None,
) -> Operation:
    """Makes one checkpoint of several on the same disk that have a part of it each.

    Args:
        checkpoint_prefixes: `[n]` strings, their paths.
        destination_prefix: scalar string, the path of the one.
        delete_old_dirs: also delete their directories, if these are empty then.
        name: the name of the op.
    """
    result: Operation = apply_op(
        "MergeV2Checkpoints",
        name,
        checkpoint_prefixes=checkpoint_prefixes,
        destination_prefix=destination_prefix,
        delete_old_dirs=delete_old_dirs,
    )
    return result


def sharded_filename(
    basename: TensorLike, shard: TensorLike, num_shards: TensorLike, name: str | None = None
) -> Tensor:
    """The path of one part of a checkpoint: `<basename>-00001-of-00004`."""
    result: Tensor = apply_op(
        "ShardedFilename", name, basename=basename, shard=shard, num_shards=num_shards
    )
    return result


def sharded_filespec(
    basename: TensorLike, num_shards: TensorLike, name: str | None = None
) -> Tensor:
    """What names all parts of a checkpoint: `<basename>-?????-of-00004`."""
    result: Tensor = apply_op("ShardedFilespec", name, basename=basename, num_shards=num_shards)
    return result
