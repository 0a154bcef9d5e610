"""Turns a graph into stages: prune to what is fetched, place on tasks, cut at the borders.

Knows graphs and op definitions; knows nothing of variables, sessions or networks.
"""
