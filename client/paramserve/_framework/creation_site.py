"""Where in the user's program an operation was created, recorded cheaply.

Every operation keeps the frames that led to it, because a run-time error names an op and the user
wants his line. Formatting a stack for each op would dominate graph building, so a site is kept as
(code object, instruction offset) pairs and turned into lines when somebody asks. Frames of this
package are left out: they are the same for every op.

Threads: a site is immutable.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import CodeType
from typing import Final

Site = tuple[tuple[CodeType, int], ...]

_PACKAGE: Final = str(Path(__file__).resolve().parent.parent) + "/"
_MAX_FRAMES: Final = 24


def capture() -> Site:
    """The caller's stack, innermost user frame first."""
    frame = sys._getframe(1)
    site: list[tuple[CodeType, int]] = []
    at: object = frame
    while at is not None and len(site) < _MAX_FRAMES:
        code = frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            site.append((code, frame.f_lasti))
        at = frame.f_back
        if at is not None:
            frame = frame.f_back  # type: ignore[assignment]
    return tuple(site)


def _line(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


def as_stack(site: Site) -> traceback.StackSummary:
    """The site as a stack summary, outermost frame first."""
    return traceback.StackSummary.from_list(
        [
            traceback.FrameSummary(
                code.co_filename, _line(code, offset), code.co_name, lookup_line=False
            )
            for code, offset in reversed(site)
        ]
    )


def user_line(site: Site) -> str | None:
    """The innermost frame as `file:line in function`, or None when there is none."""
    if not site:
        return None
    code, offset = site[0]
    return f"{code.co_filename}:{_line(code, offset)} in {code.co_name}"
