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
from numba.extending import register_jitable

from paramserve_core.kernels import fused_loops

# The cache notices when `fused_loops` changes, but not when flags do: after changing one here,
# delete the `*.nbi` files.
_FLAGS: Final = {"error_model": "numpy", "nogil": True}

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
    scalar = numba.from_dtype(dtype)
    ndim = 2 if "indices" in names else 1
    # Gradients and row numbers may be memory that is not ours to write.
    special = {
        "grad": numba.types.Array(scalar, ndim, "C", readonly=True),
        "indices": numba.types.Array(numba.intp, 1, "C", readonly=True),
    }
    state = numba.types.Array(scalar, ndim, "C")
    first_array = names.index("grad")
    return numba.void(
        *(scalar if i < first_array else special.get(name, state) for i, name in enumerate(names))
    )
