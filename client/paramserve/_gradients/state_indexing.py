"""Gradients of the family `state_indexing`: there are none, nothing flows back through an update.

Thread rule: fills a registry while it is imported.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import NoGradient

for _op in ("ScatterNdAdd", "ScatterNdSub", "ScatterNdUpdate", "StridedSliceAssign"):
    NoGradient(_op)
