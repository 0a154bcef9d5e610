"""Variables: making, initialising, sharing, partitioning and placing them.

Knows the framework and the op functions. Knows no session beyond what the framework says of one,
no optimizer and no saver.
"""
