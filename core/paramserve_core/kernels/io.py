"""Kernels that write tensors to checkpoints and read them.

They reach the disk through the step, which confines paths as the task's own checkpoint calls do.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint.graph_files import GraphFiles
from paramserve_core.checkpoint.shard import TakenTensor
from paramserve_core.checkpoint.slices import Box
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    UnimplementedError,
)
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_core.opdefs.io import parse_shape_and_slice

Array = NDArray[Any]

_PATTERN: Final = re.compile(r"\^?(?P<text>[\w:/ -]*)(?P<rest>\.\*)?\$?", re.ASCII)


@kernel("SaveV2", takes_step=True)
def _save(
    node: KernelNode, step: Any, prefix: Array, names: Array, slices: Array, *tensors: Array
) -> None:
    keys = _strings(names, len(tensors), "tensor_names")
    parts = _strings(slices, len(tensors), "shape_and_slices")
    taken = []
    for key, part, array, dtype in zip(keys, parts, tensors, node.attrs["dtypes"], strict=True):
        shape, box = tuple(array.shape), Box.whole(array.shape)
        parsed = _parse(part)
        if parsed is not None:
            shape, box = parsed
            if box.shape != array.shape:
                raise InvalidArgumentError(
                    None,
                    None,
                    f"{key}: a tensor of shape {list(array.shape)} for the part {part!r}",
                )
        taken.append(TakenTensor(key, dtype, shape, box, array))
    _files(step).save(_string(prefix, "prefix"), taken)


@kernel("RestoreV2", takes_step=True)
def _restore(
    node: KernelNode, step: Any, prefix: Array, names: Array, slices: Array
) -> Array | tuple[Array, ...]:
    dtypes = node.attrs["dtypes"]
    keys = _strings(names, len(dtypes), "tensor_names")
    parts = _strings(slices, len(dtypes), "shape_and_slices")
    path = _string(prefix, "prefix")
    wanted = []
    for key, part, dtype in zip(keys, parts, dtypes, strict=True):
        parsed = _parse(part)
        wanted.append((key, dtype, None if parsed is None else parsed[1]))
    arrays = _files(step).restore(path, wanted)
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


@kernel("Restore", takes_step=True)
def _restore_one(node: KernelNode, step: Any, pattern: Array, name: Array) -> Array:
    wanted = [(_string(name, "tensor_name"), node.attrs["dt"], None)]
    return _files(step).restore(_string(pattern, "file_pattern"), wanted)[0]


@kernel("RestoreSlice", takes_step=True)
def _restore_slice(node: KernelNode, step: Any, pattern: Array, name: Array, part: Array) -> Array:
    parsed = _parse(_string(part, "shape_and_slice"))
    box = None if parsed is None else parsed[1]
    wanted = [(_string(name, "tensor_name"), node.attrs["dt"], box)]
    return _files(step).restore(_string(pattern, "file_pattern"), wanted)[0]


@kernel("MergeV2Checkpoints", takes_step=True)
def _merge(node: KernelNode, step: Any, prefixes: Array, destination: Array) -> None:
    if prefixes.ndim != 1:
        raise InvalidArgumentError(
            None, None, f"checkpoint_prefixes has shape {list(prefixes.shape)}, wanted a vector"
        )
    sources = _strings(prefixes, prefixes.size, "checkpoint_prefixes")
    _files(step).merge(
        sources,
        _string(destination, "destination_prefix"),
        delete_directories=node.attrs["delete_old_dirs"],
    )


@kernel("ShardedFilename")
def _sharded_filename(node: KernelNode, basename: Array, shard: Array, count: Array) -> Array:
    name = _string(basename, "basename")
    return np.array(f"{name}-{int(shard):05}-of-{int(count):05}".encode(), np.object_)


@kernel("ShardedFilespec")
def _sharded_filespec(node: KernelNode, basename: Array, count: Array) -> Array:
    name = _string(basename, "basename")
    return np.array(f"{name}-?????-of-{int(count):05}".encode(), np.object_)


@kernel("StringJoin")
def _join(node: KernelNode, *inputs: Array) -> Array:
    separator = node.attrs["separator"].encode()
    try:
        parts = np.broadcast_arrays(*inputs)
    except ValueError:
        shapes = ", ".join(str(list(array.shape)) for array in inputs)
        raise InvalidArgumentError(
            None, None, f"strings of shapes {shapes} cannot be joined; wanted one shape, or scalars"
        ) from None
    result = np.empty(parts[0].shape if parts else (), np.object_)
    columns = [part.reshape(-1).tolist() for part in parts]
    flat = [separator.join(row) for row in zip(*columns, strict=True)] if parts else [b""]
    result.reshape(-1)[:] = flat
    return result


@kernel("StaticRegexFullMatch")
def _full_match(node: KernelNode, texts: Array) -> Array:
    pattern = node.attrs["pattern"]
    match = _PATTERN.fullmatch(pattern)
    if match is None:
        raise UnimplementedError(
            None,
            None,
            f"the pattern {pattern[:200]!r}: only plain text with '.*' at its end is matched here, "
            "because a general pattern can keep a server busy for ever",
        )
    prefix = match["text"].encode()
    is_open = match["rest"] is not None
    found = [t.startswith(prefix) if is_open else t == prefix for t in texts.reshape(-1).tolist()]
    return np.array(found, np.bool_).reshape(texts.shape)


def _files(step: Any) -> GraphFiles:
    files: GraphFiles | None = step.files
    if files is None:
        raise FailedPreconditionError(
            None, None, "there is no disk here for checkpoints; use Saver.save and Saver.restore"
        )
    return files


def _parse(part: str) -> tuple[tuple[int, ...], Box] | None:
    try:
        parsed = parse_shape_and_slice(part)
    except ValueError as error:
        raise InvalidArgumentError(None, None, str(error)) from None
    if parsed is None:
        return None
    shape, begin, length = parsed
    return tuple(shape), Box(tuple(begin), tuple(length))


def _string(value: Array, what: str) -> str:
    if value.ndim:
        raise InvalidArgumentError(
            None, None, f"{what} has shape {list(value.shape)}, wanted a scalar"
        )
    return _text(value.item(), what)


def _strings(values: Array, count: int, what: str) -> list[str]:
    if values.shape != (count,):
        raise InvalidArgumentError(
            None, None, f"{what} has shape {list(values.shape)}, wanted [{count}]: one per tensor"
        )
    return [_text(value, what) for value in values.tolist()]


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidArgumentError(None, None, f"{what}: {value[:100]!r} is not UTF-8") from None
