"""The client: variables, graphs, sessions and savers; the only package that a program imports."""
