"""A task: the variables of one server, and every session that works on them.

`TaskHost` is where a listening transport leaves new connections. The first message on one says
which session it belongs to; a session outlives its connections for a while, so that a client
whose connection broke can return, send again what was not answered, and go on.

Each server process has an *incarnation*, a random number. A client names the one that its session
began with, and is refused by any other: its plans and perhaps its variables are gone, and it must
know.

Thread rule: every public method may be called from any thread. A session's messages are received
by one thread at a time; its calls run on threads of the runtime.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from paramserve_core.errors import (
    AbortedError,
    InvalidArgumentError,
    OpError,
    ResourceExhaustedError,
    UnavailableError,
    UnimplementedError,
)
from paramserve_core.executor.loop_turns import LoopTurns
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.interface import Master
from paramserve_core.runtime import Runtime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.handlers import (
    CheckpointHandlers,
    Handlers,
    MasterHandlers,
    TaskHandlers,
    Work,
)
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.listing import variable_infos
from paramserve_core.task.messages import status_of
from paramserve_core.task.served_session import ServedSession
from paramserve_core.task.session import TaskSession
from paramserve_core.task.statistics import Statistics
from paramserve_core.transport.interface import Connection, Message, Receiver
from paramserve_core.transport.room import Admission, Room
from paramserve_core.transport.wire import WireOptions
from paramserve_protos.v1 import service_pb2

_MAX_SESSION_ID: Final = 64
_HELLO_S: Final = 10.0
"""How long a connection is kept on which nobody says whose it is."""

_log = logging.getLogger(__name__)

NewMaster = Callable[[service_pb2.Hello], Master]
"""Makes the master of a session that sends its graph to this server, of its first message."""


class TaskHost:
    """One task and its sessions; the `Acceptor` of a listening transport.

    Args:
        task: name, incarnation and address of the task.
        store: its variables.
        runtime: time and threads.
        limits: what clients are granted.
        checkpoints: answers the checkpoint calls.
        new_master: makes a master for a client that sends its graph here; None refuses those.
    """

    def __init__(
        self,
        *,
        task: service_pb2.Task,
        store: VariableStore,
        runtime: Runtime,
        limits: TaskLimits,
        checkpoints: CheckpointHandlers,
        new_master: NewMaster | None = None,
    ) -> None:
        self.task = task
        self.store = store
        self.runtime = runtime
        self.limits = limits
        self.statistics = Statistics()
        self.gate = StepGate(runtime)
        self.turns = LoopTurns()
        self.stage_room = Room(limits.max_inflight_bytes, self._is_held)
        self.step_room = self.stage_room.annex()
        self._checkpoints = checkpoints
        self._new_master = new_master
        self._lock = threading.Lock()
        self._sessions: dict[str, ServedSession] = {}
        self._is_draining = False
        self._running = 0
        self._idle = runtime.event()
        self._started_at = runtime.now()

    @property
    def session_count(self) -> int:
        """Sessions that are kept now, with or without a connection."""
        return len(self._sessions)

    @property
    def inflight_bytes(self) -> int:
        """Bytes of received tensors whose calls have not ended."""
        return self.stage_room.used_bytes + self.step_room.used_bytes

    @property
    def running_count(self) -> int:
        """Calls that run or wait for a thread."""
        return self._running

    @property
    def waiting_count(self) -> int:
        """Messages that are left unread until there is room for their tensors."""
        return self.stage_room.waiting_count + self.step_room.waiting_count

    def _is_held(self) -> bool:
        return self.gate.is_held

    def accept(self, connection: Connection, peer: str) -> Receiver:
        """A client connected; answers who receives its messages."""
        return _Doorway(self, connection, peer)

    def describe(self) -> service_pb2.DescribeResponse:
        """Who this task is and how it does.

        Version, cluster and the activity of transports are the caller's to add.
        """
        return service_pb2.DescribeResponse(
            task=self.task,
            uptime_s=self.runtime.now() - self._started_at,
            sessions=self.session_count,
            variable_bytes=self.store.budget.used_bytes,
            max_message_bytes=self.limits.max_message_bytes,
            activity=self._activity(),
        )

    def _activity(self) -> service_pb2.Activity:
        calls = self.statistics.calls()
        activity = service_pb2.Activity(
            steps=sum(figures.steps for figures in calls.values()),
            calls_in_flight=self.running_count,
            messages_waiting=self.waiting_count,
            inflight_bytes=self.inflight_bytes,
            variables=self.store.variable_count,
        )
        for kind, of_kind in calls.items():
            activity.calls.add(
                kind=kind, count=of_kind.count, queued_s=of_kind.queued_s, run_s=of_kind.run_s
            )
        for code, count in self.statistics.failures().items():
            activity.failures.add(code=code, count=count)
        return activity

    def list_variables(
        self, containers: list[str] | None = None, largest: int = 0
    ) -> list[service_pb2.VariableInfo]:
        """The task's variables; `variable_infos` says which."""
        return variable_infos(self.store, self.task.name, containers or (), largest)

    def drain(self, grace_s: float) -> bool:
        """Refuses new sessions and new steps, and waits for the running ones.

        Args:
            grace_s: how long to wait at most, in seconds.

        Returns:
            Whether everything that ran has ended.
        """
        with self._lock:
            self._is_draining = True
            if not self._running:
                self._idle.set()
        return self._idle.wait(grace_s)

    def close(self) -> None:
        """Ends every session; running steps are cancelled."""
        self._is_draining = True
        with self._lock:
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            session.end("the server stops")

    def open_session(self, hello: service_pb2.Hello) -> ServedSession:
        """The session that a client's first message names, made if it is new.

        Raises:
            AbortedError: it began with another incarnation of this server, or was given up.
            ResourceExhaustedError: there are as many sessions as there may be.
            UnavailableError: the server stops.
        """
        name = hello.session_id
        if not name or len(name) > _MAX_SESSION_ID:
            raise InvalidArgumentError(
                None, None, f"a session's id has 1 to {_MAX_SESSION_ID} characters, not {len(name)}"
            )
        if hello.incarnation not in (0, self.task.incarnation):
            raise AbortedError(
                None,
                None,
                f"the server of {self.task.name} was restarted: the variables that it held for "
                "this session are gone; make a new session, and restore or initialize them",
            )
        with self._lock:
            session = self._sessions.get(name)
            if session is not None:
                return session
            if hello.incarnation:
                raise AbortedError(
                    None,
                    None,
                    f"the session had no connection for more than "
                    f"{self.limits.session_grace_s:g} s and was ended by {self.task.name}; its "
                    "variables are still there: make a new session",
                )
            if self._is_draining:
                raise UnavailableError(None, None, f"the server of {self.task.name} is stopping")
            if len(self._sessions) >= self.limits.max_sessions:
                raise ResourceExhaustedError(
                    None,
                    None,
                    f"{self.task.name} has {len(self._sessions)} sessions, the limit is "
                    f"{self.limits.max_sessions}: close some, or raise --max-sessions",
                )
            wire = WireOptions.from_message(hello.wire)
            session = ServedSession(self, name, self._handlers(hello), wire.dtype)
            self._sessions[name] = session
            return session

    def remove(self, session: ServedSession) -> None:
        """Forgets a session that ended."""
        with self._lock:
            if self._sessions.get(session.name) is session:
                del self._sessions[session.name]

    def started(self, work: Work) -> None:
        """A call is about to run.

        Raises:
            UnavailableError: the server stops, and this would begin something new.
        """
        with self._lock:
            if self._is_draining and work.begins_something:
                raise UnavailableError(None, None, f"the server of {self.task.name} is stopping")
            self._running += 1

    def ended(self) -> None:
        """A call that was started has ended and its answer was sent."""
        with self._lock:
            self._running -= 1
            if self._is_draining and not self._running:
                self._idle.set()

    def _handlers(self, hello: service_pb2.Hello) -> Handlers:
        if hello.kind == service_pb2.SESSION_KIND_TASK:
            session = TaskSession(
                hello.session_id,
                self.store,
                self.limits,
                self.gate,
                files=self._checkpoints.files,
                turns=self.turns,
            )
            return TaskHandlers(
                hello.session_id,
                self.task.name,
                session,
                self.store,
                self._checkpoints,
                self.runtime.now,
            )
        if hello.kind == service_pb2.SESSION_KIND_MASTER and self._new_master is not None:
            master = self._new_master(hello)
            return MasterHandlers(master, self.task.name, self.runtime.now)
        raise UnimplementedError(
            None, None, f"{self.task.name} has no sessions of kind {hello.kind}"
        )


