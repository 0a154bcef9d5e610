"""How messages travel: the seam, and what carries them (in process, gRPC).

Knows envelopes and arrays; knows nothing of what a call means.
"""
