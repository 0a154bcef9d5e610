"""What client and server share: dtypes, shapes, ops, kernels, plans, transport, checkpoints.

The in-process session and the server run this same code, which is why a program behaves alike with
`Session()` and with `Session("grpc://host:port")`. It imports `paramserve_protos` and neither of
the two packages that stand on it.
"""
