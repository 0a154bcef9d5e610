"""Reading and adding slices of a tensor at index vectors.

`indices` of shape ``[..., depth]`` is an array of vectors; each names the slice of a tensor at
which its numbers lead along the first `depth` axes. The vectors become row numbers of the tensor
seen as a matrix, once all are known to be inside.

Thread rule: pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from paramserve_core.kernels.arguments import check_result_rank, zeros
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import Array, invalid, shape_text
from paramserve_core.kernels.registry import KernelNode
from paramserve_core.kernels.segments import combine

Flags = NDArray[np.bool_]


def gather(params: Array, indices: Array, ignore: bool) -> Array:
    """The slices of `params` that `indices` names, of shape ``[..., slice...]``.

    Args:
        params: of rank `depth` or more.
        indices: index vectors.
        ignore: give zeros for a vector that is outside of `params`, instead of an error.

    Raises:
        InvalidArgumentError: a vector is too long, or outside of `params`.
        ResourceExhaustedError: the result would be too large.
    """
    depth = vector_length("GatherNd", "params", params.shape, indices)
    shape = indices.shape[:-1] + params.shape[depth:]
    check_result_rank("GatherNd", len(shape))
    checked_size(shape, params.itemsize)
    numbers, outside = row_numbers("param", params.shape[:depth], indices, ignore)
    if math.prod(shape) == 0:
        return np.empty(shape, params.dtype)
    if params.size == 0:
        return zeros(shape, params.dtype)
    rows = params.reshape(math.prod(params.shape[:depth]), *params.shape[depth:])
    result = np.take(rows, numbers, 0, mode="clip")
    if outside is not None:
        result[outside] = zeros((), params.dtype)
    return result.reshape(shape)


def scatter(shape: Sequence[int], indices: Array, updates: Array, ignore: bool) -> Array:
    """A tensor of zeros with each of `updates` added to the slice that its index vector names.

    Args:
        shape: of the result.
        indices: index vectors.
        updates: a slice per vector, of shape ``[..., slice...]``.
        ignore: leave out an update whose vector is outside of `shape`, instead of an error.

    Raises:
        InvalidArgumentError: the shapes do not fit, or a vector is outside.
        ResourceExhaustedError: the result would be too large.
    """
    checked_size(shape, updates.itemsize)
    depth = vector_length("ScatterNd", "shape", shape, indices)
    wanted = (*indices.shape[:-1], *shape[depth:])
    if updates.shape != wanted:
        invalid(
            f"ScatterNd: updates must have the shape {shape_text(wanted)}, that of the index "
            f"vectors and then of a slice, but have {shape_text(updates.shape)}"
        )
    numbers, outside = row_numbers("shape", shape[:depth], indices, ignore)
    result = zeros(shape, updates.dtype)
    if result.size and updates.size:
        rows = updates.reshape(len(numbers), -1)
        if outside is not None:
            numbers, rows = numbers[~outside], rows[~outside]
        distinct, _, sums = combine(np.add, numbers, rows)
        result.reshape(math.prod(shape[:depth]), -1)[distinct] = sums
    return result


def ignores_bad_indices(node: KernelNode) -> bool:
    """Whether the op leaves out what is named by a vector that is outside.

    Raises:
        InvalidArgumentError: the op says something else of such vectors.
    """
    policy = node.attrs["bad_indices_policy"]
    if policy not in ("", "DEFAULT", "ERROR", "IGNORE"):
        invalid(f"{node.op}: bad_indices_policy must be ERROR or IGNORE, not {policy!r}")
    return bool(policy == "IGNORE")


def vector_length(op: str, what: str, shape: Sequence[int], indices: Array) -> int:
    """How many axes each index vector speaks of.

    Args:
        op: the op, for the message.
        what: what the vectors index, likewise.
        shape: of that.
        indices: index vectors.

    Raises:
        InvalidArgumentError: there are no vectors, or they are longer than `shape`.
    """
    if indices.ndim == 0:
        invalid(f"{op}: indices must be at least a vector")
    depth: int = indices.shape[-1]
    if depth > len(shape):
        invalid(
            f"{op}: index innermost dimension length must be <= the rank of {what}, but saw "
            f"{depth} vs. {len(shape)}"
        )
    return depth


def row_numbers(
    what: str, bounds: Sequence[int], indices: Array, ignore: bool
) -> tuple[NDArray[np.intp], Flags | None]:
    """The row number of each vector, and which of them are outside (their number is 0).

    Args:
        what: what the vectors index, for the message.
        bounds: the leading sizes of that, as many as the vectors are long.
        indices: index vectors.
        ignore: answer vectors that are outside, instead of an error.

    Raises:
        InvalidArgumentError: a vector is outside.
    """
    # Not -1: the number of vectors may follow from nothing when they are of length 0.
    vectors = indices.reshape(math.prod(indices.shape[:-1]), len(bounds))
    numbers = np.zeros(len(vectors), np.intp)
    outside: Any = np.zeros(len(vectors), np.bool_)
    for axis, bound in enumerate(bounds):
        positions = vectors[:, axis]
        outside |= (positions < 0) | (positions >= bound)
        numbers *= bound
        numbers += positions
    if not outside.any():
        return numbers, None
    if not ignore:
        first = np.unravel_index(int(outside.argmax()), indices.shape[:-1])
        place = ",".join(str(int(i)) for i in first)
        invalid(
            f"indices[{place}] = {indices[first].tolist()} does not index into {what} "
            f"{shape_text(bounds)}"
        )
    numbers[outside] = 0
    return numbers, outside
