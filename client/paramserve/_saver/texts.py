"""Paths and names that a saver sends to servers, which take UTF-8.

A string of Python's may have lone surrogates, which are no characters: so it does for the name of a
file that is no UTF-8.

Thread rule: pure functions.
"""

from __future__ import annotations

import os


def path_text(path: str | os.PathLike[str]) -> str:
    """The path of a checkpoint or a directory as a string.

    Raises:
        TypeError: it is no path.
        ValueError: it cannot be sent.
    """
    text = os.fspath(path)
    check_text(text, "path")
    return text


def check_text(text: str, what: str) -> None:
    """Refuses what cannot be sent.

    Raises:
        ValueError: it has lone surrogates.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the {what} {text[:200]!a} has a lone surrogate at {error.start}, which is no "
            "character and cannot be sent to a server; give it another name"
        ) from None
