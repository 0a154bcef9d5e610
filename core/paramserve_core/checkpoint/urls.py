"""Paths that are URLs, such as `s3://bucket/runs`, and paths of this machine.

A `UrlPath` is a pure path that keeps its scheme: parents, names and `/` work as on any path, and as
text it is the URL again. `file://` is this machine's disk, by another name.

Thread rule: immutable objects and pure functions.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath, PurePosixPath
from typing import Final

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://")


class UrlPath(PurePosixPath):
    """A path below the root of some store; its first part is the scheme, with the colon."""

    def __str__(self) -> str:
        """The URL."""
        scheme, *rest = self.parts
        return f"{scheme}//{'/'.join(rest)}" if scheme.endswith(":") else super().__str__()

    @property
    def scheme(self) -> str:
        """What stands before the colon; it names the kind of store."""
        return self.parts[0].removesuffix(":")


def location(path: str | os.PathLike[str]) -> PurePath:
    """The path that a text means: a `UrlPath`, or a `Path` of this machine."""
    text = os.fspath(path)
    found = _SCHEME.match(text)
    if found is None:
        return Path(text)
    rest = text[found.end() :]
    return Path(rest) if found[1] == "file" else UrlPath(f"{found[1]}:", rest.lstrip("/"))


def is_url(path: str) -> bool:
    """Whether a text begins with a scheme."""
    return _SCHEME.match(path) is not None


def absolute(path: str | os.PathLike[str]) -> PurePath:
    """Like `location`; a relative path begins at the current directory."""
    where = location(path)
    return where.absolute() if isinstance(where, Path) else where


def split(path: str) -> tuple[str, str]:
    """A text before its last slash and behind it, like `os.path.split`; a scheme stays whole."""
    found = _SCHEME.match(path)
    scheme = "" if found is None else found[0]
    head, tail = os.path.split(path[len(scheme) :])
    return scheme + head, tail


def join(directory: str, path: str) -> str:
    """A path that is relative to a directory, unless it is absolute or a URL."""
    return path if is_url(path) else os.path.join(directory, path)
