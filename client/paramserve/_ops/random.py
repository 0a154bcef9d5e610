"""Random tensors.

Every function takes a `seed`, the op's own; together with the graph's, see `set_random_seed`, it
settles the sequence. An op gives other numbers in every step.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.seeds import get_seed
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike, TensorLike
from paramserve._ops.array import constant, shape, zeros_like
from paramserve._ops.checks import Assert
from paramserve._ops.control import with_dependencies
from paramserve._ops.emit import emit_tensor
from paramserve._ops.indexing import slice
from paramserve._ops.math import add, divide, floormod, greater_equal, maximum, multiply, subtract
from paramserve._ops.math_reduce import reduce_all
from paramserve_core import dtypes
from paramserve_core.dtypes import as_dtype

__all__ = [
    "multinomial",
    "random_crop",
    "random_gamma",
    "random_normal",
    "random_shuffle",
    "random_uniform",
    "truncated_normal",
]


def _seeds(seed: int | None) -> dict[str, int]:
    graph_seed, op_seed = get_seed(seed)
    return {"seed": graph_seed or 0, "seed2": op_seed or 0}


def _shape_tensor(shape: ShapeLike) -> Tensor:
    return convert_to_tensor(shape, preferred_dtype=dtypes.int32, name="shape")


def random_normal(
    shape: ShapeLike,
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    dtype: DTypeLike = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers of a normal distribution.

    Args:
        shape: sizes, or an integer vector tensor.
        mean: the mean; a tensor broadcasts with the result.
        stddev: the standard deviation; a tensor broadcasts with the result.
        dtype: a float type.
        seed: see `set_random_seed`.
        name: the scope of the ops.
    """
    return _normal("RandomStandardNormal", "random_normal", shape, mean, stddev, dtype, seed, name)


