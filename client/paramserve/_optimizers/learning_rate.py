"""Learning rates that change with the training step.

Each function answers a tensor that is computed anew in every step, from the step's number; it is
given to an optimizer as its learning rate. The step is the variable that `minimize` is given too,
or it never counts.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from paramserve._framework.convert import convert_n_to_tensor, convert_to_tensor
from paramserve._framework.scopes import name_scope
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import TensorLike
from paramserve._ops.array import cast, identity
from paramserve._ops.elementary import ceil, cos, exp, floor
from paramserve._ops.indexing import gather
from paramserve._ops.joining import stack
from paramserve._ops.math import add, divide, maximum, minimum, multiply
from paramserve._ops.math_reduce import reduce_sum
from paramserve_core.dtypes import DType, int32, int64


def exponential_decay(
    learning_rate: TensorLike,
    global_step: TensorLike,
    decay_steps: TensorLike,
    decay_rate: TensorLike,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """`learning_rate * decay_rate ** (global_step / decay_steps)`.

    Args:
        learning_rate: the rate at step 0, a scalar.
        global_step: the step, an integer scalar or a variable.
        decay_steps: after how many steps the rate is `decay_rate` times what it was.
        decay_rate: a scalar.
        staircase: round the exponent down, so that the rate changes every `decay_steps`.
        name: the scope of the ops.

    Raises:
        ValueError: `global_step` is None.
    """
    _check_step(global_step, "exponential_decay")
    values = [learning_rate, global_step, decay_steps, decay_rate]
    with name_scope(name, "ExponentialDecay", values) as scope:
        rate = convert_to_tensor(learning_rate, name="learning_rate")
        dtype = rate.dtype.base_dtype
        exponent = _progress(global_step, decay_steps, dtype, staircase)
        return multiply(rate, _as(decay_rate, dtype, "decay_rate") ** exponent, name=scope)


def natural_exp_decay(
    learning_rate: TensorLike,
    global_step: TensorLike,
    decay_steps: TensorLike,
    decay_rate: TensorLike,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """`learning_rate * exp(-decay_rate * global_step / decay_steps)`.

    Args:
        learning_rate: the rate at step 0, a scalar.
        global_step: the step, an integer scalar or a variable.
        decay_steps: how many steps count as 1 in the exponent.
        decay_rate: a scalar.
        staircase: round the quotient of the steps down.
        name: the scope of the ops.

    Raises:
        ValueError: `global_step` is None.
    """
    _check_step(global_step, "natural_exp_decay")
    values = [learning_rate, global_step, decay_steps, decay_rate]
    with name_scope(name, "NaturalExpDecay", values) as scope:
        rate = convert_to_tensor(learning_rate, name="learning_rate")
        dtype = rate.dtype.base_dtype
        steps = _progress(global_step, decay_steps, dtype, staircase)
        return multiply(rate, exp(-_as(decay_rate, dtype, "decay_rate") * steps), name=scope)


def inverse_time_decay(
    learning_rate: TensorLike,
    global_step: TensorLike,
    decay_steps: TensorLike,
    decay_rate: TensorLike,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """`learning_rate / (1 + decay_rate * global_step / decay_steps)`.

    Args:
        learning_rate: the rate at step 0, a scalar.
        global_step: the step, an integer scalar or a variable.
        decay_steps: how many steps count as 1 in the divisor.
        decay_rate: a scalar.
        staircase: round the quotient of the steps down.
        name: the scope of the ops.

    Raises:
        ValueError: `global_step` is None.
    """
    _check_step(global_step, "inverse_time_decay")
    values = [learning_rate, global_step, decay_steps, decay_rate]
    with name_scope(name, "InverseTimeDecay", values) as scope:
        rate = convert_to_tensor(learning_rate, name="learning_rate")
        dtype = rate.dtype.base_dtype
        steps = _progress(global_step, decay_steps, dtype, staircase)
        return divide(rate, _as(decay_rate, dtype, "decay_rate") * steps + 1, name=scope)


def polynomial_decay(
    learning_rate: TensorLike,
    global_step: TensorLike,
    decay_steps: TensorLike,
    end_learning_rate: TensorLike = 0.0001,
    power: TensorLike = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Tensor:
    """From one rate to another within a number of steps, and that rate from then on.

    It is `(learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power +
    end_learning_rate`, where `step` is the smaller of `global_step` and `decay_steps`.

    Args:
        learning_rate: the rate at step 0, a scalar.
        global_step: the step, an integer scalar or a variable.
        decay_steps: how many steps it takes.
        end_learning_rate: the rate afterwards.
        power: 1 is a straight line.
        cycle: instead of staying at the end, take as many times `decay_steps` as the step needs,
            so that the rate rises again and falls ever slower.
        name: the scope of the ops.

    Raises:
        ValueError: `global_step` is None.
    """
    _check_step(global_step, "polynomial_decay")
    values = [learning_rate, global_step, decay_steps, end_learning_rate, power]
    with name_scope(name, "PolynomialDecay", values) as scope:
        rate = convert_to_tensor(learning_rate, name="learning_rate")
        dtype = rate.dtype.base_dtype
        end = _as(end_learning_rate, dtype, "end_learning_rate")
        step = _as(global_step, dtype, "global_step")
        steps = _as(decay_steps, dtype, "decay_steps")
        if cycle:
            steps = steps * maximum(ceil(step / steps), 1)
        else:
            step = minimum(step, steps)
        remaining = (1 - step / steps) ** _as(power, dtype, "power")
        return add((rate - end) * remaining, end, name=scope)


def cosine_decay(
    learning_rate: TensorLike,
    global_step: TensorLike,
    decay_steps: TensorLike,
    alpha: TensorLike = 0.0,
    name: str | None = None,
) -> Tensor:
    """Half a cosine wave from one rate down to another, and that rate from then on.

    It is `learning_rate * ((1 - alpha) * (1 + cos(pi * step / decay_steps)) / 2 + alpha)`, where
    `step` is the smaller of `global_step` and `decay_steps`.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR
    2017.

    Args:
        learning_rate: the rate at step 0, a scalar.
        global_step: the step, an integer scalar or a variable.
        decay_steps: how many steps it takes.
        alpha: what remains of the rate, as a fraction.
        name: the scope of the ops.

    Raises:
        ValueError: `global_step` is None.
    """
    _check_step(global_step, "cosine_decay")
    values = [learning_rate, global_step, decay_steps, alpha]
    with name_scope(name, "CosineDecay", values) as scope:
        rate = convert_to_tensor(learning_rate, name="learning_rate")
        dtype = rate.dtype.base_dtype
        steps = _as(decay_steps, dtype, "decay_steps")
        step = minimum(_as(global_step, dtype, "global_step"), steps)
        wave = (cos(step / steps * math.pi) + 1) * 0.5
        least = _as(alpha, dtype, "alpha")
        return multiply(rate, (1 - least) * wave + least, name=scope)


def piecewise_constant(
    x: TensorLike,
    boundaries: Sequence[TensorLike],
    values: Sequence[TensorLike],
    name: str | None = None,
) -> Tensor:
    """A constant per interval: `values[0]` up to `boundaries[0]`, then `values[1]`, and so on.

    Args:
        x: what is looked up, a scalar such as the global step.
        boundaries: scalars in ascending order; each belongs to the interval before it.
        values: one more than boundaries, of one type.
        name: the scope of the ops.

    Raises:
        TypeError: a boundary that is no number.
        ValueError: not one value more than boundaries, or types that differ.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError(
            f"The length of boundaries should be 1 less than the length of values, and they are "
            f"{len(boundaries)} and {len(values)}"
        )
    with name_scope(name, "PiecewiseConstant", [x, *boundaries, *values]) as scope:
        position = convert_to_tensor(x, name="x")
        choices = convert_n_to_tensor(values, name="values")
        types = {choice.dtype.base_dtype for choice in choices}
        if len(types) > 1:
            raise ValueError(
                "Values must have elements all with the same dtype, not "
                f"{', '.join(sorted(t.name for t in types))}"
            )
        if not boundaries:
            return identity(choices[0], name=scope)
        wanted = position.dtype.base_dtype
        ends = [_as_boundary(boundary, wanted) for boundary in boundaries]
        passed = reduce_sum(cast(position > stack(ends), int32))
        return gather(stack(choices), passed, name=scope)


