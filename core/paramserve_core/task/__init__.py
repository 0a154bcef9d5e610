"""A task's side of every session: registered plans, running steps, answers kept for a repeat.

Knows programs, the variable store and the checkpoint code; knows nothing of how messages travel.
"""
