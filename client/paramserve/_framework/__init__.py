"""The graph: operations, tensors, scopes, conversion, import and export.

Owns the data structure that a program builds before anything runs. Knows op definitions (core) and
messages (protos); knows no op function, no variable and no session. What those give back to the
graph (operators, gradient and conversion functions) they register here while they are imported.
"""
