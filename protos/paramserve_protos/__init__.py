"""The messages on the wire and on disk.

Everything but this file and the `.proto` files is written by `protos/generate.py`. Messages that
TensorFlow has too keep its names, field numbers and enum values, so their bytes are interchangeable
with TensorFlow's; the proto package is our own, so both can be loaded in one process.
"""
