"""Kernels that make, shape, join, cut and arrange tensors.

What only looks at elements in another order or shape is a view where NumPy has one; a view of a
variable is a lease on it, and ends with the last use of it in the step.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramserve_core.errors import UnimplementedError
from paramserve_core.kernels import diagonals, joining, padding
from paramserve_core.kernels.arguments import (
    axes_value,
    check_axis,
    check_indices,
    check_result_rank,
    shape_value,
    vector_value,
    zero_of,
    zeros,
)
from paramserve_core.kernels.conversions import convert
from paramserve_core.kernels.limits import checked_size
from paramserve_core.kernels.numerics import (
    Array,
    check_rank,
    invalid,
    quiet,
    scalar_value,
    shape_text,
)
from paramserve_core.kernels.registry import KernelNode, kernel

# Values out of nothing, or out of a shape.


@kernel("Const")
def _const(node: KernelNode) -> Array:
    value: Array = node.attrs["value"]
    return value


@kernel("Placeholder", "PlaceholderV2")
def _placeholder(node: KernelNode) -> Array:
    invalid(
        f"You must feed a value for placeholder tensor '{node.name}' with dtype "
        f"{node.output_dtypes[0].name} and shape {node.attrs['shape']}: pass it to run() in "
        "feed_dict"
    )


@kernel("PlaceholderWithDefault")
def _placeholder_with_default(node: KernelNode, value: Array) -> Array:
    declared = node.attrs["shape"]
    if not declared.is_compatible_with(value.shape):
        invalid(
            f"the default of placeholder '{node.name}' has shape {list(value.shape)}, the "
            f"placeholder is declared with shape {declared}"
        )
    return value


@kernel("ZerosLike")
def _zeros_like(node: KernelNode, x: Array) -> Array:
    return zeros(x.shape, x.dtype)


@kernel("OnesLike")
def _ones_like(node: KernelNode, x: Array) -> Array:
    return np.ones(x.shape, x.dtype)


@kernel("Fill")
def _fill(node: KernelNode, dims: Array, value: Array) -> Array:
    shape = shape_value("Fill", "dims", dims)
    check_rank("Fill", "value", value, 0)
    checked_size(shape, value.itemsize)
    # -0.0 is no zero here: its bits are not.
    if value.dtype != object and not any(value.tobytes()):
        return zeros(shape, value.dtype)
    return np.full(shape, value, value.dtype)


# The same value.


@kernel("Identity", "StopGradient", "PreventGradient")
def _identity(node: KernelNode, value: Array) -> Array:
    return value


@kernel("IdentityN")
def _identity_n(node: KernelNode, *values: Array) -> Any:
    return values if len(values) > 1 else values[0]


@kernel("EnsureShape")
def _ensure_shape(node: KernelNode, value: Array) -> Array:
    wanted = node.attrs["shape"]
    if not wanted.is_compatible_with(value.shape):
        invalid(
            f"Shape of tensor {shape_text(value.shape)} is not compatible with the expected shape "
            f"{wanted}"
        )
    return value


@kernel("CheckNumerics")
def _check_numerics(node: KernelNode, value: Array) -> Array:
    if not np.isfinite(value).all():
        found = [
            name for name, test in (("Inf", np.isinf), ("NaN", np.isnan)) if np.any(test(value))
        ]
        invalid(f"{node.attrs['message']} : Tensor had {' and '.join(found)} values")
    return value


@kernel("Cast")
@quiet
def _cast(node: KernelNode, x: Array) -> Array:
    wanted = np.dtype(node.output_dtypes[0].as_numpy_dtype)
    if x.dtype != wanted and object in (x.dtype, wanted):
        source, target = node.attrs["SrcT"].name, node.attrs["DstT"].name
        raise UnimplementedError(None, None, f"Cast {source} to {target} is not supported")
    return convert(x, wanted, node.attrs["Truncate"])


@kernel("Bitcast")
def _bitcast(node: KernelNode, value: Array) -> Array:
    wanted = np.dtype(node.output_dtypes[0].as_numpy_dtype)
    before, after = value.itemsize, wanted.itemsize
    shape = value.shape
    if before > after:
        shape = (*shape, before // after)
        check_result_rank("Bitcast", len(shape))
    elif before < after:
        if not shape or shape[-1] != after // before:
            invalid(
                f"Cannot bitcast from {node.attrs['T'].name} to {node.attrs['type'].name}: the "
                f"last dimension must be {after // before}, the shape is {shape_text(shape)}"
            )
        shape = shape[:-1]
    # As a vector: NumPy views a scalar in no other size.
    return np.ascontiguousarray(value).reshape(-1).view(wanted).reshape(shape)


# Shapes as values.


@kernel("Shape", "ShapeN")
def _shape(node: KernelNode, *values: Array) -> Any:
    dtype = node.output_dtypes[0].as_numpy_dtype
    for value in values:
        if any(size > np.iinfo(dtype).max for size in value.shape):
            invalid(f"{node.op}: the shape {shape_text(value.shape)} does not fit 32 bits")
    shapes = tuple(np.array(value.shape, dtype) for value in values)
    return shapes if len(shapes) > 1 else shapes[0]


@kernel("Size")
def _size(node: KernelNode, value: Array) -> Array:
    dtype = node.output_dtypes[0].as_numpy_dtype
    if value.size > np.iinfo(dtype).max:
        invalid(f"Size: {value.size} elements do not fit 32 bits; use out_type=int64")
    return np.array(value.size, dtype)


@kernel("Rank")
def _rank(node: KernelNode, value: Array) -> Array:
    return np.array(value.ndim, np.int32)


@kernel("BroadcastArgs")
def _broadcast_args(node: KernelNode, s0: Array, s1: Array) -> Array:
    first, second = _aligned_shapes(node.op, s0, s1)
    # A size of 1 yields to any other, be it 0 or less.
    pairs = zip(first, second, strict=True)
    return np.array([b if a == 1 else a for a, b in pairs], s0.dtype)


@kernel("BroadcastGradientArgs")
def _broadcast_gradient_args(node: KernelNode, s0: Array, s1: Array) -> tuple[Array, Array]:
    first, second = _aligned_shapes(node.op, s0, s1)
    stretched: tuple[list[int], list[int]] = ([], [])
    if not np.array_equal(s0, s1):
        for axis, (a, b) in enumerate(zip(first, second, strict=True)):
            # Where both are 1 a sum changes nothing, and TensorFlow names the axis.
            if a == 1:
                stretched[0].append(axis)
            if b == 1:
                stretched[1].append(axis)
    return np.array(stretched[0], s0.dtype), np.array(stretched[1], s0.dtype)


def _aligned_shapes(op: str, s0: Array, s1: Array) -> tuple[list[int], list[int]]:
    """Two shapes that broadcast, the shorter one with sizes of 1 in front."""
    first, second = shape_value(op, "s0", s0), shape_value(op, "s1", s1)
    length = max(len(first), len(second))
    a = [1] * (length - len(first)) + first
    b = [1] * (length - len(second)) + second
    if any(x != y and x != 1 and y != 1 for x, y in zip(a, b, strict=True)):
        invalid(f"Incompatible shapes: {shape_text(first)} vs. {shape_text(second)}")
    return a, b


# Another shape.


@kernel("Reshape")
def _reshape(node: KernelNode, tensor: Array, shape: Array) -> Array:
    wanted = shape_value("Reshape", "shape", shape)
    if wanted.count(-1) > 1:
        invalid(f"Reshape: only one input size may be -1, the shape is {shape_text(wanted)}")
    if any(size < -1 for size in wanted):
        invalid(f"Reshape: sizes must be non-negative or -1, the shape is {shape_text(wanted)}")
    if -1 in wanted:
        wanted[wanted.index(-1)] = _missing_size(tensor, wanted)
    if math.prod(wanted) != tensor.size:
        invalid(
            f"Input to reshape is a tensor with {tensor.size} values, but the requested shape has "
            f"{math.prod(wanted)}: {shape_text(shape.tolist())}"
        )
    checked_size(wanted, tensor.itemsize)
    return tensor.reshape(wanted)


def _missing_size(tensor: Array, wanted: Sequence[int]) -> int:
    """What -1 in `wanted` stands for; where `wanted` has a 0, sizes of 0 on both sides pair up."""
    sizes = [size for size in tensor.shape if size] if 0 in wanted else tensor.shape
    return math.prod(sizes) // math.prod(size for size in wanted if size > 0)


@kernel("ExpandDims")
def _expand_dims(node: KernelNode, value: Array, dim: Array) -> Array:
    if dim.size != 1:
        invalid(f"'dim' input must be a tensor with a single value, not {dim.size}")
    axis = check_axis("ExpandDims", int(dim.reshape(())), value.ndim + 1, "dim")
    check_result_rank("ExpandDims", value.ndim + 1)
    return value.reshape((*value.shape[:axis], 1, *value.shape[axis:]))


@kernel("Squeeze")
def _squeeze(node: KernelNode, value: Array) -> Array:
    chosen = node.attrs["squeeze_dims"]
    if not chosen:
        return value.reshape([size for size in value.shape if size != 1])
    axes = {check_axis("Squeeze", axis, value.ndim, "squeeze_dims") for axis in chosen}
    for axis in sorted(axes):
        if value.shape[axis] != 1:
            invalid(
                f"Can not squeeze dim[{axis}], expected a dimension of 1, got {value.shape[axis]}"
            )
    return value.reshape([size for axis, size in enumerate(value.shape) if axis not in axes])


@kernel("BroadcastTo")
def _broadcast_to(node: KernelNode, value: Array, shape: Array) -> Array:
    wanted = shape_value("BroadcastTo", "shape", shape)
    checked_size(wanted, value.itemsize)
    try:
        return np.broadcast_to(value, wanted)
    except ValueError:
        invalid(f"Incompatible shapes: {shape_text(value.shape)} vs. {shape_text(wanted)}")


@kernel("Tile")
def _tile(node: KernelNode, value: Array, multiples: Array) -> Array:
    counts = vector_value("Tile", "multiples", multiples, value.ndim)
    if any(count < 0 for count in counts):
        invalid(f"Tile: expected multiples >= 0, but got {counts}")
    shape = [size * count for size, count in zip(value.shape, counts, strict=True)]
    if not checked_size(shape, value.itemsize):
        return np.empty(shape, value.dtype)
    return value if shape == list(value.shape) else np.tile(value, counts)


@kernel("Pad", "PadV2")
def _pad(node: KernelNode, value: Array, paddings: Array, constant: Array | None = None) -> Array:
    sizes = padding.read_paddings(node.op, paddings, value.ndim)
    if constant is None:
        return padding.pad(value, sizes, zero_of(value.dtype))
    return padding.pad(value, sizes, scalar_value(node.op, "constant_values", constant))


@kernel("MirrorPad")
def _mirror_pad(node: KernelNode, value: Array, paddings: Array) -> Array:
    sizes = padding.read_paddings(node.op, paddings, value.ndim)
    return padding.mirror_pad(value, sizes, node.attrs["mode"])


@kernel("MirrorPadGrad")
def _mirror_pad_grad(node: KernelNode, gradient: Array, paddings: Array) -> Array:
    _numbers_only(node, gradient)
    sizes = padding.read_paddings(node.op, paddings, gradient.ndim)
    return padding.fold_mirror(gradient, sizes, node.attrs["mode"])


def _numbers_only(node: KernelNode, value: Array) -> None:
    if value.dtype == object:
        invalid(f"{node.op}: there is no kernel for strings")


# Joined and cut.


@kernel("Concat")
def _concat_v1(node: KernelNode, axis: Array, *values: Array) -> Array:
    return joining.concatenate("Concat", axis, values)


@kernel("ConcatV2")
def _concat_v2(node: KernelNode, *inputs: Array) -> Array:
    return joining.concatenate("ConcatV2", inputs[-1], inputs[:-1])


@kernel("ConcatOffset")
def _concat_offset(node: KernelNode, axis: Array, *shapes: Array) -> tuple[Array, ...]:
    return joining.offsets(axis, shapes)


@kernel("Split")
def _split(node: KernelNode, axis: Array, value: Array) -> Any:
    return joining.split(axis, value, node.attrs["num_split"])


@kernel("SplitV")
def _split_v(node: KernelNode, value: Array, sizes: Array, axis: Array) -> Any:
    return joining.split_sizes(axis, value, sizes, node.attrs["num_split"])


@kernel("Pack")
def _pack(node: KernelNode, *values: Array) -> Array:
    return joining.stack(node.attrs["axis"], values)


@kernel("Unpack")
def _unpack(node: KernelNode, value: Array) -> Any:
    return joining.unstack(node.attrs["axis"], value, node.attrs["num"])


# Another order.


@kernel("Transpose")
def _transpose(node: KernelNode, x: Array, perm: Array) -> Array:
    if perm.shape != (x.ndim,):
        invalid(
            f"transpose expects a vector of size {x.ndim}, but perm has shape "
            f"{shape_text(perm.shape)}"
        )
    return x.transpose(axes_value("Transpose", perm, x.ndim))


@kernel("InvertPermutation")
def _invert_permutation(node: KernelNode, x: Array) -> Array:
    check_rank(node.op, "the permutation", x, 1)
    check_indices("invert_permutation: x", x, x.size)
    result = np.full(x.size, -1, x.dtype)
    result[x] = np.arange(x.size, dtype=x.dtype)
    if (result < 0).any():
        missing = int(np.argmin(result))
        invalid(f"{node.op}: a number is there twice, and {missing} is missing")
    return result


@kernel("Reverse")
def _reverse_v1(node: KernelNode, tensor: Array, dims: Array) -> Array:
    check_rank(node.op, "dims", dims, 1)
    if dims.size != tensor.ndim:
        invalid(
            f"Reverse: dims must have the same number of values as tensor has dimensions: "
            f"{dims.size} vs. {tensor.ndim}"
        )
    return _flipped(tensor, [int(axis) for axis in np.flatnonzero(dims)])


@kernel("ReverseV2")
def _reverse(node: KernelNode, tensor: Array, axis: Array) -> Array:
    check_rank(node.op, "axis", axis, 1)
    return _flipped(tensor, axes_value(node.op, axis, tensor.ndim))


def _flipped(tensor: Array, axes: Sequence[int]) -> Array:
    index: list[Any] = [slice(None)] * tensor.ndim
    for axis in axes:
        index[axis] = slice(None, None, -1)
    # The ellipsis keeps a scalar an array.
    return tensor[(*index, ...)]


@kernel("ReverseSequence")
def _reverse_sequence(node: KernelNode, value: Array, lengths: Array) -> Array:
    batch, along = node.attrs["batch_dim"], node.attrs["seq_dim"]
    check_rank(node.op, "seq_lengths", lengths, 1)
    for what, axis in (("batch_dim", batch), ("seq_dim", along)):
        if not 0 <= axis < value.ndim:
            invalid(f"{what} must be in [0, input rank), but {axis} is not in [0, {value.ndim})")
    if batch == along:
        invalid(f"batch_dim == seq_dim == {along}")
    if lengths.size != value.shape[batch]:
        invalid(
            f"Length of seq_lengths != input.dims({batch}), ({lengths.size} vs. "
            f"{value.shape[batch]})"
        )
    check_indices("seq_lengths", lengths, value.shape[along] + 1)
    # The position in the input of each element [batch, seq] of the result.
    position = np.arange(value.shape[along])
    ends = lengths[:, None].astype(np.intp)
    source = np.where(position < ends, ends - 1 - position, position)
    moved = np.moveaxis(value, (batch, along), (0, 1))
    result = moved[np.arange(lengths.size)[:, None], source]
    return np.moveaxis(result, (0, 1), (batch, along))


# Diagonals.


@kernel("Diag")
def _diag(node: KernelNode, diagonal: Array) -> Array:
    return diagonals.outer(diagonal)


@kernel("DiagPart")
def _diag_part(node: KernelNode, value: Array) -> Array:
    return diagonals.outer_part(value)


@kernel("MatrixDiag")
def _matrix_diag(node: KernelNode, diagonal: Array) -> Array:
    return diagonals.matrices(diagonal)


@kernel("MatrixDiagPart")
def _matrix_diag_part(node: KernelNode, value: Array) -> Array:
    diagonals.check_matrices(node.op, value)
    return np.diagonal(value, axis1=-2, axis2=-1)


@kernel("MatrixSetDiag")
def _matrix_set_diag(node: KernelNode, value: Array, diagonal: Array) -> Array:
    return diagonals.replaced(value, diagonal)


@kernel("MatrixBandPart")
def _matrix_band_part(node: KernelNode, value: Array, num_lower: Array, num_upper: Array) -> Array:
    lower = int(scalar_value(node.op, "num_lower", num_lower))
    upper = int(scalar_value(node.op, "num_upper", num_upper))
    return diagonals.band(value, lower, upper)
