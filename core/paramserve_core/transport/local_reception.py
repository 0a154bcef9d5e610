"""Who receives on a local connection: a thread of its own, or whoever waits for an answer.

A thread that receives and another one that waits cost two wake-ups for one answer, of some 40 µs
each where a sleeping processor has to be woken, and the second one has to get the interpreter from
the first. So a caller that waits alone receives itself, as a *guest*: it has the turn to receive
until its answer has come, and hands what it reads for others to them, as the connection's own
thread would. That thread stands by meanwhile. It has the turn at first, offers it once its last
answers were each for a caller that waited alone, and takes it back

* at once when it is called (`attend`): somebody waits who does not receive, or a guest leaves
  while others still wait. So many callers at a time are served as they would be without guests;
* when nobody has received for a while. Nothing waits for what arrives until then: ends of leases,
  the end of the connection. It looks every `_LOOK_S`, but not while one guest reads on and on, who
  calls it when leaving: neither an idle connection nor a long step wakes it.

A guest sleeps in `poll`, so that what ends its waiting otherwise does so at once: a signal, its
deadline, the end of the connection, and an item that another thread put into its mailbox, which
says so through an eventfd.

A guest may be interrupted anywhere, by Ctrl-C for one. Asleep, that is nothing to the connection.
Amid a packet it ends the connection, since nobody could read on from there; whoever is above makes
a new one, over which nothing is lost (see `conversation`). A signal's handler that itself waits for
an answer receives within the turn that it has interrupted.

Thread rule: `run` and `end` are called by the connection's own thread, everything else by any. The
fields are guarded by `_lock`, but for what the one that has the turn keeps to itself.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sized
from typing import Any, Final

from paramserve_core.errors import OpError
from paramserve_core.runtime import ThreadMailbox
from paramserve_core.transport.local_vigil import Vigil

_LOOK_S: Final = 0.025
"""How often the own thread looks whether guests still come."""

_LONE: Final = 2
"""After so many answers in a row to callers that waited alone the turn is offered to guests."""

_RELUCTANCE: Final = 8
"""And after so many more where the own thread was called since."""

_LONGEST_POLL_MS: Final = 1 << 30


class Reception:
    """The turns to receive on one connection.

    Args:
        descriptor: the socket.
        has_bytes: whether some of what arrives next was read ahead; then nobody sleeps.
        receive: receives one packet and hands on what is in it; answers False at the end. Called
            by whoever has the turn.
        give_up: ends the connection, for the reason given.

    Attributes:
        waiting: the mailboxes that somebody takes from now.
    """

    def __init__(
        self,
        descriptor: int,
        has_bytes: Callable[[], bool],
        receive: Callable[[], bool],
        give_up: Callable[[str], object],
    ) -> None:
        self._descriptor = descriptor
        self._has_bytes = has_bytes
        self._receive = receive
        self._give_up = give_up
        self._lock = threading.Lock()
        self._called = threading.Event()
        self._is_own = True
        self._guest = 0
        self._turns = 0
        self._is_long = False
        self._lone = 0
        self.waiting: set[GuestMailbox] = set()
        self._is_amid = False
        self._is_over = False
        self._vigil = Vigil()
        self._failure: Exception | None = None
        self._wake = -1
        self._poll: select.poll | None = None

    # The connection's own thread.

    def run(self) -> None:
        """Receives until the end; raises what ended it, for a guest or here."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        while True:
            if not self._is_own:
                self._take_back()
            if self._failure is not None:
                raise self._failure
            if self._is_over:
                return
            if not self._has_bytes() and not self._vigil.look(poll):
                self._vigil.sleep(poll)
            if not self._receive():
                return
            if self._lone >= _LONE:
                self._offer()

    def end(self) -> None:
        """Frees what this has, and forgets the connection; `run` must have returned."""
        with self._lock:
            wake, self._wake = self._wake, -1
        if wake >= 0:
            os.close(wake)
        # Each knows the other, and what was lent must not wait for the collector of cycles.
        self._receive = _nothing_more
        self._give_up = _gave_up

    def _offer(self) -> None:
        with self._lock:
            if self._lone >= _LONE:
                self._lone = 0
                self._is_own = False

    def _take_back(self) -> None:
        patience_s: float | None = _LOOK_S
        while True:
            seen = self._turns
            is_called = self._called.wait(patience_s)
            with self._lock:
                self._called.clear()
                is_quiet = self._turns == seen
                if not self._guest and (is_called or is_quiet):
                    self._is_own = True
                    return
                self._is_long = is_quiet and self._guest != 0
                patience_s = None if self._is_long else _LOOK_S

    # Guests.

    def mailbox(self, outstanding: Sized) -> GuestMailbox:
        """A mailbox whose taker receives; `outstanding` is what more is waited for."""
        if self._poll is None:
            self._prepare()
        return GuestMailbox(self, outstanding)

    def _prepare(self) -> None:
        with self._lock:
            if self._poll is None:
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                self._poll = self._new_poll()

    def attend(self) -> None:
        """Somebody waits who does not receive: the connection's own thread has to."""
        if self._is_own and self._lone == -_RELUCTANCE:
            return  # As it is for each of many callers.
        with self._lock:
            self._lone = -_RELUCTANCE
            if not self._is_own:
                self._called.set()

    def drain(self) -> None:
        """Receives what is there already, if nobody else has the turn; never waits for more."""
        me = threading.get_ident()
        if self._is_own or self._guest == me:
            return
        try:
            if self._take(me):
                poll = self._new_poll()
                while (self._has_bytes() or poll.poll(0)) and self._receive_as_guest():
                    pass
        finally:
            self._leave(me)

    def receive_for(self, box: GuestMailbox, timeout_s: float | None) -> None:
        """Receives until there is something in `box`; returns at once where others receive."""
        if self._is_own:
            return
        me = threading.get_ident()
        if self._guest == me:
            self._receive_within(box, timeout_s)
            return
        try:
            try:
                if self._take(me):
                    assert self._poll is not None
                    self._receive_until(box, timeout_s, self._poll)
            finally:
                self._leave(me)
        finally:
            self._leave(me)  # Where a signal's handler raised before the first could.

    def arrived(self, box: GuestMailbox) -> None:
        """Something is about to be put into `box`."""
        if self._is_own:
            is_lone = len(self.waiting) == 1 and box in self.waiting
            if is_lone or self._lone > 0:
                with self._lock:
                    self._lone = self._lone + 1 if is_lone else min(self._lone, 0)

    def wake(self) -> None:
        """Makes the guest look into its mailbox."""
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _new_poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        if self._wake >= 0:
            poll.register(self._wake, select.POLLIN)
        return poll

    def _take(self, me: int) -> bool:
        # An interruption after this leaves the turn to whom `_guest` says.
        with self._lock:
            if self._is_own or self._guest or self._is_over:
                return False
            self._turns += 1
            self._guest = me
        return True

    def _leave(self, me: int) -> None:
        if self._guest != me:
            return
        with self._lock:
            self._guest = 0
            if self._is_long or self._is_over:
                self._is_long = False
                self._called.set()

    def _receive_until(self, box: GuestMailbox, timeout_s: float | None, poll: select.poll) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        rest_ms: float | None = None
        while box.is_empty() and not self._is_over:
            if not self._has_bytes():
                if deadline is not None:
                    rest_ms = min(1e3 * (deadline - time.monotonic()), _LONGEST_POLL_MS)
                    if rest_ms <= 0:
                        return
                if not self._is_readable(box, poll, rest_ms):
                    continue
            if not self._receive_as_guest():
                return

    def _is_readable(self, box: GuestMailbox, poll: select.poll, timeout_ms: float | None) -> bool:
        """Sleeps until there is something to read or in `box`, or it is time."""
        ready = self._vigil.look(poll)
        if not ready:
            box.is_slept_for = True
            try:
                ready = self._vigil.sleep(poll, timeout_ms) if box.is_empty() else []
            finally:
                box.is_slept_for = False
        is_readable = False
        for descriptor, _ in ready:
            if descriptor == self._wake:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(descriptor)
            else:
                is_readable = True
        return is_readable

    def _receive_as_guest(self) -> bool:
        self._is_amid = True
        try:
            if self._receive():
                return True
        except (OpError, OSError, EOFError) as failure:
            self._failure = failure
        except BaseException:
            self._is_over = True
            self._give_up("receiving was interrupted")
            raise
        finally:
            self._is_amid = False
        self._is_over = True
        return False

    def _receive_within(self, box: GuestMailbox, timeout_s: float | None) -> None:
        """Receives in a function that has interrupted this thread in its turn."""
        if not self._is_amid:
            self._receive_until(box, timeout_s, self._new_poll())
            self.wake()  # What was interrupted: it may have got something, too.
            return
        self._is_over = True
        self._give_up("receiving was interrupted by a call")
        self._leave(threading.get_ident())


def _nothing_more() -> bool:
    return False


def _gave_up(_: str) -> None:
    """The connection has ended already."""


class GuestMailbox(ThreadMailbox):
    """A mailbox whose taker receives what is put into it, and into others.

    Attributes:
        is_slept_for: whoever puts something in has to `wake` the one who waits.
    """

    __slots__ = ("_outstanding", "_reception", "is_slept_for")

    def __init__(self, reception: Reception, outstanding: Sized) -> None:
        super().__init__()
        self._reception = reception
        self._outstanding = outstanding
        self.is_slept_for = False

    def put(self, item: Any) -> None:
        """See `Mailbox.put`."""
        self._reception.arrived(self)
        super().put(item)
        if self.is_slept_for:
            self._reception.wake()

    def get(self, timeout_s: float | None = None) -> Any:
        """See `Mailbox.get`."""
        reception = self._reception
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            reception.waiting.add(self)
            reception.receive_for(self, timeout_s)
            return super().get(None if deadline is None else deadline - time.monotonic())
        finally:
            reception.waiting.discard(self)
            if self._outstanding:
                reception.attend()
