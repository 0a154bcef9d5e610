"""One index of what the tasks wrote.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from paramserve_core.checkpoint.columns import whole_tensors
from paramserve_core.checkpoint.contents import Form, read_contents, read_rows
from paramserve_core.checkpoint.index import (
    Index,
    Layout,
    Part,
    StoredFile,
    StoredTensor,
    stored_name,
)
from paramserve_core.checkpoint.slices import cover
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
    tensors: Mapping[str, StoredTensor] | None = None
    if layout is Layout.SAFETENSORS:
        sizes = {shard.chunk_bytes for shard in shards}
        if len(sizes) > 1:
            raise InvalidArgumentError(
                None,
                None,
                f"the tasks' files have checksums of chunks of {sorted(sizes)} bytes; give all "
                "servers the same version",
            )
        tensors = whole_tensors([read_rows(shard) for shard in shards])
    if tensors is None:
        tensors = _by_name(layout, shards, is_complete=is_complete)
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


def _by_name(
    layout: Layout, shards: Sequence[messages.WriteShardResponse], *, is_complete: bool
) -> Mapping[str, StoredTensor]:
    """The tensors, of which the parts may be in several files."""
    found: dict[str, StoredTensor] = {}
    in_parts: set[str] = set()
    for shard in shards:
        for key, form, part in read_contents(shard):
            earlier = found.get(key)
            if earlier is not None:
                found[key] = _with(key, earlier, form, part)
            else:
                found[key] = StoredTensor(form.dtype, form.shape, (part,))
            if earlier is not None or not form.is_whole:
                in_parts.add(key)
    tensors = {key: found[key] for key in sorted(found)}
    for key in sorted(in_parts):
        tensor = tensors[key]
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
        _check_names(tensors, sorted(in_parts))
    elif "" in tensors:
        raise InvalidArgumentError(
            None,
            None,
            "a variable would be saved under the empty name, which in TensorFlow's format is the "
            "header's; give it another: Saver({'name': variable})",
        )
    return tensors


def _with(key: str, earlier: StoredTensor, form: Form, part: Part) -> StoredTensor:
    """A tensor of which another part was found."""
    if (earlier.dtype, earlier.shape) != (form.dtype, form.shape):
        raise InvalidArgumentError(
            None,
            None,
            f"{key}: two variables of this name differ: {earlier.dtype.name} "
            f"{list(earlier.shape)} and {form.dtype.name} {list(form.shape)}; rename one with "
            "Saver({...})",
        )
    return StoredTensor(form.dtype, form.shape, (*earlier.parts, part))


def _check_names(tensors: Mapping[str, StoredTensor], in_parts: Iterable[str]) -> None:
    """Refuses a tensor whose name is that of a part of another; what is whole has its own name."""
    names: set[str] = set()
    for key in in_parts:
        tensor = tensors[key]
        for part in tensor.parts:
            name = stored_name(key, part.box, tensor.shape)
            if name in names or (name != key and name in tensors):
                raise InvalidArgumentError(
                    None, None, f"two variables would be saved under the name {name!r}; rename one"
                )
            names.add(name)
