"""Functions of neural networks: activations, biases, norms, dropout, statistics, top k.

Losses and softmax are in `nn_softmax`, embeddings in `embedding`, convolutions in `nn_conv`.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from paramserve._framework.constant_value import constant_value
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._ops.array import cast, identity, shape, squeeze
from paramserve._ops.elementary import floor, reciprocal, rsqrt, square
from paramserve._ops.emit import emit_tensor, emit_tensors
from paramserve._ops.indexing import gather
from paramserve._ops.math import add, equal, maximum, multiply, squared_difference, subtract
from paramserve._ops.math_product import matmul
from paramserve._ops.math_reduce import reduce_mean, reduce_prod, reduce_sum
from paramserve._ops.random import random_uniform
from paramserve._ops.renamed import one_of
from paramserve_core import dtypes
from paramserve_core.dtypes import as_dtype

__all__ = [
    "batch_normalization",
    "bias_add",
    "dropout",
    "elu",
    "in_top_k",
    "l2_loss",
    "l2_normalize",
    "leaky_relu",
    "moments",
    "normalize_moments",
    "relu",
    "relu6",
    "relu_layer",
    "selu",
    "softplus",
    "softsign",
    "sufficient_statistics",
    "top_k",
    "xw_plus_b",
    "zero_fraction",
]


class TopK(NamedTuple):
    """What `top_k` answers."""

    values: Tensor
    indices: Tensor


class Moments(NamedTuple):
    """What `moments` and `normalize_moments` answer."""

    mean: Tensor
    variance: Tensor


class SufficientStatistics(NamedTuple):
    """What `sufficient_statistics` answers."""

    count: Tensor  # type: ignore[assignment] # the field has TensorFlow's name
    mean_ss: Tensor
    variance_ss: Tensor
    shift: Tensor | None


# Activations.


def relu(features: TensorLike, name: str | None = None) -> Tensor:
    """`max(features, 0)`."""
    return emit_tensor("Relu", name, features=features)


def relu6(features: TensorLike, name: str | None = None) -> Tensor:
    """`min(max(features, 0), 6)`."""
    return emit_tensor("Relu6", name, features=features)


def leaky_relu(features: TensorLike, alpha: float = 0.2, name: str | None = None) -> Tensor:
    """`features` where they are positive, `alpha * features` elsewhere."""
    return emit_tensor("LeakyRelu", name, features=features, alpha=alpha)


def elu(features: TensorLike, name: str | None = None) -> Tensor:
    """`features` where they are positive, `exp(features) - 1` elsewhere.

    See Clevert et al., "Fast and accurate deep network learning by exponential linear units", 2015.
    """
    return emit_tensor("Elu", name, features=features)


def selu(features: TensorLike, name: str | None = None) -> Tensor:
    """`scale * features` where positive, `scale * alpha * (exp(features) - 1)` elsewhere.

    The constants are those of Klambauer et al., "Self-normalizing neural networks", 2017.
    """
    return emit_tensor("Selu", name, features=features)


def softplus(features: TensorLike, name: str | None = None) -> Tensor:
    """`log(exp(features) + 1)`, without overflow."""
    return emit_tensor("Softplus", name, features=features)


def softsign(features: TensorLike, name: str | None = None) -> Tensor:
    """`features / (abs(features) + 1)`."""
    return emit_tensor("Softsign", name, features=features)


# Layers.


def bias_add(
    value: TensorLike, bias: TensorLike, data_format: str | None = None, name: str | None = None
) -> Tensor:
    """Adds a vector along the dimension of the channels.

    Args:
        value: of rank 2 or more.
        bias: of the same type, as long as `value` has channels.
        data_format: "NHWC", where the channels are last, or "NCHW", where they are dimension 1.
        name: the name of the op.

    Raises:
        ValueError: sizes that do not fit, or another format.
    """
    return emit_tensor("BiasAdd", name, value=value, bias=bias, data_format=data_format)


def xw_plus_b(
    x: TensorLike, weights: TensorLike, biases: TensorLike, name: str | None = None
) -> Tensor:
    """`matmul(x, weights) + biases`.

    Args:
        x: of shape `[rows, in]`.
        weights: of shape `[in, out]`.
        biases: of shape `[out]`.
        name: the name of the op.
    """
    with name_scope(name, "xw_plus_b", [x, weights, biases]) as scope:
        return bias_add(matmul(x, weights), biases, name=scope)


def relu_layer(
    x: TensorLike, weights: TensorLike, biases: TensorLike, name: str | None = None
) -> Tensor:
    """`relu(matmul(x, weights) + biases)`; arguments as of `xw_plus_b`."""
    with name_scope(name, "relu_layer", [x, weights, biases]) as scope:
        return relu(bias_add(matmul(x, weights), biases), name=scope)


def dropout(
    x: TensorLike,
    keep_prob: TensorLike | None = None,
    noise_shape: ShapeLike | None = None,
    seed: int | None = None,
    name: str | None = None,
    rate: TensorLike | None = None,
) -> Tensor:
    """Sets random elements to 0, and scales the others so that the expected sum stays.

    See Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    2014.

    Args:
        x: floats.
        keep_prob: the probability that an element is kept, in (0, 1].
        noise_shape: the shape of the random choices, which broadcasts with that of `x`: where a
            size is 1, all along that dimension are kept or dropped together.
        seed: see `set_random_seed`.
        name: the scope of the ops.
        rate: the probability that an element is dropped, in place of `keep_prob`.

    Raises:
        ValueError: `x` is of no float type, the probability is out of range, or both or none of
            `keep_prob` and `rate` are given.
    """
    with name_scope(name, "dropout", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        dtype = x.dtype.base_dtype
        if not dtype.is_floating:
            raise ValueError(f"x has to be a floating point tensor, got {x!r}")
        if (keep_prob is None) == (rate is None):
            raise ValueError("dropout needs one of keep_prob and rate")
        if keep_prob is None:
            keep_prob = 1 - rate  # type: ignore[operator] # rate is not None
        if isinstance(keep_prob, (int, float)) and not 0 < keep_prob <= 1:
            raise ValueError(
                f"keep_prob must be a scalar tensor or a float in the range (0, 1], got {keep_prob}"
            )
        keep = convert_to_tensor(keep_prob, dtype=dtype, name="keep_prob")
        keep.shape.assert_is_compatible_with([])
        if isinstance(keep_prob, (int, float)) and keep_prob == 1:
            return identity(x, name=scope)
        sizes = shape(x) if noise_shape is None else noise_shape
        # 1 for what is kept: a number in [keep, 1 + keep), rounded down.
        kept = floor(random_uniform(sizes, seed=seed, dtype=dtype) + keep)
        result = multiply(x / keep, kept, name=scope)
        result.set_shape(x.shape)
        return result


def l2_loss(t: TensorLike, name: str | None = None) -> Tensor:
    """Half of the sum of the squares, a scalar."""
    return emit_tensor("L2Loss", name, t=t)


def l2_normalize(
    x: TensorLike,
    dim: TensorLike | None = None,
    epsilon: float = 1e-12,
    name: str | None = None,
    axis: TensorLike | None = None,
) -> Tensor:
    """The vectors along a dimension, each divided by its L2 norm.

    Args:
        x: floats.
        dim: the dimension or dimensions; all by default.
        epsilon: the smallest value that the squared norm is taken for.
        name: the scope of the ops.
        axis: the newer name of `dim`.
    """
    chosen = one_of("axis", axis, "dim", dim)
    with name_scope(name, "l2_normalize", [x]) as scope:
        x = convert_to_tensor(x, name="x")
        total = reduce_sum(square(x), chosen, keep_dims=True)
        return multiply(x, rsqrt(maximum(total, epsilon)), name=scope)


# Statistics.


def zero_fraction(value: TensorLike, name: str | None = None) -> Tensor:
    """The fraction of elements that are 0, a float32 scalar; nan if there are no elements."""
    with name_scope(name, "zero_fraction", [value]):
        value = convert_to_tensor(value, name="value")
        is_zero = equal(value, np.zeros((), value.dtype.as_numpy_dtype))
        return reduce_mean(cast(is_zero, dtypes.float32), name="fraction")


def moments(
    x: TensorLike,
    axes: TensorLike,
    shift: TensorLike | None = None,
    name: str | None = None,
    keep_dims: bool | None = None,
    keepdims: bool | None = None,
) -> Moments:
    """The mean and the variance over dimensions.

    Args:
        x: floats.
        axes: the dimensions, a list of ints.
        shift: kept for old programs; the computation is stable without.
        name: the scope of the ops.
        keep_dims: leave the dimensions there with size 1.
        keepdims: the newer name of `keep_dims`.

    Returns:
        `mean` and `variance`; the variance is that of the whole population, divided by n.
    """
    keep = bool(one_of("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "moments", [x, axes]):
        x = convert_to_tensor(x, name="x")
        dtype = x.dtype.base_dtype
        narrow = dtype in (dtypes.float16, dtypes.bfloat16)
        wide: Tensor = cast(x, dtypes.float32) if narrow else x
        mean = reduce_mean(wide, axes, keep_dims=True, name="mean")
        squares = squared_difference(wide, mean)
        variance = reduce_mean(squares, axes, keep_dims=True, name="variance")
        if not keep:
            dims = _axes_list(axes, x)
            mean, variance = squeeze(mean, dims), squeeze(variance, dims)
        if narrow:
            mean, variance = cast(mean, dtype), cast(variance, dtype)
        return Moments(mean, variance)


def _axes_list(axes: TensorLike, x: Tensor) -> list[int]:
    values = axes if not isinstance(axes, Tensor) else constant_value(axes)
    if values is None:
        raise ValueError(f"the axes must be known while the graph is built, got {axes!r}")
    dims = [int(axis) for axis in np.atleast_1d(np.asarray(values)).tolist()]
    ndims = x.shape.ndims
    return [axis if ndims is None else axis % ndims for axis in dims]


def sufficient_statistics(
    x: TensorLike,
    axes: Sequence[int],
    shift: TensorLike | None = None,
    keep_dims: bool | None = None,
    name: str | None = None,
    keepdims: bool | None = None,
) -> SufficientStatistics:
    """What is needed for mean and variance, and adds up over batches.

    Args:
        x: floats.
        axes: the dimensions.
        shift: a value near the mean, which makes the squares smaller and the sums more precise.
        keep_dims: leave the dimensions there with size 1.
        name: the scope of the ops.
        keepdims: the newer name of `keep_dims`.

    Returns:
        The number of elements, the sum, the sum of the squares, and `shift`; the sums are of what
        differs from `shift`.
    """
    keep = bool(one_of("keepdims", keepdims, "keep_dims", keep_dims))
    with name_scope(name, "sufficient_statistics", [x, shift]):
        x = convert_to_tensor(x, name="x")
        chosen = gather(
            shape(x), np.asarray(list(axes), np.int32) % np.int32(x.shape.ndims or 2**30)
        )
        count: Tensor = cast(reduce_prod(chosen), x.dtype.base_dtype)
        if shift is None:
            rest, squares = x, square(x)
        else:
            shift = convert_to_tensor(shift, x.dtype.base_dtype, name="shift")
            rest, squares = subtract(x, shift), squared_difference(x, shift)
        mean_ss = reduce_sum(rest, axes, keep_dims=keep, name="mean_ss")
        variance_ss = reduce_sum(squares, axes, keep_dims=keep, name="var_ss")
        return SufficientStatistics(count, mean_ss, variance_ss, shift)


def normalize_moments(
    counts: TensorLike,
    mean_ss: TensorLike,
    variance_ss: TensorLike,
    shift: TensorLike | None,
    name: str | None = None,
) -> Moments:
    """Mean and variance from what `sufficient_statistics` answers.

    Args:
        counts: the number of elements, a scalar.
        mean_ss: the sum, shifted.
        variance_ss: the sum of the squares, shifted.
        shift: the shift, or None.
        name: the scope of the ops.
    """
    with name_scope(name, "normalize", [counts, mean_ss, variance_ss, shift]):
        divisor = reciprocal(counts, name="divisor")
        shifted_mean = multiply(mean_ss, divisor, name="shifted_mean")
        mean = shifted_mean if shift is None else add(shifted_mean, shift, name="mean")
        squares = multiply(variance_ss, divisor)
        return Moments(mean, subtract(squares, square(shifted_mean), name="variance"))


def batch_normalization(
    x: TensorLike,
    mean: TensorLike,
    variance: TensorLike,
    offset: TensorLike | None,
    scale: TensorLike | None,
    variance_epsilon: float,
    name: str | None = None,
) -> Tensor:
    """`scale * (x - mean) / sqrt(variance + variance_epsilon) + offset`.

    See Ioffe and Szegedy, "Batch normalization", 2015.

    Args:
        x: floats.
        mean: the mean, as `moments` gives it.
        variance: the variance, likewise.
        offset: what is added; None adds nothing.
        scale: what is multiplied; None multiplies by 1.
        variance_epsilon: keeps the root away from 0.
        name: the scope of the ops.
    """
    with name_scope(name, "batchnorm", [x, mean, variance, scale, offset]):
        factor = rsqrt(add(variance, variance_epsilon))
        if scale is not None:
            factor *= scale
        shift = -(factor * mean)
        if offset is not None:
            shift += offset
        x = convert_to_tensor(x, name="x")
        return add(multiply(x, factor), shift)


# The largest.


def top_k(
    input: TensorLike,
    k: TensorLike = 1,
    sorted: bool = True,
    name: str | None = None,
    index_type: DTypeLike = dtypes.int32,
) -> TopK:
    """The largest elements of the last dimension, and where they are.

    Args:
        input: numbers, of rank 1 or more.
        k: how many, a scalar.
        sorted: in descending order; of equal ones the first comes first.
        name: the name of the op.
        index_type: the type of `indices`.

    Returns:
        `values` and `indices`, of shape `input.shape[:-1] + [k]`.

    Raises:
        ValueError: there are not so many, or at run time InvalidArgumentError.
    """
    outputs = emit_tensors(
        "TopKV2", name, input=input, k=k, sorted=sorted, index_type=as_dtype(index_type)
    )
    return TopK(*outputs)


def in_top_k(
    predictions: TensorLike, targets: TensorLike, k: TensorLike, name: str | None = None
) -> Tensor:
    """Whether the target of each row is among its k largest.

    Args:
        predictions: float32 of shape `[rows, classes]`.
        targets: a class per row, integers of shape `[rows]`.
        k: how many; those that equal the last of them count too.
        name: the name of the op.

    Returns:
        Booleans of shape `[rows]`; False where the target's prediction is not finite.
    """
    if isinstance(k, (int, np.integer)):
        return emit_tensor("InTopK", name, predictions=predictions, targets=targets, k=int(k))
    return emit_tensor("InTopKV2", name, predictions=predictions, targets=targets, k=k)
