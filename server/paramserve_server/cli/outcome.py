"""Exit codes of the command line."""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
WRONG_USE: Final = 2
UNREACHABLE: Final = 3
