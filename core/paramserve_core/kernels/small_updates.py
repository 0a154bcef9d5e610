"""The short form of updates, for the many small variables of a model.

NumPy changes 256 numbers in half a microsecond, and a kernel call takes twenty times as long: it
looks at hyperparameters that are the same for all variables, prepares to wait, to copy, and to say
what is wrong. A *short form* is made once for the updates of a step that stand side by side (see
`executor.batches`), by one op and with the same settings. It then takes each variable, compares
types and shapes, changes the numbers and lets go.

Whatever is unusual it leaves alone, and says so: then the kernel runs, with its waiting, its copy
or its error. So there is one definition of what an op does, and a short form never decides
anything that can be seen in a result.

Thread rule: a short form belongs to the thread that runs the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy import ndarray

from paramserve_core.executor.updating import Ref
from paramserve_core.executor.variable import Variable
from paramserve_core.kernels.numerics import Array
from paramserve_core.kernels.registry import ShortForm
from paramserve_core.kernels.update_rules import SCRATCH_ROWS, BlockUpdate

MAX_BYTES: Final = 64 << 10
"""Of a gradient. With more, what a kernel call costs no longer counts."""


def short_update(update: BlockUpdate, dtype: np.dtype[Any], ref_count: int = 1) -> ShortForm:
    """The short form of an update by a rule, or of anything else of that form.

    Args:
        update: what the rule answered for the settings of the step.
        dtype: of the variables, their slots and the gradients.
        ref_count: how many variables and slots one update changes.

    Returns:
        A function of the references and the gradient.
    """
    scratch: Sequence[Array] = ()
    shape: tuple[int, ...] | None = None

    def is_usual(gradient: Any) -> bool:
        """Whether it is a small array of the type; if so there is a scratch for it."""
        nonlocal scratch, shape
        if gradient.__class__ is not ndarray or gradient.dtype is not dtype:
            return False
        if gradient.shape != shape:
            if gradient.nbytes > MAX_BYTES:
                return False
            shape = gradient.shape
            whole = np.empty((SCRATCH_ROWS, *gradient.shape), dtype)
            scratch = [whole[row, ...] for row in range(SCRATCH_ROWS)]
        return True

    def update_one(ref: Any, gradient: Any) -> bool:
        if ref.__class__ is not Ref or ref.stored is not None or not is_usual(gradient):
            return False
        done: bool = ref.variable.change_at_once(update, scratch, gradient)
        return done

    def update_several(*inputs: Any) -> bool:
        *refs, gradient = inputs
        if not is_usual(gradient):
            return False
        begun: list[Variable] = []
        arrays: list[Array] = []
        try:
            for ref in refs:
                if ref.__class__ is not Ref or ref.stored is not None:
                    return False
                array = ref.variable.begin_at_once()
                if array is None:
                    return False
                begun.append(ref.variable)
                if array.shape != shape or array.dtype is not dtype:
                    return False
                arrays.append(array)
            update(scratch, gradient, *arrays)
        finally:
            for variable in begun:
                variable.end_at_once()
        return True

    return update_one if ref_count == 1 else update_several
