"""Names of operations and scopes: which are well-formed, and which are taken.

A scope and an operation share one table, so that an operation named after a scope (`name=scope`)
is the only one that gets the scope's own name.

Thread rule: the graph's lock is held while a table is used.
"""

from __future__ import annotations

import re
from typing import Final

_OP_NAME: Final = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
_INNER_SCOPE: Final = re.compile(r"[A-Za-z0-9_.\\/>-]*")


def check_op_name(name: str) -> None:
    """Checks that an operation may have the full name `name`.

    Raises:
        ValueError: it may not.
    """
    if _OP_NAME.fullmatch(name) is None:
        raise ValueError(
            f"'{name}' is not a valid node name: it must begin with a letter, a digit or '.', and "
            "go on with those and '_', '-', '/', '\\' and '>'"
        )


def check_scope_name(name: str, *, is_inner: bool) -> None:
    """Checks that a scope may be called `name`.

    Args:
        name: the name of the scope alone.
        is_inner: it is opened inside another one, and need not begin as an operation's name.

    Raises:
        ValueError: it may not.
    """
    pattern = _INNER_SCOPE if is_inner else _OP_NAME
    if pattern.fullmatch(name) is None:
        raise ValueError(f"'{name}' is not a valid scope name")


class NameTable:
    """The names in use in one graph.

    Names that differ in case only count as equal: somewhere they would be one file or one tag.
    """

    def __init__(self) -> None:
        self._uses: dict[str, int] = {}

    def unique(self, name: str, mark_as_used: bool) -> str:
        """`name`, or `name_1`, `name_2`, ... where it is taken.

        Args:
            name: the full name wanted.
            mark_as_used: whether nobody else can have the result from now on.
        """
        key = name.lower()
        count = self._uses.get(key, 0)
        if mark_as_used:
            self._uses[key] = count + 1
        if count:
            base = name
            while key in self._uses:
                name = f"{base}_{count}"
                key = name.lower()
                count += 1
            if mark_as_used:
                self._uses[key] = 1
        return name

    def reserve(self, name: str) -> None:
        """Takes a name that the caller knows to be free or his own."""
        self._uses.setdefault(name.lower(), 1)

    def release(self, name: str) -> None:
        """Gives a name back."""
        self._uses.pop(name.lower(), None)
