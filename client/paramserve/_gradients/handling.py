"""What a gradient function can be given, besides a dense gradient for every output.

The walk makes things easy for gradient functions: an IndexedSlices becomes a dense tensor, and an
output that nothing depends on gets a gradient of zeros. A function that can do better says so.

Thread rule: filled while modules are imported, read-only afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

_SPARSE: Final[set[Callable[..., Any]]] = set()
_MISSING: Final[set[Callable[..., Any]]] = set()


def takes_sparse(function: Function) -> Function:
    """Decorates a gradient function that takes an IndexedSlices as it is."""
    _SPARSE.add(function)
    return function


def takes_missing(function: Function) -> Function:
    """Decorates a gradient function that takes None for an output without a gradient."""
    _MISSING.add(function)
    return function


def is_sparse_taken(function: Callable[..., Any]) -> bool:
    """Whether the function takes an IndexedSlices."""
    return function in _SPARSE


def is_missing_taken(function: Callable[..., Any]) -> bool:
    """Whether the function takes None."""
    return function in _MISSING
