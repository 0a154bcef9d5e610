"""Frames between whoever sends and the gRPC thread that writes them.

gRPC pulls what is to be written from an iterator, one frame after the other, as fast as the peer
takes them. The first frames of a message are made by its sender and left here. Those that follow
are made by the thread that writes, each when the one before has gone, and the sender waits until
all are. So a slow peer slows its senders down instead of filling memory, and a long message does
not take a hand-over between threads for each frame, which may last as long as the copy of it.

Thread rule: `put_all` may be called from any thread, frames of one call stay together; one thread
iterates.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from paramserve_core.errors import OpError, UnavailableError

_DEPTH: Final = 3
_MADE_BY_SENDER: Final = 2
"""Frames of a message. While one is on its way, the next is made."""


class Outbox:
    """A short queue of frames; the iterator ends when it is closed."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._queue: deque[bytes | Iterator[bytes]] = deque()
        self._error: OpError | None = None
        self._is_closed = False
        self._has_dropped = False

    def put_all(self, frames: Iterable[bytes]) -> None:
        """Queues the frames of one message; returns when the last one was made.

        A sender that is interrupted in the middle of a message breaks the connection: nothing that
        comes after half a message would be understood.

        Raises:
            UnavailableError: the connection is broken.
        """
        made = iter(frames)
        with self._turn:
            try:
                for count, frame in enumerate(made):
                    if count == _MADE_BY_SENDER:
                        rest = itertools.chain((frame,), made)
                        self._put(rest)
                        self._wait_for(rest)
                        return
                    self._put(frame)
            except BaseException:
                self.close()
                raise

    def _put(self, frames: bytes | Iterator[bytes]) -> None:
        with self._changed:
            while len(self._queue) >= _DEPTH and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                raise self._reason()
            self._queue.append(frames)
            self._changed.notify_all()

    def _wait_for(self, frames: Iterator[bytes]) -> None:
        with self._changed:
            while any(frames is item for item in self._queue):
                self._changed.wait()
            if self._has_dropped:
                raise self._reason()

    def _reason(self) -> OpError:
        found = self._error.message if self._error is not None else "it was closed"
        return UnavailableError(None, None, f"the connection is broken: {found}")

    def close(self, error: OpError | None = None, *, drop: bool = True) -> None:
        """Ends the iterator, at once or after what is queued; senders are refused from now on."""
        with self._changed:
            if not self._is_closed:
                self._is_closed = True
                self._error = error
            if drop:
                self._has_dropped = True
                self._queue.clear()
            self._changed.notify_all()

    def __iter__(self) -> Outbox:
        return self

    def __next__(self) -> bytes:
        while True:
            with self._changed:
                while not self._queue:
                    if self._is_closed:
                        raise StopIteration
                    self._changed.wait()
                made = self._queue[0]
                if isinstance(made, bytes):
                    self._queue.popleft()
                    self._changed.notify_all()
                    return made
            frame = next(made, None)
            with self._changed:
                # What the frame was made of may have changed meanwhile.
                if self._has_dropped:
                    raise StopIteration
                if frame is not None:
                    return frame
                self._queue.popleft()
                self._changed.notify_all()
