"""Gradients of the ops of family `functions`: there are none, a Python function is not looked into.

Thread rule: fills a registry while it is imported.
"""

from paramserve._framework.gradient_registry import NoGradient

for _op in ("PyFunc", "PyFuncStateless"):
    NoGradient(_op)
