"""`python -m paramserve_server.cli` is `paramserve`."""

from paramserve_server.cli import main

main()
