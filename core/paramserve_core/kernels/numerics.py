"""What the kernels of all numeric families share: precision, broadcasting, floating-point flags.

Three conventions are kept here in one place. Half precision (float16, bfloat16) is a storage
format: a kernel of more than one rounding step computes in float32 and rounds once, at the end.
Overflow, division by zero and invalid operations on floats give inf and nan without a warning, as
on any accelerator. And the result of broadcasting two small arrays may be a large one, so its size
is checked before it is made.

Thread rule: pure functions.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn, TypeVar

import numpy as np
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from paramserve_core.errors import InvalidArgumentError
from paramserve_core.kernels.limits import checked_size

Array = NDArray[Any]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_HALVES: Final = frozenset({np.dtype(np.float16), np.dtype(bfloat16)})
_FLOAT32: Final = np.dtype(np.float32)


class _Thread(threading.local):
    is_quiet = False


_thread: Final = _Thread()


def invalid(message: str) -> NoReturn:
    """Raises InvalidArgumentError(message)."""
    raise InvalidArgumentError(None, None, message)


def shape_text(shape: Sequence[int]) -> str:
    """A shape as error messages write it: ``[2,3]``."""
    return "[" + ",".join(map(str, shape)) + "]"


def quiet(function: _Function) -> _Function:
    """Decorates a kernel: floating-point conditions give inf and nan without a warning."""

    @functools.wraps(function)
    def run(*args: Any) -> Any:
        if _thread.is_quiet:
            return function(*args)
        with np.errstate(all="ignore"):
            return function(*args)

    return run  # type: ignore[return-value]


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """For the length of a block in which this thread calls many kernels: what `quiet` does.

    A thousand updates of small variables would otherwise spend a tenth of their time on it.
    """
    before = _thread.is_quiet
    with np.errstate(all="ignore"):
        _thread.is_quiet = True
        try:
            yield
        finally:
            _thread.is_quiet = before


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether `dtype` is a two-byte float."""
    return dtype in _HALVES


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type to compute in for a result of `dtype`: float32 for the half precisions."""
    return _FLOAT32 if dtype in _HALVES else dtype


def widened(function: _Function) -> _Function:
    """Decorates a kernel ``f(node, *arrays)`` so that it sees half precision as float32.

    The result (an array or a tuple of them) is rounded to the type of the node's outputs.
    """

    @functools.wraps(function)
    def run(node: Any, *arrays: Array) -> Any:
        if not any(a.dtype in _HALVES for a in arrays):
            return function(node, *arrays)
        wide = (a.astype(_FLOAT32) if a.dtype in _HALVES else a for a in arrays)
        results = function(node, *wide)
        if not isinstance(results, tuple):
            return results.astype(node.output_dtypes[0].as_numpy_dtype, copy=False)
        return tuple(
            r.astype(t.as_numpy_dtype, copy=False)
            for r, t in zip(results, node.output_dtypes, strict=True)
        )

    return run  # type: ignore[return-value]


def truncated_quotient(x: Array, y: Array) -> Any:
    """The quotients of integers as C has them: without the fraction, where NumPy rounds down."""
    quotient = np.floor_divide(x, y)
    if x.dtype.kind == "u":
        return quotient
    # Rounding down is one too low where the exact quotient is negative.
    inexact = np.multiply(quotient, y) != x
    return quotient + (inexact & ((x < 0) != (y < 0))).astype(x.dtype)


def broadcast_shape(x: Array, y: Array) -> tuple[int, ...]:
    """The shape that `x` and `y` broadcast to, once it is known to be within the size limit.

    Raises:
        InvalidArgumentError: they do not broadcast.
        ResourceExhaustedError: the result would be too large.
    """
    if x.shape == y.shape:
        return x.shape
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        invalid(f"Incompatible shapes: {shape_text(x.shape)} vs. {shape_text(y.shape)}")
    if x.size > 1 and y.size > 1:
        checked_size(shape, max(x.itemsize, y.itemsize))
    return shape


def check_same_shape(op: str, **arrays: Array) -> None:
    """Raises InvalidArgumentError unless all `arrays` have one shape."""
    if len({a.shape for a in arrays.values()}) > 1:
        found = ", ".join(f"{name} {shape_text(a.shape)}" for name, a in arrays.items())
        invalid(f"{op}: inputs must have the same shape, but have {found}")


def check_rank(op: str, what: str, array: Array, rank: int) -> None:
    """Raises InvalidArgumentError unless `array` has `rank` dimensions."""
    if array.ndim != rank:
        kind = {0: "a scalar", 1: "a vector", 2: "a matrix"}.get(rank, f"of rank {rank}")
        invalid(f"{op}: {what} must be {kind}, but has shape {shape_text(array.shape)}")


def scalar_value(op: str, what: str, array: Array) -> Any:
    """The Python number in `array`.

    Raises:
        InvalidArgumentError: it has another shape than a scalar.
    """
    if array.ndim:
        check_rank(op, what, array, 0)
    return array.item()


def axis_value(op: str, array: Array, rank: int) -> int:
    """The axis that `array`, a scalar, names in a tensor of `rank` dimensions; not negative.

    Raises:
        InvalidArgumentError: it is no scalar, or not in ``[-rank, rank)``.
    """
    axis = int(scalar_value(op, "the axis", array))
    if not -rank <= axis < rank:
        invalid(f"{op}: expected an axis in the range [{-rank}, {rank}), but got {axis}")
    return axis % rank
