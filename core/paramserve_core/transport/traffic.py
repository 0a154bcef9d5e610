"""What passed through a listening transport.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading


class Traffic:
    """Counters of one transport's connections and of the bytes of frames on them.

    Attributes:
        connections: are open now.
        received_bytes: came from peers.
        sent_bytes: was handed to the wire.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.connections = 0
        self.received_bytes = 0
        self.sent_bytes = 0

    def opened(self) -> None:
        """A connection was made."""
        with self._lock:
            self.connections += 1

    def closed(self) -> None:
        """A connection that was made has ended."""
        with self._lock:
            self.connections -= 1

    def received(self, count: int) -> None:
        """That many bytes came."""
        with self._lock:
            self.received_bytes += count

    def sent(self, count: int) -> None:
        """That many bytes went."""
        with self._lock:
            self.sent_bytes += count
