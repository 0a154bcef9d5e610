"""Values in lists, tuples and dicts, as functions take and give them.

Thread rule: pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(structure: Any) -> list[Any]:
    """What is in the lists, tuples and dicts, those of a dict by its sorted keys; None is none."""
    if structure is None:
        return []
    if isinstance(structure, Mapping):
        return [leaf for key in sorted(structure) for leaf in leaves(structure[key])]
    if isinstance(structure, (list, tuple)):
        return [leaf for part in structure for leaf in leaves(part)]
    return [structure]


def rebuilt(structure: Any, items: Iterator[Any], strict: bool = True) -> Any:
    """The structure with other leaves.

    Args:
        structure: lists, tuples and dicts.
        items: the leaves, in the order of `leaves`.
        strict: leave a list or tuple of one element what it is; without, it becomes that one.
    """
    if structure is None:
        return None
    if isinstance(structure, Mapping):
        values = {key: rebuilt(structure[key], items) for key in sorted(structure)}
        return {key: values[key] for key in structure}
    if isinstance(structure, (list, tuple)):
        parts = [rebuilt(part, items) for part in structure]
        if len(parts) == 1 and not strict:
            return parts[0]
        if hasattr(structure, "_fields"):
            return type(structure)(*parts)
        return type(structure)(parts)
    return next(items)
