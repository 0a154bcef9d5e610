"""How messages travel: the seam, and what carries them.

That is calls in process, a socket and shared memory on one host, gRPC anywhere. Knows envelopes and
arrays; knows nothing of what a call means.
"""
