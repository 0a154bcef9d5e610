"""Gradient functions, one module per op family, and the walk that puts them together.

Importing this package registers every gradient function. Knows the framework and `_ops`.
"""
