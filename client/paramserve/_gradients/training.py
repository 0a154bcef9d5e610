"""Gradients of the family `training`: there are none, nothing flows back through an update.

Thread rule: fills a registry while it is imported.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import NoGradient
from paramserve_core.opdefs import all_ops

for _op in [op.name for op in all_ops().values() if op.family == "training"]:
    NoGradient(_op)
