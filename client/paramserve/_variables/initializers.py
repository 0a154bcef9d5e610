"""Functions of a shape that make initial values, for `get_variable` and by themselves.

An initializer is called with a shape and, if the caller wants another type than the initializer's,
a `dtype`. Where a variable is cut into parts it is called for each part with a `partition_info`,
so that a scale that depends on the shape can be that of the whole.

Thread rule: immutable; a call adds to the default graph of the calling thread.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, ShapeLike
from paramserve._ops import array, random
from paramserve_core.dtypes import DType, as_dtype, float32
from paramserve_core.shapes import as_shape

__all__ = [
    "constant_initializer",
    "ones_initializer",
    "random_normal_initializer",
    "random_uniform_initializer",
    "truncated_normal_initializer",
    "uniform_unit_scaling_initializer",
    "zeros_initializer",
]


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """Which part of a partitioned variable an initial value is for.

    Attributes:
        full_shape: the shape of the whole.
        var_offset: where the part begins, per dimension.
    """

    full_shape: tuple[int, ...]
    var_offset: tuple[int, ...]

    def single_slice_dim(self, shape: ShapeLike) -> int | None:
        """The dimension along which the whole is cut; None where the part is the whole.

        Args:
            shape: the shape of the part.

        Raises:
            ValueError: the part does not lie in the whole, or differs in several dimensions.
        """
        sizes = as_shape(shape).as_list()
        if len(sizes) != len(self.full_shape):
            raise ValueError(f"a part of shape {sizes} has another rank than {self.full_shape}")
        for offset, size, whole in zip(self.var_offset, sizes, self.full_shape, strict=True):
            if size is None or offset + size > whole:
                raise ValueError(
                    f"a part of shape {sizes} at {self.var_offset} is not within {self.full_shape}"
                )
        cut = [i for i, size in enumerate(sizes) if size != self.full_shape[i]]
        if len(cut) > 1:
            raise ValueError(
                f"a part of shape {sizes} is cut out of {self.full_shape} along dimensions {cut}, "
                "not along one"
            )
        return cut[0] if cut else None

    def single_offset(self, shape: ShapeLike) -> int:
        """Where the part begins along `single_slice_dim`; 0 where the part is the whole."""
        axis = self.single_slice_dim(shape)
        return 0 if axis is None else self.var_offset[axis]


def call_initializer(
    initializer: Callable[..., Any], shape: ShapeLike, dtype: DType, part: PartitionInfo | None
) -> Any:
    """What a program's initializer makes; it is told of the part only if it takes that.

    Args:
        initializer: a function of a shape and a `dtype`.
        shape: the shape of the value.
        dtype: its type.
        part: which part of a partitioned variable it is for.
    """
    options: dict[str, Any] = {"dtype": dtype}
    if part is not None:
        takes = parameters_of(initializer)
        if takes is None or "partition_info" in takes:
            options["partition_info"] = part
    return initializer(shape, **options)


def parameters_of(function: Callable[..., Any]) -> frozenset[str] | None:
    """The names of a function's parameters; None where it does not tell or takes any keyword."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return None
    return frozenset(parameters)


