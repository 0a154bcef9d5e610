"""The command line: `paramserve serve`, `run`, `ls`, `status`, `checkpoint`, `version`.

Results go to stdout, messages to stderr. Exit codes: 0 done, 1 failed, 2 wrong use, 3 not
reachable.
"""

from paramserve_server.cli.commands import main as main
