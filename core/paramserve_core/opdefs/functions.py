"""Ops that call a Python function of the process that made the graph.

They run in that process only; see `executor.host_functions`.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    ShapeContext,
    register_op,
    string_attr,
    type_list_attr,
)
from paramserve_core.shapes import TensorShape


def _unknown(ctx: ShapeContext) -> Sequence[TensorShape]:
    return [shapes.UNKNOWN] * len(ctx.attrs["Tout"])


for _op, _is_stateful in (("PyFunc", True), ("PyFuncStateless", False)):
    register_op(
        _op,
        inputs="input: Tin",
        outputs="output: Tout",
        attrs={
            "token": string_attr(),
            "Tin": type_list_attr(minimum=0),
            "Tout": type_list_attr(minimum=0),
        },
        shape=_unknown,
        is_stateful=_is_stateful,
        has_effect=_is_stateful,
    )
