"""Sessions: they run parts of a graph, here or on servers, and answer arrays.

Knows the framework, and the master (core) that plans and runs steps; knows no op function, no
variable and no saver. What a program fetches and feeds is worked out once, see `preparation`.
"""
