"""The client's end of one session with one task: calls that survive broken connections.

Every call has a number. While a connection stands, calls go out and answers come in, in any order
and many at a time. When it breaks, what was not answered stays here; a new connection is made, and
everything outstanding is sent again under the same numbers, so that the task (see `task.calls`)
runs each call once. The user notices a pause.

What ends this is a task of another incarnation: its state is gone, so every outstanding and later
call fails with AbortedError. A task that cannot be reached for a while fails what is outstanding
with UnavailableError, and the next call tries anew.

A call that was cancelled while the connection was down is not sent again; its cancellation is, and
the task answers it without running it, if it had not run.

A task that has more to do than it can makes its clients wait before they can send. A call with a
deadline does not wait any longer than that: if it cannot have its turn, it is not sent, and if it
went out in part, the connection is broken, since nothing else could follow on it; the next one
begins with what is still wanted.

Thread rule: every method may be called from any thread. `_lock` guards the fields and is held for
moments; `_sending` is held while messages go out, so that numbers leave in order, and may be held
while a slow peer takes a large tensor. `_sending` is taken before `_lock`, never after. Whoever
starts a call waits for it; who cancels one does not.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message as ProtoMessage
from numpy.typing import NDArray

from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    AbortedError,
    CancelledError,
    OpError,
    UnavailableError,
)
from paramserve_core.master.acknowledging import Acknowledgements
from paramserve_core.master.link import Link
from paramserve_core.master.outstanding import Outcome, PendingCall
from paramserve_core.master.patience import Patience
from paramserve_core.master.task_place import TaskPlace
from paramserve_core.runtime import Mailbox, Runtime
from paramserve_core.task.messages import STEP_REQUESTS, call_envelope, error_of, response_of
from paramserve_core.transport.interface import (
    Connection,
    Dialer,
    HostingConnection,
    Message,
    Tensors,
)
from paramserve_core.transport.payload import payload_bytes
from paramserve_core.transport.wire import GRPC, NO_OPTIONS, WireOptions
from paramserve_protos.v1 import config_pb2, service_pb2

_LARGE_BYTES: Final = 64 << 10
"""An answer with more is acknowledged at once, so that the task can let it go."""

_log = logging.getLogger(__name__)


class Conversation:
    """Calls to one task, for one session.

    Args:
        name: the task, for messages.
        dialer: makes connections to it; closed with the conversation.
        runtime: time and threads.
        session_id: the session's name at the task; random, so that nobody else can use it.
        kind: who plans, see `service.proto`.
        config: for a session whose steps the task plans.
        patience: how long to try.
        wire: how messages travel; told the task, which answers alike.
    """

    def __init__(
        self,
        name: str,
        dialer: Dialer,
        runtime: Runtime,
        *,
        session_id: str,
        kind: service_pb2.SessionKind,
        config: config_pb2.ConfigProto | None = None,
        patience: Patience | None = None,
        wire: WireOptions = NO_OPTIONS,
    ) -> None:
        self.name = name
        self._dialer = dialer
        self._place = TaskPlace(name, dialer)
        self._runtime = runtime
        self._wire_dtype = wire.dtype
        self._hello = service_pb2.Hello(
            session_id=session_id, kind=kind, config=config, wire=wire.message()
        )
        self._patience = patience or Patience()
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._pending: dict[int, PendingCall] = {}
        self._next_number = 1
        self._link: Link | None = None
        self._is_connecting = False
        self._is_closing = False
        self._process = os.getpid()
        self._fatal: OpError | None = None
        self._acknowledged = Acknowledgements()
        self._transport = ""
        self._going_out: PendingCall | None = None

    @property
    def transport(self) -> str:
        """What carries the calls, or did last: "grpc", "shm", "in process"; "" before any."""
        return self._transport

    def wire_bytes(self, tensors: Tensors) -> int:
        """The bytes of tensors as they travel, without the messages around them."""
        wire_dtype = self._wire_dtype if self._transport == GRPC else None
        return sum(payload_bytes(tensor, wire_dtype) for tensor in tensors)

    def mailbox(self) -> Mailbox[Any]:
        """A mailbox for answers; who takes from it may receive them, too, if nobody else does."""
        link = self._link
        # The locks of a connection may be held for ever in a forked child.
        if link is None or link.host is None or self._is_of_another_process():
            return self._runtime.mailbox()
        return link.host.mailbox(self._pending)

    def start(
        self,
        request: ProtoMessage,
        tensors: Tensors,
        done: Callable[[Outcome], None],
        deadline: float | None = None,
        *,
        is_awaited: bool = False,
    ) -> PendingCall:
        """Makes a call; waits while the task takes nothing.

        Args:
            request: one of the requests that `Call` can carry.
            tensors: what goes with it; unchanged until `done` is called.
            done: called once with the outcome, from any thread; must be brief.
            deadline: by the runtime's clock; a call that has not gone out by then is given up.
            is_awaited: the caller takes the outcome from a `mailbox` of this conversation next.
        """
        if self._is_of_another_process():
            done(Outcome(error=self._place.forked(self._process)))
            return PendingCall(0, request, tensors, done, self.cancel)
        if not self._have_turn(deadline):
            done(Outcome(error=self._place.blocked()))
            return PendingCall(0, request, tensors, done, self.cancel)
        try:
            with self._lock:
                call = PendingCall(self._next_number, request, tensors, done, self.cancel, deadline)
                fatal = self._fatal
                if fatal is None:
                    self._next_number += 1
                    self._pending[call.number] = call
                link = self._link
                must_connect = fatal is None and link is None and not self._is_connecting
                self._is_connecting |= must_connect
            if link is not None and fatal is None:
                self._transmit(link, call)
                if link.host is not None and not is_awaited:
                    link.host.attend()
        finally:
            self._sending.release()
        if fatal is not None:
            done(Outcome(error=copy.copy(fatal)))
        elif must_connect:
            self._runtime.spawn("connect", self._connect)
        return call

    def call(
        self, request: ProtoMessage, tensors: Tensors = (), timeout_s: float | None = None
    ) -> tuple[ProtoMessage | None, list[NDArray[Any]]]:
        """Makes a call and waits for its answer.

        Raises:
            DeadlineExceededError: no answer within `timeout_s`; the call was cancelled.
            UnavailableError: the task could not be reached.
            AbortedError: the task was restarted or gave the session up.
            OpError: what the call failed with.
        """
        box = self.mailbox()
        deadline = None if timeout_s is None else self._runtime.now() + timeout_s
        call = self.start(request, tensors, box.put, deadline, is_awaited=True)
        try:
            rest_s = None if deadline is None else max(0.0, deadline - self._runtime.now())
            outcome = box.get(rest_s)
        except TimeoutError:
            call.cancel()
            raise self._place.silent(timeout_s or 0.0) from None
        except BaseException:
            call.cancel()
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.response, list(outcome.tensors)

    def cancel(self, call: PendingCall) -> None:
        """See `PendingCall.cancel`."""
        with self._lock:
            if call.number not in self._pending or call.is_abandoned:
                return
            call.is_abandoned = True
            call.tensors = ()
        # The task may be taking nothing at the moment.
        self._runtime.submit(lambda: self._cancel_soon(call.number))

    def _cancel_soon(self, number: int) -> None:
        with self._sending:
            with self._lock:
                link = self._link
            if link is not None:
                self._send_cancel(link, number)

    def tell(self, request: ProtoMessage) -> None:
        """Makes a call of whose outcome nobody hears; does not wait."""
        self._runtime.submit(lambda: self._tell_soon(request))

    def _tell_soon(self, request: ProtoMessage) -> None:
        self.start(request, (), _ignore)

    def close(self) -> None:
        """Ends the session at the task, if it can be reached, and fails what is outstanding."""
        if self._is_of_another_process():
            return
        with self._lock:
            is_open = self._link is not None and self._fatal is None
            self._is_closing = True
        if is_open:
            try:
                self.call(service_pb2.CloseSession(), timeout_s=self._patience.close_s)
            except OpError as error:
                _log.debug("closing the session: %s", error.message)
        self._die(CancelledError(None, None, "the session was closed", task=self.name))
        self._dialer.close()

    # What the links call.

    def answered(self, link: Link, message: Message) -> None:
        """An answer arrived."""
        reply = message.envelope.reply
        call = None
        overtaking: list[int] = []
        try:
            with self._lock:
                call = self._pending.get(reply.id)
                if call is None:
                    return
                # Not `pop`: a signal's handler may raise on the way back from a call.
                del self._pending[reply.id]
                first_pending = next(iter(self._pending), None)
                overtaking = self._acknowledged.overtaking(reply.id, first_pending)
            error = error_of(reply.status)
            if error is None:
                call.done(Outcome(response_of(reply), message.tensors))
            else:
                error.task = error.task or self.name
                call.done(Outcome(error=error))
        except BaseException:
            # Whoever receives was interrupted. The answer comes again, over the next connection.
            if call is not None:
                with self._lock:
                    self._pending[reply.id] = call
            raise
        if error is None and sum([t.nbytes for t in message.tensors]) > _LARGE_BYTES:
            self._acknowledge(link, [reply.id])
        if overtaking:
            self._acknowledge(link, overtaking)

    def connection_lost(self, link: Link) -> None:
        """A connection broke: make another, also when nothing is outstanding.

        An idle session that did not return would be given up by the task. One that was closed must
        not return: it is gone there, and the task ended the connection because it is.
        """
        with self._lock:
            if self._link is not link:
                return
            self._link = None
            is_over = self._fatal is not None or (self._is_closing and not self._pending)
            must_connect = not is_over and not self._is_connecting
            self._is_connecting |= must_connect
        if must_connect:
            _log.info("connection lost, reconnecting", extra={"task": self.name})
            self._runtime.spawn("connect", self._connect)

    # Making connections; one thread at a time, while `_is_connecting`.

    def _connect(self) -> None:
        is_new = not self._hello.incarnation
        patience = self._patience
        window_s = patience.connect_s if is_new else patience.reconnect_s
        deadline = self._runtime.now() + window_s
        delay_s = patience.first_delay_s
        while True:
            try:
                self._connect_once(max(0.1, deadline - self._runtime.now()))
                return
            except UnavailableError as error:
                if self._runtime.now() + delay_s >= deadline:
                    self._give_up(self._place.unreachable(error, window_s))
                    return
            except OpError as error:
                self._give_up(error)
                return
            self._runtime.sleep(delay_s)
            delay_s = min(2 * delay_s, patience.max_delay_s)

    def _connect_once(self, timeout_s: float) -> None:
        """Tries once; returns when there is no more to do."""
        with self._lock:
            if self._fatal is not None:
                self._is_connecting = False
                return
        link = Link(self._runtime.mailbox(), self.answered, self.connection_lost)
        connection = self._dialer.dial(link, timeout_s)
        link.connection = connection
        link.host = connection if isinstance(connection, HostingConnection) else None
        try:
            self._greet(link, connection, timeout_s)
            with self._sending:
                self._resume(link)
        except BaseException:
            connection.close()
            raise

    def _greet(self, link: Link, connection: Connection, timeout_s: float) -> None:
        connection.send(Message(service_pb2.Envelope(hello=self._hello)))
        try:
            welcome = link.welcomes.get(timeout_s)
        except TimeoutError:
            raise UnavailableError(
                None, None, f"{self._dialer.address} did not answer within {timeout_s:g} s"
            ) from None
        if isinstance(welcome, OpError):
            raise welcome
        error = error_of(welcome.status)
        if isinstance(error, AbortedError):
            error.task = error.task or self.name
            self._die(error)
            raise error
        if error is not None:
            raise error
        if not self._hello.incarnation:
            self._hello.incarnation = welcome.incarnation
        if self._hello.incarnation != welcome.incarnation:
            restarted = self._place.restarted()
            self._die(restarted)
            raise restarted

    def _resume(self, link: Link) -> None:
        """Sends what is outstanding and puts the link to use; called with `_sending` held."""
        with self._lock:
            outstanding = sorted(self._pending.values(), key=lambda call: call.number)
        for call in outstanding:
            if call.is_abandoned:
                self._send_cancel(link, call.number)
            else:
                self._transmit(link, call)
        with self._lock:
            if self._fatal is not None:
                self._is_connecting = False
                assert link.connection is not None
                link.connection.close()
                return
            if link.is_lost:
                raise UnavailableError(None, None, "the connection broke as it was made")
            assert link.connection is not None
            self._transport = link.connection.transport
            self._link = link
            self._is_connecting = False

    def _is_of_another_process(self) -> bool:
        """After a fork the child has none of the threads, and perhaps a lock that one held."""
        return os.getpid() != self._process

    def _give_up(self, error: OpError) -> None:
        """Fails what is outstanding; the next call tries to connect again."""
        with self._lock:
            self._is_connecting = False
            failed = list(self._pending.values())
            self._pending.clear()
        for call in failed:
            call.done(Outcome(error=copy.copy(error)))

    def _die(self, error: OpError) -> None:
        """Fails what is outstanding and everything after it."""
        with self._lock:
            if self._fatal is None:
                self._fatal = error
            failed = list(self._pending.values())
            self._pending.clear()
            link, self._link = self._link, None
        if link is not None and link.connection is not None:
            link.connection.close()
        for call in failed:
            call.done(Outcome(error=copy.copy(error)))

    def _have_turn(self, deadline: float | None) -> bool:
        """Takes `_sending`; answers False if it cannot be had in time."""
        if deadline is None:
            return self._sending.acquire()
        rest_s = max(0.0, deadline - self._runtime.now())
        return self._sending.acquire(timeout=min(rest_s, threading.TIMEOUT_MAX))

    def _break_off(self, link: Link, call: PendingCall) -> None:
        """A call could not be sent in time: without it, what is outstanding goes out anew."""
        with self._lock:
            if self._going_out is not call or call.is_abandoned:
                return
            call.is_abandoned = True
            call.tensors = ()
        link.is_lost = True
        assert link.connection is not None
        link.connection.close()
        self.connection_lost(link)

    # Sending; `_sending` is held.

    def _transmit(self, link: Link, call: PendingCall) -> None:
        if call.deadline is None:
            self._transmit_now(link, call)
            return
        rest_s = call.deadline - self._runtime.now()
        runtime = self._runtime
        # A connection that is closed may have to copy first, and a timer's call must be brief.
        timer = runtime.call_later(
            rest_s, lambda: runtime.submit(lambda: self._break_off(link, call))
        )
        self._going_out = call
        try:
            self._transmit_now(link, call)
        finally:
            self._going_out = None
            timer.cancel()

    def _transmit_now(self, link: Link, call: PendingCall) -> None:
        assert link.connection is not None
        with self._lock:
            completed_below = min(self._pending, default=call.number)
        envelope = call_envelope(call.number, completed_below, call.request)
        try:
            link.connection.send(Message(envelope, call.tensors, self._wire_dtype_of(call)))
        except UnavailableError:
            # The link is lost, and the next one sends the call again.
            return
        except OpError as error:
            with self._lock:
                known = self._pending.pop(call.number, None)
            if known is not None:
                error.task = error.task or self.name
                call.done(Outcome(error=error))
        if self._acknowledged.is_due:
            self._flush_acknowledgements(link)

    def _wire_dtype_of(self, call: PendingCall) -> DType | None:
        wire_dtype = self._wire_dtype
        if wire_dtype is None or not isinstance(call.request, STEP_REQUESTS):
            return None
        return wire_dtype

    def _send_cancel(self, link: Link, number: int) -> None:
        assert link.connection is not None
        try:
            cancel = service_pb2.Cancel(id=number)
            link.connection.send(Message(service_pb2.Envelope(cancel=cancel)))
        except OpError:
            # The next link sends it again.
            return

    def _acknowledge(self, link: Link, numbers: list[int]) -> None:
        """Lets the task drop answers, soon.

        Called by the thread that receives, which must never wait to send: the task may be waiting
        for it to take an answer before it reads on.
        """
        self._acknowledged.add(numbers)
        self._runtime.submit(lambda: self._acknowledge_soon(link))

    def _acknowledge_soon(self, link: Link) -> None:
        with self._sending:
            self._flush_acknowledgements(link)

    def _flush_acknowledgements(self, link: Link) -> None:
        assert link.connection is not None
        self._acknowledged.flush(link.connection)


def _ignore(outcome: Outcome) -> None:
    return None
