"""Random number streams: one per session and node, independent of where the node runs.

The generator is Philox, which is *counter-based*: number n of a stream is a function of the
stream's key and n alone (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011).
So a stream needs no state beyond its key and its position, and two streams of different keys are
independent.

The key of a node with seeds is made of the two seeds only: the same seeds give the same sequence
on every machine, under any node name, in every session. The key of a node without seeds is made
of the session's entropy and the node's name: another sequence in every session, and another one
for every node. Keys are hashes of a labelled text, so that no two kinds of key can meet.

A `Generator` holds a lock of its own while it draws, so a node that two steps run at once draws
two different stretches of its stream.

Thread rule: `stream` may be called from any thread.
"""

from __future__ import annotations

import hashlib
import secrets
import threading

import numpy as np


class RandomStreams:
    """The random streams of one session on one task."""

    __slots__ = ("_entropy", "_lock", "_streams")

    def __init__(self, entropy: int | None = None) -> None:
        """Starts all streams at their beginning.

        Args:
            entropy: what distinguishes the unseeded streams of this session from those of others;
                drawn from the operating system if None.
        """
        self._entropy = secrets.randbits(128) if entropy is None else entropy
        self._lock = threading.Lock()
        self._streams: dict[tuple[str, int, int], np.random.Generator] = {}

    def stream(self, node_name: str, seed: int, seed2: int) -> np.random.Generator:
        """The stream of a node; what is drawn from it advances it.

        Args:
            node_name: the node; every node has a stream of its own, also under equal seeds.
            seed: the graph's seed, or what the node's attribute says.
            seed2: the op's seed. Both 0: the stream is keyed by the session and the node.
        """
        key = (node_name, seed, seed2)
        # Reading a dict is atomic; only making a stream needs the lock.
        stream = self._streams.get(key)
        if stream is None:
            with self._lock:
                stream = self._streams.get(key)
                if stream is None:
                    stream = np.random.Generator(np.random.Philox(key=self._key(*key)))
                    self._streams[key] = stream
        return stream

    def _key(self, node_name: str, seed: int, seed2: int) -> int:
        if seed or seed2:
            text = f"seeds {seed} {seed2}"
        else:
            text = f"session {self._entropy} {node_name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")