def _as_boundary(boundary: TensorLike, wanted: DType) -> Tensor:
    if not hasattr(boundary, "dtype") and not (isinstance(boundary, float) and wanted.is_integer):
        return convert_to_tensor(boundary, wanted, name="boundary")
    tensor = convert_to_tensor(boundary, name="boundary")
    found = tensor.dtype.base_dtype
    if (found, wanted) == (int32, int64):
        tensor = cast(tensor, int64)
    elif found is not wanted:
        raise ValueError(
            f"Boundaries ({found.name}) must have the same dtype as x ({wanted.name})."
        )
    return tensor


def _check_step(global_step: TensorLike | None, function: str) -> None:
    if global_step is None:
        raise ValueError(f"global_step is required for {function}.")


def _progress(
    global_step: TensorLike, decay_steps: TensorLike, dtype: DType, staircase: bool
) -> Tensor:
    """How many times `decay_steps` the step is."""
    step = _as(global_step, dtype, "global_step")
    times: Tensor = step / _as(decay_steps, dtype, "decay_steps")
    return floor(times) if staircase else times


def _as(value: TensorLike, dtype: DType, name: str) -> Tensor:
    """A scalar in the type of the rate; what has a type of its own is cast."""
    if hasattr(value, "dtype"):
        tensor: Tensor = cast(convert_to_tensor(value, name=name), dtype)
        return tensor
    return convert_to_tensor(value, dtype, name=name)
