"""Frames between whoever sends and the gRPC thread that writes them.

gRPC pulls what is to be written from an iterator, one frame after the other, as fast as the peer
takes them. The outbox holds a few frames and makes senders wait for room, so that a slow peer slows
its senders down instead of filling memory.

Thread rule: `put_all` may be called from any thread, frames of one call stay together; one thread
iterates.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Final

from paramserve_core.errors import OpError, UnavailableError

_DEPTH: Final = 3


class Outbox:
    """A short queue of frames; the iterator ends when it is closed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._frames: deque[bytes] = deque()
        self._error: OpError | None = None
        self._is_closed = False

    def put_all(self, frames: Iterable[bytes]) -> None:
        """Queues the frames of one message; returns when the last one is in the queue.

        A sender that is interrupted in the middle of a message breaks the connection: nothing that
        comes after half a message would be understood.

        Raises:
            UnavailableError: the connection is broken.
        """
        with self._turn:
            try:
                for frame in frames:
                    self._put(frame)
            except BaseException:
                self.close()
                raise

    def _put(self, frame: bytes) -> None:
        with self._changed:
            while len(self._frames) >= _DEPTH and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                raise self._reason()
            self._frames.append(frame)
            self._changed.notify_all()

    def _reason(self) -> OpError:
        found = self._error.message if self._error is not None else "it was closed"
        return UnavailableError(None, None, f"the connection is broken: {found}")

    def close(self, error: OpError | None = None, *, drop: bool = True) -> None:
        """Ends the iterator, at once or after what is queued; senders are refused from now on."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._error = error
            if drop:
                self._frames.clear()
            self._changed.notify_all()

    def __iter__(self) -> Outbox:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._frames:
                if self._is_closed:
                    raise StopIteration
                self._changed.wait()
            frame = self._frames.popleft()
            self._changed.notify_all()
            return frame