class _Doorway:
    """Receives a connection's first message and passes what follows to its session."""

    def __init__(self, host: TaskHost, connection: Connection, peer: str) -> None:
        self._host = host
        self._connection = connection
        self._peer = peer
        self._session: ServedSession | None = None
        self._room = host.stage_room
        self._greeting = host.runtime.call_later(_HELLO_S, self._turn_away)

    def _turn_away(self) -> None:
        _log.info("connection without a Hello ended", extra={"peer": self._peer})
        self._connection.close()

    def admit(self, message_bytes: int) -> Admission | None:
        return self._room.admit(message_bytes)

    def received(self, message: Message) -> None:
        if self._session is not None:
            self._session.received(message)
            return
        self._greeting.cancel()
        envelope = service_pb2.Envelope()
        welcome = envelope.welcome
        welcome.task.CopyFrom(self._host.task)
        welcome.incarnation = self._host.task.incarnation
        session = None
        try:
            if message.envelope.WhichOneof("kind") != "hello":
                raise InvalidArgumentError(
                    None, None, "the first message of a connection must be a Hello"
                )
            session = self._host.open_session(message.envelope.hello)
        except OpError as error:
            error.task = error.task or self._host.task.name
            welcome.status.CopyFrom(status_of(error))
            _log.info("session refused", extra={"peer": self._peer, "error": error.message})
        try:
            self._connection.send(Message(envelope))
        except OpError:
            return
        if session is None:
            self._connection.close()
            return
        self._session = session
        if message.envelope.hello.kind == service_pb2.SESSION_KIND_MASTER:
            self._room = self._host.step_room
        session.attach(self._connection)

    def lost(self, error: OpError) -> None:
        self._greeting.cancel()
        if self._session is not None:
            self._session.detach(self._connection)
