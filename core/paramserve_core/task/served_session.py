"""A client's session on a task, as the task serves it: its calls come in, answers go out.

Each call runs once, however often it arrives (see `calls`), and its answer goes to the connection
that the session has at that moment.

Thread rule: every public method may be called from any thread. A session's messages are received
by one thread at a time; its calls run on threads of the runtime.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from paramserve_core.dtypes import DType
from paramserve_core.errors import (
    InternalError,
    OpError,
    UnavailableError,
)
from paramserve_core.runtime import Timer
from paramserve_core.task.calls import CallTable, Verdict
from paramserve_core.task.handlers import Handlers, Work
from paramserve_core.task.lasting import LastingCalls
from paramserve_core.task.messages import STEP_KINDS, error_message, reply_message
from paramserve_core.transport.interface import Connection, Message
from paramserve_protos.v1 import service_pb2

if TYPE_CHECKING:
    from paramserve_core.task.host import TaskHost

_ATTACH_S: Final = 10.0

_log = logging.getLogger(__name__)


class ServedSession:
    """One client's session on this task, over any number of connections, one at a time.

    Args:
        host: the task.
        name: the session's id.
        handlers: carry out its calls.
        wire_dtype: what float32 tensors of steps are sent to it as; None: as they are.
    """

    def __init__(
        self, host: TaskHost, name: str, handlers: Handlers, wire_dtype: DType | None = None
    ) -> None:
        self.name = name
        self._host = host
        self._wire_dtype = wire_dtype
        self._handlers = handlers
        self._calls = CallTable(host.limits.max_calls)
        self._lasting = LastingCalls(host.runtime, host.limits.max_loops)
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_ended = False
        # Also where a lost client is not waited for, a new one must have the time to be attached.
        self._waiting = self._wait_for_client(at_least_s=_ATTACH_S)

    def attach(self, connection: Connection) -> None:
        """From now on answers go to `connection`; an older one is closed."""
        with self._lock:
            old, self._connection = self._connection, connection
            self._waiting.cancel()
        if old is not None:
            old.close()

    def detach(self, connection: Connection) -> None:
        """`connection` broke; the session waits for its client to return."""
        with self._lock:
            if self._connection is not connection or self._is_ended:
                return
            self._connection = None
            self._waiting = self._wait_for_client()

    def _wait_for_client(self, at_least_s: float = 0.0) -> Timer:
        grace_s = max(at_least_s, self._host.limits.session_grace_s)
        return self._host.runtime.call_later(grace_s, self._give_up)

    def _give_up(self) -> None:
        with self._lock:
            if self._connection is not None:
                return
        self._host.remove(self)
        # Which may have to tell other servers, and a timer's call must be brief.
        self._host.runtime.submit(lambda: self.end("its client did not return"))

    def end(self, reason: str) -> None:
        """Cancels what runs, frees what the session holds, closes its connection."""
        with self._lock:
            if self._is_ended:
                return
            self._is_ended = True
            self._waiting.cancel()
            connection, self._connection = self._connection, None
        _log.debug("session ended", extra={"session": self.name, "reason": reason})
        self._calls.cancel_all()
        self._handlers.close()
        if connection is not None:
            connection.close()

    def received(self, message: Message) -> None:
        """A message from the client."""
        envelope = message.envelope
        match envelope.WhichOneof("kind"):
            case "call":
                self._call(envelope.call, message)
            case "cancel":
                self._cancel(envelope.cancel.id)
            case "acknowledge":
                self._calls.acknowledge(envelope.acknowledge.ids)
            case kind:
                _log.warning("unexpected message", extra={"session": self.name, "kind": kind})
                with self._lock:
                    connection = self._connection
                if connection is not None:
                    connection.close()

    def _call(self, call: service_pb2.Call, message: Message) -> None:
        number = call.id
        try:
            verdict = self._calls.begin(number, call.completed_below)
        except OpError as error:
            self._host.statistics.call_failed(error.error_code)
            self._send(error_message(number, self._blamed(error)))
            return
        if verdict is Verdict.ANSWERED:
            self._host.runtime.submit(lambda: self._send_again(number))
        elif verdict is Verdict.NEW:
            self._begin(call, message)

    def _begin(self, call: service_pb2.Call, message: Message) -> None:
        number = call.id
        kind = call.WhichOneof("request")
        if kind == "close_session":
            self._answer(number, reply_message(number, None))
            self._host.remove(self)
            self.end("its client closed it")
            return
        try:
            work = self._handlers.begin(call, message.tensors)
            self._host.started(work)
        except OpError as error:
            self._host.statistics.call_failed(error.error_code)
            self._answer(number, error_message(number, self._blamed(error)))
            return
        arrived_at = self._host.runtime.now()
        if work.may_last:
            self._begin_lasting(number, str(kind), work, arrived_at)
            return
        self._host.turns.others_ask()
        self._calls.running(number, work.cancel)
        if work.try_brief():
            self._run(number, str(kind), work, arrived_at)
        else:
            self._host.runtime.submit(lambda: self._run(number, str(kind), work, arrived_at))

    def _begin_lasting(self, number: int, kind: str, work: Work, arrived_at: float) -> None:
        call = self._lasting.new(lambda: self._run(number, kind, work, arrived_at))

        def cancel() -> None:
            work.cancel()
            call.hurry()

        self._calls.running(number, cancel)
        call.begin()

    def _run(self, number: int, kind: str, work: Work, arrived_at: float) -> None:
        statistics = self._host.statistics
        began_at = self._host.runtime.now()
        try:
            try:
                response, tensors = work.run()
                is_step = kind in STEP_KINDS
                wire_dtype = self._wire_dtype if is_step else None
                answer = reply_message(number, response, tensors, wire_dtype)
                statistics.call_ended(
                    kind,
                    began_at - arrived_at,
                    self._host.runtime.now() - began_at,
                    begins_step=is_step and work.begins_something,
                )
            except OpError as error:
                answer = error_message(number, self._blamed(error))
                statistics.call_failed(error.error_code)
                _let_go_of_frames(error)
            except Exception as error:
                _log.exception("call failed", extra={"session": self.name})
                found = InternalError(None, None, f"{type(error).__name__}: {error}")
                answer = error_message(number, self._blamed(found))
                statistics.call_failed(found.error_code)
                _let_go_of_frames(error)
            self._answer(number, answer)
            work.took(self._host.runtime.now() - began_at)
        finally:
            self._host.ended()

    def _cancel(self, number: int) -> None:
        if self._calls.cancel(number) is Verdict.CANCELLED:
            self._answer(number, _cancelled(number))

    def _send_again(self, number: int) -> None:
        answer = self._calls.answer_of(number)
        if answer is not None:
            self._send(answer)

    def _answer(self, number: int, answer: Message) -> None:
        self._calls.finish(number, answer)
        self._send(answer)

    def _send(self, message: Message) -> None:
        with self._lock:
            connection = self._connection
        if connection is None:
            return
        try:
            connection.send(message)
        except UnavailableError:
            # The client returns and asks again.
            return
        except OpError as error:
            number = message.envelope.reply.id
            refusal = error_message(number, self._blamed(error))
            self._calls.finish(number, refusal)
            try:
                connection.send(refusal)
            except OpError:
                return

    def _blamed(self, error: OpError) -> OpError:
        error.task = error.task or self._host.task.name
        return error


def _let_go_of_frames(error: BaseException) -> None:
    """Drops the frames that an error passed through, and what they hold, at once.

    A frame that raised an error which it also holds is freed by the garbage collector alone, which
    runs when enough is allocated. Until then it would hold the tensors of the call and their room,
    and if others wait for that room, nothing is allocated any more.
    """
    failure: BaseException | None = error
    while failure is not None:
        failure.__traceback__ = None
        failure = failure.__context__


def _cancelled(number: int) -> Message:
    envelope = service_pb2.Envelope()
    envelope.reply.id = number
    envelope.reply.status.code = 1
    envelope.reply.status.message = "the call was cancelled before it ran"
    return Message(envelope)
