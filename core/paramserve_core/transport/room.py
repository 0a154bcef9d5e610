"""Room for the tensors that a server has received and not yet dealt with.

Clients may push faster than a server applies. What it has read of their messages is in its memory,
so it reads no further than a limit: a message with large tensors waits, unread, until there is room
for all of them, first come first served, and the connection's own flow control makes its sender
wait. A message that is larger than the limit gets in when there is no other.

Room is given back as leases are: an `Admission` is held by the list of a message's tensors, which
the call holds that they came with, and ends with it.

What could wait for each other for ever must not wait here. Steps that a master in the server drives
wait for stages on other servers, and those for room there, so stages must get in while steps fill
the room: steps come in by an *annex*, which has a queue of its own and shares the limit, and one
message is let in by each of the two whatever the other holds. While a checkpoint holds the gate,
everybody is let in, since what it waits for may be behind what waits; and a message whose sender
stopped in the middle of it is not counted.

Thread rule: every method may be called from any thread. Admissions end on any thread, perhaps one
that is in here, so the lock is one that its holder can take again.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from numpy.typing import NDArray

COUNTED_BYTES: Final = 64 << 10
"""Messages with less than that are let in at once: they are not what fills memory."""

_STALLED_S: Final = 5.0
_LOOK_S: Final = 0.05


class Admission:
    """The right of a message to be in memory; ends when nobody holds it any more.

    Attributes:
        message_bytes: the bytes of the message's tensors.
        seen_at: when bytes of it came last.
    """

    __slots__ = ("__weakref__", "_room", "message_bytes", "seen_at")

    def __init__(self, room: Room, message_bytes: int) -> None:
        self._room = room
        self.message_bytes = message_bytes
        self.seen_at = room.now()

    def arrives(self) -> None:
        """Some bytes of the message came."""
        self.seen_at = self._room.now()

    def has_arrived(self) -> None:
        """The message is complete."""
        self._room.has_arrived(self)

    def __del__(self) -> None:
        self._room.leave(self.message_bytes)


Admit = Callable[[int], Admission | None]
"""Waits until there is room for so many bytes; None: they are not counted."""


class _Admitted(list[NDArray[Any]]):
    """The tensors of a message; as long as there is this list, its admission lasts."""

    __slots__ = ("_admission",)

    def __init__(self, tensors: Iterable[NDArray[Any]], admission: Admission) -> None:
        super().__init__(tensors)
        self._admission = admission


def admitted(tensors: list[NDArray[Any]], admission: Admission | None) -> list[NDArray[Any]]:
    """The tensors of a message that has arrived, in a list that holds its admission."""
    if admission is None:
        return tensors
    admission.has_arrived()
    return _Admitted(tensors, admission)


class Room:
    """Room for so many bytes of received tensors.

    Args:
        limit_bytes: how many.
        is_suspended: whether everybody is to be let in for the moment.
        now: a clock, in seconds.
    """

    def __init__(
        self,
        limit_bytes: int,
        is_suspended: Callable[[], bool] = lambda: False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self._limit_bytes = limit_bytes
        self._is_suspended = is_suspended
        self._changed = threading.Condition(threading.RLock())
        self._rooms = [self]
        self._queue: deque[object] = deque()
        self._used_bytes = 0
        self._arriving: weakref.WeakSet[Admission] = weakref.WeakSet()

    def annex(self) -> Room:
        """A room that shares this one's limit, and that this one's messages do not wait for."""
        annex = Room(self._limit_bytes, self._is_suspended, self.now)
        annex._changed = self._changed
        annex._rooms = self._rooms
        self._rooms.append(annex)
        return annex

    @property
    def used_bytes(self) -> int:
        """Bytes that were let in here and are still there."""
        return self._used_bytes

    @property
    def waiting_count(self) -> int:
        """Messages that wait."""
        return len(self._queue)

    def admit(self, message_bytes: int) -> Admission | None:
        """Waits until there is room for a message; see `Admit`."""
        if message_bytes < COUNTED_BYTES:
            return None
        place = object()
        with self._changed:
            self._queue.append(place)
            try:
                while self._queue[0] is not place or not self._fits(message_bytes):
                    self._changed.wait(_LOOK_S)
                self._used_bytes += message_bytes
            finally:
                self._queue.remove(place)
                self._changed.notify_all()
            admission = Admission(self, message_bytes)
            self._arriving.add(admission)
        return admission

    def has_arrived(self, admission: Admission) -> None:
        """A message that was let in is complete."""
        with self._changed:
            self._arriving.discard(admission)

    def leave(self, message_bytes: int) -> None:
        """A message that was let in is gone."""
        with self._changed:
            self._used_bytes -= message_bytes
            self._changed.notify_all()

    def _fits(self, message_bytes: int) -> bool:
        rest_bytes = self._limit_bytes - message_bytes
        if not self._used_bytes or sum(room._used_bytes for room in self._rooms) <= rest_bytes:
            return True
        if not self._counted_bytes() or self._is_suspended():
            return True
        return sum(room._counted_bytes() for room in self._rooms) <= rest_bytes

    def _counted_bytes(self) -> int:
        """What is in here, without the messages whose senders stopped in the middle."""
        stalled_since = self.now() - _STALLED_S
        return self._used_bytes - sum(
            arriving.message_bytes
            for arriving in self._arriving
            if arriving.seen_at < stalled_since
        )
