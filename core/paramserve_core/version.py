"""The version of this installation.

Thread rule: a pure function.
"""

from __future__ import annotations

from functools import cache


@cache
def version() -> str:
    """As the package's metadata have it."""
    # Finding the metadata takes a while, even the import, and few programs need them.
    from importlib.metadata import version as version_of

    return version_of("paramserve")
