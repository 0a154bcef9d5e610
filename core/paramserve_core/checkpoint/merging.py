"""One index of what the tasks wrote.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from paramserve_core.checkpoint.index import (
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
    stored_name,
)
from paramserve_core.checkpoint.json_fields import MAX_RANK
from paramserve_core.checkpoint.slices import Box, box_of_slice, cover
from paramserve_core.dtypes import DType, as_dtype
from paramserve_core.errors import InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages


def merge_shards(
    layout: Layout,
    shards: Sequence[messages.WriteShardResponse],
    *,
    save_id: str = "",
    generation: int = 0,
    step: int | None = None,
    graph_hash: str = "",
    meta_graph: str = "",
    writer: str = "",
    tasks: Sequence[str] = (),
    is_complete: bool = True,
) -> Index:
    """The index of a checkpoint of which each task describes its file.

    `tasks` names them, if anybody needs to know. With `is_complete` false the parts of a tensor may
    be some of it only.

    Raises:
        InvalidArgumentError: two tasks have the same tensor or overlapping parts of it, disagree
            about its type or shape, or the parts do not make a whole.
    """
    found: dict[str, StoredTensor] = {}
    for shard in shards:
        for message in shard.tensors:
            _add(found, shard, message)
    tensors = {key: found[key] for key in sorted(found)}
    for key, tensor in tensors.items():
        if is_complete and not cover([part.box for part in tensor.parts], tensor.shape):
            boxes = ", ".join(str(part.box) for part in tensor.parts)
            raise InvalidArgumentError(
                None,
                None,
                f"{key}: the variables of this name hold {boxes} of a tensor of shape "
                f"{list(tensor.shape)}; they must make it up without overlap: give variables that "
                "are not parts of one tensor different names with Saver({...})",
            )
    if layout is Layout.SAFETENSORS:
        _check_names(tensors.items())
    elif "" in tensors:
        raise InvalidArgumentError(
            None,
            None,
            "a variable would be saved under the empty name, which in TensorFlow's format is the "
            "header's; give it another: Saver({'name': variable})",
        )
    return Index(
        layout=layout,
        tensors=tensors,
        files={
            shard.file: StoredFile(
                nbytes=shard.bytes,
                header_bytes=shard.header_bytes,
                header_checksum=shard.header_checksum,
            )
            for shard in shards
        },
        save_id=save_id,
        generation=generation,
        step=step,
        graph_hash=graph_hash,
        meta_graph=meta_graph,
        writer=writer,
        writers={s.file: task for s, task in zip(shards, tasks, strict=False) if task},
    )


def _add(
    found: dict[str, StoredTensor],
    shard: messages.WriteShardResponse,
    message: messages.ShardTensor,
) -> None:
    key = message.key
    try:
        dtype = _dtype(message.dtype)
    except TypeError as error:
        raise InvalidArgumentError(None, None, f"{key}: {error}") from None
    shape = tuple([dim.size for dim in message.shape.dim])
    is_whole = not message.HasField("slice")
    box = Box.whole(shape) if is_whole else box_of_slice(message.slice)
    part = Part(
        box=box,
        file=shard.file,
        offset=message.offset,
        nbytes=message.bytes,
        checksums=tuple(message.checksums),
        chunk_bytes=shard.chunk_bytes,
        record=message.record,
    )
    is_within = message.offset + message.bytes <= shard.bytes and shard.chunk_bytes > 0
    # A shape with a negative size does not hold its own whole.
    fits = min(shape, default=0) >= 0 and (is_whole or box.fits(shape))
    if len(shape) > MAX_RANK or not fits or not is_within:
        raise InvalidArgumentError(
            None, None, f"{key}: its place in {shard.file} or its shape {shape} cannot be right"
        )
    earlier = found.get(key)
    if earlier is None:
        found[key] = StoredTensor(dtype, shape, (part,))
        return
    if (earlier.dtype, earlier.shape) != (dtype, shape):
        raise InvalidArgumentError(
            None,
            None,
            f"{key}: two variables of this name differ: {earlier.dtype.name} "
            f"{list(earlier.shape)} and {dtype.name} {list(shape)}; rename one with Saver({{...}})",
        )
    found[key] = StoredTensor(dtype, shape, (*earlier.parts, part))


@lru_cache(maxsize=64)
def _dtype(number: int) -> DType:
    return as_dtype(number)


def _check_names(tensors: Iterable[tuple[str, StoredTensor]]) -> None:
    names: set[str] = set()
    for key, tensor in tensors:
        for part in tensor.parts:
            name = stored_name(key, part.box, tensor.shape)
            if name in names:
                raise InvalidArgumentError(
                    None, None, f"two variables would be saved under the name {name!r}; rename one"
                )
            names.add(name)
