"""Optimizers' formulas as one loop over the elements, for a compiler: what `[fast]` runs.

With them `copy_rows`, which gathers: rows of a large table are far apart, so what takes time is to
wait for memory, and a loop can ask for rows before it needs them (`fetch`).

A NumPy rule sweeps over a block once per operation; a loop reads and writes each element once. The
textbook's forms and the names are in `update_rules`. Each loop does *the same operations in the
same order* as its rule there, and each operation is one that IEEE 754 defines to the last bit (no
`pow`, no `exp`; the compiler may not reorder or contract them). So the two give the same bits, a
block may be computed by either, and nobody can tell when the compiled one became ready. A test
compares them, as plain Python too, so that it needs no compiler.

Arguments are the scalars, of the arrays' type; the gradient; for those named `..._rows` the row
numbers; then the variable and its slots. Dense loops take vectors, the others matrices, all
C-contiguous. A row that is named twice is updated twice, in order.

Row numbers were checked before, but may lie in memory that is shared with a client, and compiled
code does not check an index. So the loops do, and pass over what has become wrong.

Thread rule: pure functions; the caller holds what guards the arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from paramserve_core.kernels.numerics import Array

AHEAD: Final = 16
"""So many rows before it is used a row is asked for. Gathering 4096 rows of 64 floats out of 256 MB
takes 0.18 ms with 0, and 0.13 ms with 16 or more."""


LINE_BYTES: Final = 64
PART_BYTES: Final = 512
"""Of what is put at a time, whole lines: with more, memory waits while a part is computed."""


def fetch(table: Array, row: Any) -> None:
    """Asks memory for the beginning of a row, and does not wait: in machine code an instruction.

    There need not be such a row, nor memory where it would be.
    """


def put(part: Array, out: Array, start: Any) -> None:
    """Writes a vector into `out`, from index `start` on; in machine code past the cache.

    A line of memory that is written in the ordinary way is read first. `part` is of `PART_BYTES`,
    and begins in `out` where a line does.
    """
    out[start : start + part.size] = part


def subtract(factor: Any, grad: Array, var: Array) -> None:
    """Var ← var − factor grad; exactly a sum or a difference for a factor of −1 or 1."""
    for i in range(var.size):
        var[i] -= grad[i] * factor


def subtract_from(factor: Any, grad: Array, before: Array, var: Array) -> None:
    """Var ← before − factor grad; as `subtract`, where the old variable is not overwritten."""
    part = np.empty(PART_BYTES // var.itemsize, var.dtype)
    head = min(-var.ctypes.data % LINE_BYTES // var.itemsize, var.size)
    tail = head + (var.size - head) // part.size * part.size
    for i in range(head):
        var[i] = before[i] - grad[i] * factor
    for start in range(head, tail, part.size):
        # Slices: a sum as an index may be negative, and is no vector instruction.
        old, step = before[start : start + part.size], grad[start : start + part.size]
        for i in range(part.size):
            part[i] = old[i] - step[i] * factor
        put(part, var, start)
    for i in range(tail, var.size):
        var[i] = before[i] - grad[i] * factor


def momentum(rate: Any, decay: Any, grad: Array, var: Array, accum: Array) -> None:
    """See `update_rules.momentum`."""
    for i in range(var.size):
        new = accum[i] * decay + grad[i]
        accum[i] = new
        var[i] -= new * rate


def nesterov_momentum(rate: Any, decay: Any, grad: Array, var: Array, accum: Array) -> None:
    """See `update_rules.momentum`."""
    for i in range(var.size):
        new = accum[i] * decay + grad[i]
        accum[i] = new
        var[i] -= (new * decay + grad[i]) * rate


def adagrad(rate: Any, epsilon: Any, grad: Array, var: Array, accum: Array) -> None:
    """See `update_rules.adagrad`; an epsilon of 0 where the op has none."""
    for i in range(var.size):
        new = accum[i] + grad[i] * grad[i]
        accum[i] = new
        var[i] -= grad[i] * rate / (np.sqrt(new) + epsilon)


def adam(
    rate: Any, part1: Any, part2: Any, epsilon: Any, grad: Array, var: Array, m: Array, v: Array
) -> None:
    """See `update_rules.adam`; a part is 1 − β."""
    for i in range(var.size):
        mean = m[i] + (grad[i] - m[i]) * part1
        square = v[i] + (grad[i] * grad[i] - v[i]) * part2
        m[i] = mean
        v[i] = square
        var[i] -= mean * rate / (np.sqrt(square) + epsilon)


def adamw(
    rate: Any,
    part1: Any,
    part2: Any,
    epsilon: Any,
    shrinkage: Any,
    grad: Array,
    var: Array,
    m: Array,
    v: Array,
) -> None:
    """See `update_rules.adamw`; a part is 1 − β."""
    for i in range(var.size):
        mean = m[i] + (grad[i] - m[i]) * part1
        square = v[i] + (grad[i] * grad[i] - v[i]) * part2
        m[i] = mean
        v[i] = square
        var[i] = var[i] * shrinkage - mean * rate / (np.sqrt(square) + epsilon)


def rmsprop(
    rate: Any, part: Any, decay: Any, epsilon: Any, grad: Array, var: Array, ms: Array, mom: Array
) -> None:
    """See `update_rules.rmsprop`; the part is 1 − ρ."""
    for i in range(var.size):
        square = ms[i] + (grad[i] * grad[i] - ms[i]) * part
        step = mom[i] * decay + grad[i] * rate / np.sqrt(square + epsilon)
        ms[i] = square
        mom[i] = step
        var[i] -= step


def ftrl(
    rate: Any,
    threshold: Any,
    l2: Any,
    tiny: Any,
    grad: Array,
    var: Array,
    accum: Array,
    linear: Array,
) -> None:
    """See `update_rules.ftrl`, with a power of ½ and without shrinkage; `l2` is twice the op's."""
    zero = tiny - tiny  # of the arrays' type
    for i in range(var.size):
        old = np.sqrt(accum[i])
        squares = accum[i] + grad[i] * grad[i]
        root = np.sqrt(squares)
        total = linear[i] + grad[i] - (root - old) / rate * var[i]
        divisor = root / rate + l2
        size = abs(total) - threshold
        # Written so that a NaN stays one.
        divisor = tiny if divisor < tiny else divisor
        size = zero if size < zero else size
        accum[i] = squares
        linear[i] = total
        var[i] = (zero - size if total > zero else size) / divisor