class Initializer(ABC):
    """Makes initial values."""

    def __init__(self, dtype: DTypeLike = float32) -> None:
        self.dtype = as_dtype(dtype).base_dtype

    def __call__(
        self,
        shape: ShapeLike,
        dtype: DTypeLike | None = None,
        partition_info: PartitionInfo | None = None,
    ) -> Tensor:
        """An initial value.

        Args:
            shape: its shape.
            dtype: its type; that of the initializer by default.
            partition_info: which part of a larger value it is.

        Raises:
            ValueError: a type that the initializer does not make.
        """
        wanted = self.dtype if dtype is None else self._checked(dtype)
        return self._make(
            shape, wanted, shape if partition_info is None else partition_info.full_shape
        )

    def _checked(self, dtype: DTypeLike) -> DType:
        return as_dtype(dtype).base_dtype

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an initializer like this one; the type by its name."""
        names = parameters_of(type(self)) or frozenset()
        config = {name: getattr(self, name) for name in names}
        return {**config, "dtype": self.dtype.name}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Initializer:
        """The initializer that `get_config` described.

        Args:
            config: the arguments.
        """
        return cls(**config)

    @abstractmethod
    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        """The value; `full_shape` is that of the whole variable."""


class FloatInitializer(Initializer):
    """Makes random initial values, which are of floating-point types.

    Args:
        seed: the op's seed, see `set_random_seed`.
        dtype: the type.

    Raises:
        ValueError: not a floating-point type.
    """

    def __init__(self, seed: int | None = None, dtype: DTypeLike = float32) -> None:
        super().__init__(self._checked(dtype))
        self.seed = seed

    def _checked(self, dtype: DTypeLike) -> DType:
        wanted = as_dtype(dtype).base_dtype
        if not wanted.is_floating:
            raise ValueError(f"Expected floating point type, got {wanted}.")
        return wanted


class constant_initializer(Initializer):  # noqa: N801
    """Makes values that are one constant.

    Args:
        value: a number, or a list or array with as many elements as the shape that is asked for;
            of fewer elements, the last one fills the rest.
        dtype: the type.
        verify_shape: refuse a `value` of another shape than the one asked for.
    """

    def __init__(
        self, value: Any = 0.0, dtype: DTypeLike = float32, verify_shape: bool = False
    ) -> None:
        super().__init__(dtype)
        self.value = value
        self.verify_shape = verify_shape

    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        return array.constant(self.value, dtype, shape, verify_shape=self.verify_shape)


class random_normal_initializer(FloatInitializer):  # noqa: N801
    """Makes values of a normal distribution.

    Args:
        mean: the mean, a number or a scalar tensor.
        stddev: the standard deviation, likewise.
        seed: the op's seed, see `set_random_seed`.
        dtype: the type.

    Raises:
        ValueError: not a floating-point type.
    """

    def __init__(
        self,
        mean: Any = 0.0,
        stddev: Any = 1.0,
        seed: int | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(seed, dtype)
        self.mean = mean
        self.stddev = stddev

    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        return random.random_normal(shape, self.mean, self.stddev, dtype, seed=self.seed)


class truncated_normal_initializer(random_normal_initializer):  # noqa: N801
    """Makes values of a normal distribution, none farther from the mean than two deviations.

    See `random_normal_initializer` for the arguments.
    """

    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        return random.truncated_normal(shape, self.mean, self.stddev, dtype, seed=self.seed)


class random_uniform_initializer(Initializer):  # noqa: N801
    """Makes values that are uniform between two bounds.

    Args:
        minval: the lower bound, a number or a scalar tensor.
        maxval: the upper bound, which no value reaches; 1 by default for floating-point types,
            and needed for integers.
        seed: the op's seed, see `set_random_seed`.
        dtype: the type.
    """

    def __init__(
        self,
        minval: Any = 0.0,
        maxval: Any = None,
        seed: int | None = None,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(dtype)
        self.minval = minval
        self.maxval = maxval
        self.seed = seed

    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        return random.random_uniform(shape, self.minval, self.maxval, dtype, seed=self.seed)


class uniform_unit_scaling_initializer(FloatInitializer):  # noqa: N801
    """Makes uniform values that keep the variance of what is multiplied by them.

    The bounds are `+-factor * sqrt(3 / n)`, where n is the product of all dimensions but the last:
    the number of inputs of `matmul(x, w)` or of a convolution.

    Args:
        factor: for a linear layer 1, for ReLU about 1.43, for tanh about 1.15; see Sussillo et
            al., 2014, https://arxiv.org/abs/1412.6558.
        seed: the op's seed, see `set_random_seed`.
        dtype: the type.
        full_shape: the shape of the whole, where the value is a part and nothing else says so.

    Raises:
        ValueError: not a floating-point type.
    """

    def __init__(
        self,
        factor: float = 1.0,
        seed: int | None = None,
        dtype: DTypeLike = float32,
        full_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__(seed, dtype)
        self.factor = factor
        self.full_shape = full_shape

    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        sizes = list(full_shape if self.full_shape is None else self.full_shape)
        inputs = max(math.prod(int(size) for size in sizes[:-1]), 1)
        bound = math.sqrt(3 / inputs) * self.factor
        return random.random_uniform(shape, -bound, bound, dtype, seed=self.seed)


class _Zeros(Initializer):
    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        return array.zeros(shape, dtype)


class _Ones(Initializer):
    def _make(self, shape: ShapeLike, dtype: DType, full_shape: ShapeLike) -> Tensor:
        return array.ones(shape, dtype)


def zeros_initializer(
    shape: Any = None, dtype: DTypeLike = float32, partition_info: PartitionInfo | None = None
) -> Any:
    """Zeros of a shape; or, without a shape, the initializer that makes them.

    Both generations of the API work: `zeros_initializer(shape, dtype)` is a tensor, and
    `zeros_initializer()` or `zeros_initializer(dtype)` an initializer.

    Args:
        shape: the shape of the value; or a type, where there is no shape.
        dtype: the type.
        partition_info: taken for the sake of callers that give it to every initializer.
    """
    return _both_ways(_Zeros, shape, dtype)


def ones_initializer(
    shape: Any = None, dtype: DTypeLike = float32, partition_info: PartitionInfo | None = None
) -> Any:
    """Ones of a shape; or, without a shape, the initializer that makes them.

    See `zeros_initializer`.
    """
    return _both_ways(_Ones, shape, dtype)


def _both_ways(kind: type[Initializer], shape: Any, dtype: DTypeLike) -> Any:
    if shape is None:
        return kind(dtype)
    if isinstance(shape, (DType, str)):
        return kind(shape)
    return kind(dtype)(shape)
