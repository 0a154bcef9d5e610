"""Compiles the loops of `fused_loops` with numba, the extra `[fast]`.

Imported only where something is to be compiled: it imports numba, which takes a second.

The flags keep IEEE arithmetic as it is written: no `fastmath`, so no contraction, no reordering
and NaN where NumPy has NaN; `error_model="numpy"` lets a division by zero give infinity, without
which the loops do not become vector instructions. `nogil` lets blocks run side by side. No
`parallel`: numba's threads may not be entered from several of ours, and `blocks` shares the work.

Machine code is cached where numba keeps it: in `__pycache__` beside the source, where that can be
written, or else in the user's cache directory (or in `NUMBA_CACHE_DIR`). Whoever can write there
runs code as us, so a directory that everyone or another user can write is not used, and the code
then lives in memory only.

Thread rule: called from one thread at a time, that of `fused.Compiler`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.extending import lower_builtin, register_jitable, type_callable
from numba.np.arrayobj import make_array

from paramserve_core.kernels import fused_loops

# The cache notices when `fused_loops` changes, but not when this module does: after changing flags
# or instructions, delete the `*.nbi` files.
_FLAGS: Final = {"error_model": "numpy", "nogil": True}

_READ_ONLY: Final = ("grad", "before", "source", "indices")
"""The arguments that a loop only reads, which may be memory that is not ours to write; what comes
before the first of them are scalars."""


def _type_of_fetch(context: Any) -> Callable[..., Any]:
    return lambda table, row: numba.types.none


def _lower_fetch(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The instructions of `fused_loops.fetch`."""
    table = make_array(signature.args[0])(context, builder, arguments[0])
    row_bytes = builder.extract_value(table.strides, 0)
    offset = builder.mul(arguments[1], row_bytes)
    address = cgutils.pointer_add(builder, table.data, offset, cgutils.voidptr_t)
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, number, number, number])
    prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    # To be read, into all caches, as data.
    builder.call(prefetch, [address, number(0), number(3), number(1)])
    return context.get_dummy_value()


def _type_of_put(context: Any) -> Callable[..., Any]:
    return lambda part, out, start: numba.types.none


def _lower_put(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The instructions of `fused_loops.put`.

    Memory may see such stores late; they are all there once the thread has taken or left a lock,
    as that of the interpreter, which it takes before anybody hears that a loop has ended.
    """
    part, out = (make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 1))
    itemsize = builder.extract_value(out.strides, 0)
    there = cgutils.pointer_add(
        builder, out.data, builder.mul(arguments[2], itemsize), cgutils.voidptr_t
    )
    line_type = ir.VectorType(ir.IntType(32), fused_loops.LINE_BYTES // 4).as_pointer()
    number = out.strides.type.element
    is_not_read_soon = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
    lines = ir.Constant(number, fused_loops.PART_BYTES // fused_loops.LINE_BYTES)
    with cgutils.for_range(builder, lines) as loop:
        offset = builder.mul(loop.index, ir.Constant(number, fused_loops.LINE_BYTES))
        source, target = (
            cgutils.pointer_add(builder, start, offset, line_type) for start in (part.data, there)
        )
        line = builder.load(source)
        line.align = 4  # at least
        store = builder.store(line, target)
        store.align = fused_loops.LINE_BYTES
        store.set_metadata("nontemporal", is_not_read_soon)
    return context.get_dummy_value()


# Not an `overload`, which is a function: a call counts references, see below.
type_callable(fused_loops.put)(_type_of_put)
lower_builtin(fused_loops.put, numba.types.Array, numba.types.Array, numba.types.Integer)(
    _lower_put
)
type_callable(fused_loops.fetch)(_type_of_fetch)
lower_builtin(fused_loops.fetch, numba.types.Array, numba.types.Integer)(_lower_fetch)

for _dense in fused_loops.ROWS:
    # What loops over rows call. Inlined, as a call counts a reference to each row that it passes,
    # and counting is atomic: that takes half as long again as the update of 64 floats.
    register_jitable(error_model="numpy", inline="always")(_dense)


def compile_loop(loop: Callable[..., None], dtype: np.dtype[Any]) -> Callable[..., None]:
    """The loop in machine code, for arrays of `dtype` that are aligned and C-contiguous.

    It never compiles when it is called: arrays of another kind are a `TypeError`.

    Raises:
        Exception: whatever numba has to say.
    """
    dispatcher = _dispatcher(loop)
    dispatcher.compile(_signature(loop, dtype))
    dispatcher.disable_compile()
    compiled: Callable[..., None] = dispatcher
    return compiled


def _dispatcher(loop: Callable[..., None]) -> Any:
    try:
        cached = numba.njit(cache=True, **_FLAGS)(loop)
        if is_private(cached.stats.cache_path):
            return cached
    except RuntimeError:  # there is no directory to cache in
        pass
    return numba.njit(**_FLAGS)(loop)


def is_private(directory: str) -> bool:
    """Whether nobody but its owner, who is root or this user, and a group can write there."""
    status = os.stat(directory)
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o002


def _signature(loop: Callable[..., None], dtype: np.dtype[Any]) -> Any:
    names = list(inspect.signature(loop).parameters)
    first_array = min(names.index(name) for name in _READ_ONLY if name in names)
    scalar = numba.from_dtype(dtype)
    ndim = 2 if "indices" in names else 1

    def type_of(name: str) -> Any:
        if name == "indices":
            return numba.types.Array(numba.intp, 1, "C", readonly=True)
        return numba.types.Array(scalar, ndim, "C", readonly=name in _READ_ONLY)

    scalars, arrays = names[:first_array], names[first_array:]
    return numba.void(*(scalar for _ in scalars), *(type_of(name) for name in arrays))
