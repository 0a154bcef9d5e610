"""Checkpoints on the disks of the tasks: formats, atomic writes, retention, restore.

Knows files, tensors and the variable store; knows nothing of sessions, graphs or networks.
"""
