"""Processes that end with the one that started them, also when that is killed.

`python child.py PID COMMAND...` becomes COMMAND, and gets SIGKILL when its parent PID ends: Linux's
PR_SET_PDEATHSIG, which survives exec. It imports nothing else of the project, to be quick.

Thread rule: `end_with_parent` is called on the main thread, before others are started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """Has this process killed when its parent ends; ends at once if that is gone already.

    Args:
        parent: the process id of the parent.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main() -> None:
    """Becomes the command."""
    end_with_parent(int(sys.argv[1]))
    command = sys.argv[2:]
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"paramserve: {command[0]}: {error.strerror}", file=sys.stderr)
        os._exit(127)


if __name__ == "__main__":
    main()
