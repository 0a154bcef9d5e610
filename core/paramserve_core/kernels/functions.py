"""Kernels that call a Python function of this process.

Thread rule: see `kernels.registry`; the function is called on whatever thread runs the step.
"""

from __future__ import annotations

import traceback
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve_core import dtypes, errors
from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    NotFoundError,
    OpError,
    UnimplementedError,
    error_from_status,
)
from paramserve_core.executor.variable import read_only
from paramserve_core.kernels.numerics import invalid
from paramserve_core.kernels.registry import KernelNode, kernel

Array = NDArray[Any]

_CODES: Final = {
    StopIteration: errors.OUT_OF_RANGE,
    TypeError: errors.INVALID_ARGUMENT,
    ValueError: errors.INVALID_ARGUMENT,
    MemoryError: errors.RESOURCE_EXHAUSTED,
    NotImplementedError: errors.UNIMPLEMENTED,
}
"""What an exception of the function becomes; others become an UnknownError."""


@kernel("PyFunc", "PyFuncStateless", takes_step=True)
def _call(node: KernelNode, step: Any, *inputs: Array) -> tuple[Array, ...] | Array | None:
    token = node.attrs["token"]
    if step.functions is None:
        raise UnimplementedError(
            None,
            None,
            f"function {token!r} of a program is never called in a server; run the op in the "
            "client, in a Session() or a Session(ClusterSpec), without a device",
        )
    function = step.functions.find(token)
    if function is None:
        raise NotFoundError(
            None,
            None,
            f"function {token!r} is not known in this process: an op of py_func runs in the "
            "process that made it, for as long as its graph is there",
        )
    # A tensor without dimensions is a scalar of NumPy's, or bytes.
    arguments = [read_only(value) if value.ndim else value[()] for value in inputs]
    try:
        result = function.call(*arguments)
    except OpError:
        raise
    except Exception as error:
        code = next(
            (c for kind, c in _CODES.items() if kind in type(error).__mro__), errors.UNKNOWN
        )
        trace = "".join(traceback.format_exception(error)).rstrip()
        raise error_from_status(code, f"{type(error).__name__}: {error}\n{trace}") from error
    values = [] if result is None and not node.output_dtypes else result
    if not isinstance(values, (list, tuple)):
        values = [values]
    if len(values) != len(node.output_dtypes):
        invalid(
            f"{token} returns {len(values)} values, but {len(node.output_dtypes)} are expected: "
            "one for each type in Tout"
        )
    outputs = tuple(
        _output(token, index, value, dtype)
        for index, (value, dtype) in enumerate(zip(values, node.output_dtypes, strict=True))
    )
    return outputs[0] if len(outputs) == 1 else outputs or None


def _output(token: str, index: int, value: Any, dtype: DType) -> Array:
    """A value of the function as a tensor; a copy, since the function may keep its own."""
    which = f"the {index + 1}. value that {token} returns"
    try:
        array = np.array(value)
    except ValueError:
        invalid(f"{which} is ragged; return an array")
    if dtype is dtypes.string:
        items = [item.encode() if isinstance(item, str) else item for item in array.ravel()]
        if not all(isinstance(item, bytes) for item in items):
            invalid(f"{which} is {_kind(value, array)}, but strings are expected")
        strings = np.empty(array.shape, np.object_)
        strings.reshape(-1)[:] = items
        return strings
    if array.dtype != dtype.as_numpy_dtype:
        invalid(
            f"{which} is {_kind(value, array)}, but {dtype.name} is expected; convert it in the "
            f"function, as np.{dtype.name}(...) or array.astype(np.{dtype.name})"
        )
    return array


def _kind(value: Any, array: Array) -> str:
    return type(value).__name__ if array.dtype.hasobject else array.dtype.name
