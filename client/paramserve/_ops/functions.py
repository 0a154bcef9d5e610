"""Ops that call a Python function.

Thread rule: a function adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from paramserve._framework.graph import get_default_graph
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._framework.types import DTypeLike, TensorLike
from paramserve._ops.emit import emit_operation, emit_tensors
from paramserve_core.dtypes import as_dtype
from paramserve_core.executor.host_functions import FUNCTIONS

__all__ = ["py_func"]


def py_func(
    func: Callable[..., Any],
    inp: Sequence[TensorLike],
    Tout: DTypeLike | Sequence[DTypeLike],
    stateful: bool = True,
    name: str | None = None,
) -> Tensor | list[Tensor] | Operation:
    """Calls a Python function with the values of tensors, and makes tensors of what it returns.

    The function runs in the process that made the op, in a step of `Session()` or, for an op
    without a device, of `Session(ClusterSpec)`. It is never sent to a server; a step that would
    run it there is refused. In an exported graph there is a token in its place, which means
    nothing elsewhere. The op has no gradient, and the shapes of its outputs are not known: see
    `Tensor.set_shape`.

        y = ps.py_func(lambda x: np.sinh(x), [x], ps.float32)

    Args:
        func: is given an array for each tensor (read-only), NumPy's scalar for one without
            dimensions, bytes for a string; returns an array or a scalar, or a list or tuple of
            them. Their types must be those of `Tout`: a Python float is a float64.
        inp: the tensors, of any types.
        Tout: the type of what it returns, or a list of types; an empty list for a function that
            returns nothing.
        stateful: whether calls with equal inputs may differ.
        name: the name of the op.

    Returns:
        A tensor for one type, a list of tensors for a list; an operation for an empty list, if the
        function is stateful and so may have a reason to be called.

    Raises:
        TypeError: `func` is no function.
        InvalidArgumentError: at run time, where the function returns other types or another number
            of values, or raises a TypeError or ValueError.
        OutOfRangeError: it raises StopIteration.
        UnknownError: it raises anything else; the message has its traceback.
        UnimplementedError: the op was placed on a server.
    """
    if not callable(func):
        raise TypeError(f"func must be callable, got {func!r}")
    is_one = not isinstance(Tout, (list, tuple))
    types = [as_dtype(dtype) for dtype in ([Tout] if is_one else Tout)]
    function = FUNCTIONS.register(func)
    get_default_graph().keep_alive(function)
    op_type = "PyFunc" if stateful else "PyFuncStateless"
    arguments = {"input": list(inp), "token": function.token, "Tout": types}
    if stateful and not types:
        return emit_operation(op_type, name, **arguments)
    outputs = emit_tensors(op_type, name, **arguments)
    return outputs[0] if is_one else outputs
