"""Gradients of the family `state`: there are none, nothing flows back through an update.

Thread rule: fills a registry while it is imported.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import NoGradient

for _op in (
    *("Assign", "AssignAdd", "AssignSub", "CountUpTo", "IsVariableInitialized"),
    *("ScatterAdd", "ScatterDiv", "ScatterMax", "ScatterMin", "ScatterMul", "ScatterSub"),
    *("ScatterUpdate",),
    *("Variable", "VariableV2"),
):
    NoGradient(_op)