def truncated_normal(
    shape: ShapeLike,
    mean: TensorLike = 0.0,
    stddev: TensorLike = 1.0,
    dtype: DTypeLike = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers of a normal distribution within two standard deviations of its mean.

    What falls outside is drawn again. Arguments as of `random_normal`.
    """
    return _normal("TruncatedNormal", "truncated_normal", shape, mean, stddev, dtype, seed, name)


def _normal(
    op_type: str,
    default_name: str,
    sizes: ShapeLike,
    mean: TensorLike,
    stddev: TensorLike,
    dtype: DTypeLike,
    seed: int | None,
    name: str | None,
) -> Tensor:
    with name_scope(name, default_name, [sizes, mean, stddev]) as scope:
        wanted = as_dtype(dtype)
        sizes = _shape_tensor(sizes)
        mean = convert_to_tensor(mean, dtype=wanted, name="mean")
        stddev = convert_to_tensor(stddev, dtype=wanted, name="stddev")
        numbers = emit_tensor(op_type, None, shape=sizes, dtype=wanted, **_seeds(seed))
        return add(multiply(numbers, stddev), mean, name=scope)


def random_uniform(
    shape: ShapeLike,
    minval: TensorLike = 0,
    maxval: TensorLike | None = None,
    dtype: DTypeLike = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers of a uniform distribution on `[minval, maxval)`.

    Args:
        shape: sizes, or an integer vector tensor.
        minval: the smallest number.
        maxval: the number that is no longer drawn; 1 by default for floats.
        dtype: a float type, int32 or int64.
        seed: see `set_random_seed`.
        name: the scope of the ops.

    Raises:
        TypeError: another type.
        ValueError: integers without `maxval`.
    """
    wanted = as_dtype(dtype)
    if not (wanted.is_floating or wanted in (dtypes.int32, dtypes.int64)):
        raise TypeError(f"random_uniform gives floats, int32 or int64, not {wanted.name}")
    if maxval is None:
        if wanted.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {wanted.name}")
        maxval = 1
    with name_scope(name, "random_uniform", [shape, minval, maxval]) as scope:
        sizes = _shape_tensor(shape)
        low = convert_to_tensor(minval, dtype=wanted, name="min")
        high = convert_to_tensor(maxval, dtype=wanted, name="max")
        if wanted.is_integer:
            return emit_tensor(
                "RandomUniformInt", scope, shape=sizes, minval=low, maxval=high, **_seeds(seed)
            )
        numbers = emit_tensor("RandomUniform", None, shape=sizes, dtype=wanted, **_seeds(seed))
        return add(multiply(numbers, subtract(high, low)), low, name=scope)


def random_shuffle(value: TensorLike, seed: int | None = None, name: str | None = None) -> Tensor:
    """The rows of a tensor in random order."""
    return emit_tensor("RandomShuffle", name, value=value, **_seeds(seed))


def random_crop(
    value: TensorLike, size: TensorLike, seed: int | None = None, name: str | None = None
) -> Tensor:
    """A block of a tensor, of a given size, at a random place.

    Args:
        value: a tensor of rank n.
        size: the size of the block, an integer vector `[n]`.
        seed: see `set_random_seed`.
        name: the scope of the ops.

    Raises:
        ValueError: the block is larger than the tensor, or at run time InvalidArgumentError.
    """
    with name_scope(name, "random_crop", [value, size]) as scope:
        value = convert_to_tensor(value, name="value")
        size = convert_to_tensor(size, dtype=dtypes.int32, name="size")
        whole = shape(value)
        fits = reduce_all(greater_equal(whole, size))
        check = Assert(fits, ["Need value.shape >= size, got ", whole, size], summarize=1000)
        whole = with_dependencies([check], whole)
        limit = add(subtract(whole, size), 1)
        numbers = random_uniform(
            shape(whole), maxval=np.iinfo(np.int32).max, dtype=dtypes.int32, seed=seed
        )
        return slice(value, floormod(numbers, limit), size, name=scope)


def multinomial(
    logits: TensorLike,
    num_samples: TensorLike,
    seed: int | None = None,
    name: str | None = None,
    output_dtype: DTypeLike | None = None,
) -> Tensor:
    """Classes drawn at random, with the probabilities `softmax(logits)`.

    Args:
        logits: of shape `[rows, classes]`.
        num_samples: how many to draw for each row, a scalar.
        seed: see `set_random_seed`.
        name: the name of the op.
        output_dtype: int32 or int64, the default.

    Returns:
        Numbers of classes, of shape `[rows, num_samples]`.
    """
    wanted = dtypes.int64 if output_dtype is None else as_dtype(output_dtype)
    return emit_tensor(
        "Multinomial",
        name or "multinomial",
        logits=logits,
        num_samples=num_samples,
        output_dtype=wanted,
        **_seeds(seed),
    )


def random_gamma(
    shape: ShapeLike,
    alpha: TensorLike,
    beta: TensorLike | None = None,
    dtype: DTypeLike = dtypes.float32,
    seed: int | None = None,
    name: str | None = None,
) -> Tensor:
    """Numbers of gamma distributions.

    Args:
        shape: how many of each distribution, an integer vector.
        alpha: the shapes of the distributions.
        beta: their rates, which broadcast with `alpha`; 1 by default.
        dtype: float16, float32 or float64.
        seed: see `set_random_seed`.
        name: the scope of the ops.

    Returns:
        A tensor of shape `shape + (alpha + beta).shape`, never below the smallest positive number.
    """
    with name_scope(name, "random_gamma", [shape, alpha, beta]):
        wanted: Any = as_dtype(dtype)
        sizes = _shape_tensor(shape)
        rate = convert_to_tensor(1 if beta is None else beta, dtype=wanted, name="beta")
        alpha = convert_to_tensor(alpha, dtype=wanted, name="alpha")
        alphas = add(alpha, zeros_like(rate))  # in the shape that both broadcast to
        numbers = emit_tensor("RandomGamma", None, shape=sizes, alpha=alphas, **_seeds(seed))
        smallest = constant(np.finfo(wanted.as_numpy_dtype).tiny, wanted)
        return maximum(smallest, divide(numbers, rate))
