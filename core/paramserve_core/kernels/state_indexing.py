"""Kernels that change slices of variables, by brackets or by index vectors.

As those of `kernels.state`: under the variable's lock and after every check.

Thread rule: see `kernels.registry`.
"""

from __future__ import annotations

import math

import numpy as np

from paramserve_core.executor.updating import Ref, Update
from paramserve_core.kernels import placing, rows
from paramserve_core.kernels.numerics import Array, invalid, shape_text
from paramserve_core.kernels.registry import KernelNode, kernel
from paramserve_core.kernels.state import change_rows
from paramserve_core.kernels.strided import decoded_index


@kernel("StridedSliceAssign")
def _assign_slice(
    node: KernelNode, ref: Ref, begin: Array, end: Array, strides: Array, value: Array
) -> Ref:
    update = Update(ref, lease=node.reads_output)
    with update as (array,):
        index, sliced = decoded_index(node, array.shape, begin, end, strides)
        if list(value.shape) != sliced:
            invalid(
                f"{ref.variable.name}: a value of shape {shape_text(value.shape)} for a slice of "
                f"shape {shape_text(sliced)}"
            )
        array[index] = value
    return update.output


@kernel("ScatterNdUpdate", "ScatterNdAdd", "ScatterNdSub")
def _scatter(node: KernelNode, ref: Ref, indices: Array, updates: Array) -> Ref:
    name = ref.variable.name
    ignore = placing.ignores_bad_indices(node)
    update = Update(ref, lease=node.reads_output)
    with update as (array,):
        depth = placing.vector_length(node.op, name, array.shape, indices)
        wanted = indices.shape[:-1] + array.shape[depth:]
        if updates.shape != wanted:
            invalid(
                f"{name}: updates of shape {shape_text(updates.shape)} for index vectors of shape "
                f"{shape_text(indices.shape)} into a variable of shape {shape_text(array.shape)}; "
                f"wanted {shape_text(wanted)}, the shape of the vectors' array and then of a slice"
            )
        numbers, outside = placing.row_numbers(name, array.shape[:depth], indices, ignore)
        if array.size and updates.size:
            values = updates.reshape(len(numbers), -1)
            if outside is not None:
                numbers, values = numbers[~outside], values[~outside]
            target = array.view()
            target.shape = (math.prod(array.shape[:depth]), values.shape[1])
            if node.op == "ScatterNdUpdate":
                rows.scatter(target, numbers, np.ascontiguousarray(values))
            else:
                change = np.add if node.op == "ScatterNdAdd" else np.subtract
                change_rows(target, numbers, values, change, np.add)
    return update.output
