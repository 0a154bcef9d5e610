"""Ops that write tensors to checkpoints and read them, as TensorFlow's savers put them in graphs.

A `Saver` of this package asks the session to save and restore, and needs none of these to run.
They are in its graph all the same, so that TensorFlow can run a graph that was exported here, and
a graph of TensorFlow's can be run here.

Two ops on strings are among them, because TensorFlow's sharded savers compute the paths of parts.

`shape_and_slices` says which part of a tensor is meant: nothing for the whole, else the whole
shape and per dimension a range or "-": ``"784 200 0,100:-"``.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    int_attr,
    register_op,
    string_attr,
    type_attr,
    type_list_attr,
)
from paramserve_core.shapes import TensorShape


def parse_shape_and_slice(text: str) -> tuple[list[int], list[int], list[int]] | None:
    """What an element of `shape_and_slices` says.

    Returns:
        The whole shape, and where the part begins and its shape; None for the whole of a tensor.

    Raises:
        ValueError: it is malformed, or the part is not within the shape.
    """
    if not text:
        return None
    *sizes, ranges = text.split(" ")
    parts = ranges.split(":") if ranges else []
    malformed = ValueError(f"{text[:200]!r} is no shape and slice, such as '784 200 0,100:-'")
    if len(sizes) != len(parts):
        raise malformed
    shape, begin, length = [], [], []
    for size, part in zip(sizes, parts, strict=True):
        first, comma, count = part.partition(",")
        numbers = [size, "0", size] if part == "-" else [size, first, count]
        if (part != "-" and not comma) or not all(n.isascii() and n.isdigit() for n in numbers):
            raise malformed
        full, start, extent = (int(number) for number in numbers)
        if start + extent > full:
            raise ValueError(f"{text[:200]!r}: the part is not within the shape")
        shape.append(full)
        begin.append(start)
        length.append(extent)
    return shape, begin, length


def format_shape_and_slice(
    shape: Sequence[int], begin: Sequence[int], length: Sequence[int]
) -> str:
    """An element of `shape_and_slices`; see `parse_shape_and_slice`. A scalar has no parts."""
    ranges = [
        "-" if extent == full else f"{start},{extent}"
        for full, start, extent in zip(shape, begin, length, strict=True)
    ]
    return " ".join([*map(str, shape), ":".join(ranges)]) if ranges else ""


def _saved(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.require_rank(ctx, 0, 0)
    return []


def _restored(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.require_rank(ctx, 0, 0)
    found = ctx.constant(2)
    count = len(ctx.attrs["dtypes"])
    if found is None:
        return [shapes.UNKNOWN] * count
    if found.shape != (count,):
        raise shapes.shape_error(ctx, f"There are {count} tensors, and as many slices are needed")
    return [_part(text) for text in found.tolist()]


def _restored_one(ctx: ShapeContext) -> Sequence[TensorShape]:
    shapes.require_rank(ctx, 0, 0)
    return [shapes.UNKNOWN]


def _restored_slice(ctx: ShapeContext) -> Sequence[TensorShape]:
    found = ctx.constant(2)
    return [shapes.UNKNOWN if found is None or found.ndim else _part(found.item())]


def _joined(ctx: ShapeContext) -> Sequence[TensorShape]:
    """Scalars go with any shape; the others have one shape."""
    if any(shape.ndims is None for shape in ctx.input_shapes):
        return [shapes.UNKNOWN]
    return [shapes.merge_shapes(ctx, [s for s in ctx.input_shapes if s.ndims] or [shapes.SCALAR])]


def _part(text: bytes) -> TensorShape:
    parsed = parse_shape_and_slice(text.decode(errors="replace"))
    return shapes.UNKNOWN if parsed is None else TensorShape(parsed[2])


register_op(
    "SaveV2",
    inputs="prefix: string, tensor_names: string, shape_and_slices: string, tensors: dtypes",
    attrs={"dtypes": type_list_attr(minimum=1)},
    shape=_saved,
    has_effect=True,
)
register_op(
    "RestoreV2",
    inputs="prefix: string, tensor_names: string, shape_and_slices: string",
    outputs="tensors: dtypes",
    attrs={"dtypes": type_list_attr(minimum=1)},
    shape=_restored,
    is_stateful=True,
)
register_op(
    "MergeV2Checkpoints",
    inputs="checkpoint_prefixes: string, destination_prefix: string",
    attrs={"delete_old_dirs": bool_attr(True), "allow_missing_files": bool_attr(False)},
    shape=shapes.no_outputs,
    has_effect=True,
)
register_op(
    "Restore",
    inputs="file_pattern: string, tensor_name: string",
    outputs="tensor: dt",
    attrs={"dt": type_attr(), "preferred_shard": int_attr(-1)},
    shape=_restored_one,
    is_stateful=True,
)
register_op(
    "RestoreSlice",
    inputs="file_pattern: string, tensor_name: string, shape_and_slice: string",
    outputs="tensor: dt",
    attrs={"dt": type_attr(), "preferred_shard": int_attr(-1)},
    shape=_restored_slice,
    is_stateful=True,
)
register_op(
    "ShardedFilename",
    inputs="basename: string, shard: int32, num_shards: int32",
    outputs="filename: string",
    shape=shapes.scalar,
)
register_op(
    "ShardedFilespec",
    inputs="basename: string, num_shards: int32",
    outputs="filename: string",
    shape=shapes.scalar,
)
register_op(
    "StringJoin",
    inputs="inputs: N * string",
    outputs="output: string",
    attrs={"N": int_attr(minimum=0), "separator": string_attr("")},
    shape=_joined,
)
register_op(
    "StaticRegexFullMatch",
    inputs="input: string",
    outputs="output: bool",
    attrs={"pattern": string_attr()},
    shape=shapes.unchanged,
)
