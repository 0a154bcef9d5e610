"""The server: a process that owns variables and runs a session's stages on them.

This package knows processes, sockets, configuration, limits and the command line. What an op
computes, how a checkpoint is laid out and how a graph is planned it takes from `paramserve_core`.
It never imports the client.
"""
