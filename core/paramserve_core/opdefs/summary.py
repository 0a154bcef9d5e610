"""Ops that pack values for TensorBoard: each gives a scalar string, an encoded `Summary`.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from paramserve_core.dtypes import float32
from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import int_attr, register_op, type_attr
from paramserve_core.opdefs.type_sets import REALS

register_op(
    "ScalarSummary",
    inputs="tags: string, values: T",
    outputs="summary: string",
    attrs={"T": type_attr(REALS)},
    shape=shapes.scalar,
)
register_op(
    "HistogramSummary",
    inputs="tag: string, values: T",
    outputs="summary: string",
    attrs={"T": type_attr(REALS, float32)},
    shape=shapes.scalar,
)
register_op(
    "MergeSummary",
    inputs="inputs: N * string",
    outputs="summary: string",
    attrs={"N": int_attr(minimum=1)},
    shape=shapes.scalar,
)
