"""Arguments that TensorFlow renamed or reordered, so that programs of both ages run.

Thread rule: pure functions of values; they add nothing to a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramserve._framework.tensor import Tensor
from paramserve_core.dimensions import Dimension


def one_of(new: str, new_value: Any, old: str, old_value: Any) -> Any:
    """The value of an argument that has two names.

    Raises:
        ValueError: both were given.
    """
    if old_value is None:
        return new_value
    if new_value is not None:
        raise ValueError(f"Cannot specify both '{new}' and '{old}': they are one argument")
    return old_value


def needed(function: str, name: str, value: Any) -> Any:
    """The value of an argument that has a default only because it has two names.

    Raises:
        TypeError: it was not given.
    """
    if value is None:
        raise TypeError(f"{function}() is missing the argument '{name}'")
    return value


def is_scalar(value: Any) -> bool:
    """Whether a value has no dimensions: an axis, and nothing that could be cut or joined."""
    if isinstance(value, Tensor):
        return value.shape.ndims == 0
    if isinstance(value, (int, np.integer, Dimension)):
        return True
    return isinstance(value, np.ndarray) and value.ndim == 0
