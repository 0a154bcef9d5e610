"""Threads of a user's program that work side by side on one session.

Knows of no graph and no session: what the threads do is theirs.
"""
