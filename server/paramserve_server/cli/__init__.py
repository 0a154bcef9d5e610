"""The command line, `paramserve`.

`serve` and `run` start servers, `ls`, `status` and `top` ask them, `checkpoint` reads files,
`version` says what is installed. Results go to stdout, messages to stderr. Exit codes: 0 done,
1 failed, 2 wrong use, 3 not reachable.
"""

from paramserve_server.cli.commands import main as main
