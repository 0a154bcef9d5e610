"""A TCP proxy that cuts its connections at random byte offsets.

It stands between real clients and a real server and forwards both directions. Each connection is
given a number of bytes, drawn from a seed; when that many have passed, in either direction, both
sides are reset in the middle of whatever they were saying.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator

_RESET = struct.pack("ii", 1, 0)


class CuttingProxy:
    """Listens on loopback and forwards to `target`, cutting after at most `most_bytes`."""

    def __init__(self, target: str, seed: int, most_bytes: int) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._random = random.Random(seed)
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._is_cutting = True
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def calm(self) -> None:
        """From now on connections are left alone."""
        self._is_cutting = False

    def close(self) -> None:
        """Stops listening and ends every connection."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            pair = _Pair(self, client, server, self._random.randrange(1, self._most_bytes))
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def passed(self, pair: _Pair, count: int) -> int:
        """How many of `count` bytes may still go through `pair`."""
        with self._lock:
            if not self._is_cutting:
                return count
            allowed = min(count, pair.bytes_left)
            pair.bytes_left -= allowed
            if allowed < count and pair in self._pairs:
                self.cuts += 1
            return allowed

    def ended(self, pair: _Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)


class _Pair:
    """The two halves of one proxied connection."""

    def __init__(
        self, proxy: CuttingProxy, client: socket.socket, server: socket.socket, bytes_left: int
    ) -> None:
        self._proxy = proxy
        self._ends = (client, server)
        self.bytes_left = bytes_left

    def start(self) -> None:
        client, server = self._ends
        for source, sink in ((client, server), (server, client)):
            threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                allowed = self._proxy.passed(self, len(data))
                sink.sendall(data[:allowed])
                if allowed < len(data):
                    break
        except OSError:
            pass
        self.cut()

    def cut(self) -> None:
        """Resets both ends."""
        self._proxy.ended(self)
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def cutting_proxy(target: str, *, seed: int, most_bytes: int) -> Iterator[CuttingProxy]:
    """A proxy for the length of the block."""
    proxy = CuttingProxy(target, seed, most_bytes)
    try:
        yield proxy
    finally:
        proxy.close()
