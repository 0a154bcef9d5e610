"""What tests of programs use: a test case with sessions, and gradients by small differences.

Knows graphs, gradients and sessions; nothing of the package knows it.
"""