def subtract_rows(factor: Any, grad: Array, indices: Array, var: Array) -> None:
    """See `subtract`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            subtract(factor, grad[i], var[row])


def momentum_rows(
    rate: Any, decay: Any, grad: Array, indices: Array, var: Array, accum: Array
) -> None:
    """See `momentum`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(accum, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            momentum(rate, decay, grad[i], var[row], accum[row])


def nesterov_momentum_rows(
    rate: Any, decay: Any, grad: Array, indices: Array, var: Array, accum: Array
) -> None:
    """See `nesterov_momentum`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(accum, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            nesterov_momentum(rate, decay, grad[i], var[row], accum[row])


def adagrad_rows(
    rate: Any, epsilon: Any, grad: Array, indices: Array, var: Array, accum: Array
) -> None:
    """See `adagrad`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(accum, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            adagrad(rate, epsilon, grad[i], var[row], accum[row])


def adam_rows(
    rate: Any,
    part1: Any,
    part2: Any,
    epsilon: Any,
    grad: Array,
    indices: Array,
    var: Array,
    m: Array,
    v: Array,
) -> None:
    """See `adam`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(m, ahead)
        fetch(v, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            adam(rate, part1, part2, epsilon, grad[i], var[row], m[row], v[row])


def adamw_rows(
    rate: Any,
    part1: Any,
    part2: Any,
    epsilon: Any,
    shrinkage: Any,
    grad: Array,
    indices: Array,
    var: Array,
    m: Array,
    v: Array,
) -> None:
    """See `adamw`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(m, ahead)
        fetch(v, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            adamw(rate, part1, part2, epsilon, shrinkage, grad[i], var[row], m[row], v[row])


def rmsprop_rows(
    rate: Any,
    part: Any,
    decay: Any,
    epsilon: Any,
    grad: Array,
    indices: Array,
    var: Array,
    ms: Array,
    mom: Array,
) -> None:
    """See `rmsprop`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(ms, ahead)
        fetch(mom, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            rmsprop(rate, part, decay, epsilon, grad[i], var[row], ms[row], mom[row])


def ftrl_rows(
    rate: Any,
    threshold: Any,
    l2: Any,
    tiny: Any,
    grad: Array,
    indices: Array,
    var: Array,
    accum: Array,
    linear: Array,
) -> None:
    """See `ftrl`."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(var, ahead)
        fetch(accum, ahead)
        fetch(linear, ahead)
        row = indices[i]
        if 0 <= row < len(var):
            ftrl(rate, threshold, l2, tiny, grad[i], var[row], accum[row], linear[row])


def copy_rows(source: Array, indices: Array, out: Array) -> None:
    """Out ← the rows of `source` of those numbers; zeros for what is no row."""
    for i in range(indices.size):
        ahead = indices[min(i + AHEAD, indices.size - 1)]
        fetch(source, ahead)
        row = indices[i]
        if 0 <= row < len(source):
            for j in range(out.shape[1]):
                out[i, j] = source[row, j]
        else:
            for j in range(out.shape[1]):
                out[i, j] = 0


ROWS: Final[dict[Callable[..., None], Callable[..., None]]] = {
    subtract: subtract_rows,
    momentum: momentum_rows,
    nesterov_momentum: nesterov_momentum_rows,
    adagrad: adagrad_rows,
    adam: adam_rows,
    adamw: adamw_rows,
    rmsprop: rmsprop_rows,
    ftrl: ftrl_rows,
}
"""The loop over rows that goes with each dense one."""
