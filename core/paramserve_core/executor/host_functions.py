"""Python functions that ops of a graph may call, in the process that has them.

A graph names a function by a token. Where it runs in the process that registered the function, the
token is found; a server has no table at all, so no graph makes it run anything but its own ops.

A function is kept by whoever registered it (a graph keeps those of its ops), not by the table.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any, Final

CALLING_OPS: Final = frozenset({"PyFunc", "PyFuncStateless"})
"""The ops that call a function."""


class HostFunction:
    """A function and the token that stands for it in graphs.

    Attributes:
        call: the function; it is given arrays, or NumPy's scalars for tensors without dimensions.
        token: what names it.
    """

    __slots__ = ("__weakref__", "call", "token")

    def __init__(self, call: Callable[..., Any], token: str) -> None:
        self.call = call
        self.token = token


class HostFunctions:
    """The functions of one process."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._functions: weakref.WeakValueDictionary[str, HostFunction] = (
            weakref.WeakValueDictionary()
        )

    def register(self, call: Callable[..., Any]) -> HostFunction:
        """Adds a function for as long as the answer is kept."""
        function = HostFunction(call, f"pyfunc_{next(self._numbers)}")
        self._functions[function.token] = function
        return function

    def find(self, token: str) -> HostFunction | None:
        """The function of that token, or None where nobody keeps it."""
        return self._functions.get(token)


FUNCTIONS: Final = HostFunctions()
"""Those of this process; sessions that run ops in the process they are made in may call them."""
