"""Savers: which variables go into a checkpoint under which names, and which checkpoints are kept.

Knows graphs, and sessions as something that saves and restores; knows nothing of files' formats,
which are core's.
"""
