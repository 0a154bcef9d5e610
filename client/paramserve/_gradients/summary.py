"""Gradients of the ops of family `summary`: there are none, a summary is text.

Thread rule: fills a registry while it is imported.
"""

from paramserve._framework.gradient_registry import NoGradient

for _op in ("HistogramSummary", "MergeSummary", "ScalarSummary"):
    NoGradient(_op)
