"""Runs programs, the compiled form of a stage, on the variables of one task.

Knows op definitions, kernels and the variable store. Knows nothing of plans over several tasks,
sessions, networks or files.
"""
