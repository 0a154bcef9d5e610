"""Gradients of the family `math_sequence`: there are none, as in TensorFlow.

Thread rule: fills a registry while it is imported.
"""

from __future__ import annotations

from paramserve._framework.gradient_registry import NoGradient

for _op in ("Bincount", "LinSpace", "Range"):
    NoGradient(_op)
