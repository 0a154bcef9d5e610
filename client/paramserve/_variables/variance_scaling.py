"""Initial values whose scale follows from the number of inputs and outputs of a layer.

Thread rule: see `initializers`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._ops import random
from paramserve._variables.initializers import FloatInitializer
from paramserve_core.dtypes import DType, float32

__all__ = [
    "glorot_normal_initializer",
    "glorot_uniform_initializer",
    "he_normal_initializer",
    "he_uniform_initializer",
    "lecun_normal_initializer",
    "lecun_uniform_initializer",
    "variance_scaling_initializer",
]

_TRUNCATED_STDDEV: Final = 0.87962566103423978
"""The standard deviation of a standard normal distribution cut off at two deviations."""

_MODES: Final = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS: Final = ("normal", "truncated_normal", "untruncated_normal", "uniform")


class variance_scaling_initializer(FloatInitializer):  # noqa: N801
    """Makes values of variance `scale / n`.

    Args:
        scale: a positive number.
        mode: what n is: "fan_in" the inputs of the layer, "fan_out" its outputs, "fan_avg" their
            mean. Of a matrix `[inputs, outputs]` these are its dimensions; of a filter
            `[..., inputs, outputs]` they are multiplied by the size of the field before them.
        distribution: "uniform"; "truncated_normal" or "normal", cut off at two standard
            deviations and widened to have the variance all the same; or "untruncated_normal".
        seed: the op's seed, see `set_random_seed`.
        dtype: the type.

    Raises:
        ValueError: `scale` is not positive, another mode or distribution, or not a floating-point
            type.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: int | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(seed, dtype)
        if scale <= 0:
            raise ValueError(f"`scale` must be a positive number, got {scale}")
        if mode not in _MODES:
            raise ValueError(f"Invalid `mode` {mode!r}; it is one of {', '.join(_MODES)}")
        if distribution not in _DISTRIBUTIONS:
            raise ValueError(
                f"Invalid `distribution` {distribution!r}; it is one of {', '.join(_DISTRIBUTIONS)}"
            )
        self.scale = scale
        self.mode = mode
        self.distribution = distribution

    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        fan_in, fan_out = _fans([int(size) for size in full_shape])
        fan = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, fan)
        if self.distribution == "uniform":
            bound = math.sqrt(3 * variance)
            return random.random_uniform(shape, -bound, bound, dtype, seed=self.seed)
        if self.distribution == "untruncated_normal":
            return random.random_normal(shape, 0.0, math.sqrt(variance), dtype, seed=self.seed)
        stddev = math.sqrt(variance) / _TRUNCATED_STDDEV
        return random.truncated_normal(shape, 0.0, stddev, dtype, seed=self.seed)


class glorot_uniform_initializer(variance_scaling_initializer):  # noqa: N801
    """Makes uniform values within `sqrt(6 / (inputs + outputs))`.

    For layers with a symmetric activation; Glorot and Bengio, 2010. See
    `variance_scaling_initializer` for the arguments.
    """

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(1.0, "fan_avg", "uniform", seed, dtype)


class glorot_normal_initializer(variance_scaling_initializer):  # noqa: N801
    """Makes normal values of variance `2 / (inputs + outputs)`, cut off at two deviations.

    For layers with a symmetric activation; Glorot and Bengio, 2010.
    """

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, dtype)


class he_uniform_initializer(variance_scaling_initializer):  # noqa: N801
    """Makes uniform values within `sqrt(6 / inputs)`.

    For layers with ReLU; He et al., 2015, https://arxiv.org/abs/1502.01852.
    """

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(2.0, "fan_in", "uniform", seed, dtype)


class he_normal_initializer(variance_scaling_initializer):  # noqa: N801
    """Makes normal values of variance `2 / inputs`, cut off at two deviations.

    For layers with ReLU; He et al., 2015, https://arxiv.org/abs/1502.01852.
    """

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(2.0, "fan_in", "truncated_normal", seed, dtype)


class lecun_uniform_initializer(variance_scaling_initializer):  # noqa: N801
    """Makes uniform values within `sqrt(3 / inputs)`; LeCun et al., 1998."""

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(1.0, "fan_in", "uniform", seed, dtype)


class lecun_normal_initializer(variance_scaling_initializer):  # noqa: N801
    """Makes normal values of variance `1 / inputs`, cut off at two deviations; LeCun, 1998."""

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(1.0, "fan_in", "truncated_normal", seed, dtype)


def _fans(shape: Sequence[int]) -> tuple[float, float]:
    """The numbers of inputs and outputs of a layer with weights of that shape."""
    if len(shape) < 1:
        return 1.0, 1.0
    if len(shape) == 1:
        return float(shape[0]), float(shape[0])
    field = math.prod(shape[:-2])
    return float(field * shape[-2]), float(field * shape[-1])
