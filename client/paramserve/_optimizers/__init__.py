"""Optimizers: gradients to updates of variables, each one fused op on the task of its variable.

Knows variables, gradients and the training ops; knows nothing of sessions.
"""
