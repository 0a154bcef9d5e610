"""Runs the steps of a session on its tasks: holds the graph, caches plans, drives their stages.

Knows plans and the calls that a task answers; knows nothing of kernels or sockets.
"""
