"""Version 1 of the messages. Import the modules: `from paramserve_protos.v1 import graph_pb2`."""
