"""The public op functions, one module per family; each is a thin typed wrapper over `apply_op`.

Knows the framework and the op definitions; knows nothing of sessions, variables or optimizers.
"""
