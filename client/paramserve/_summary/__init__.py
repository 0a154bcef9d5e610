"""TensorBoard's event files: written, and read again.

Knows messages and graphs; knows no session. The ops that pack values are in `_ops.summary`.
"""
