"""A network whose messages are late, doubled or lost with their connection, as the seed says.

A connection is an ordered pipe, so a message that is lost takes its connection with it: what is
still under way in either direction never arrives, and both ends hear of it, at different times.
A copy of a message may arrive a second time, also after later ones, as when a client has sent it
again over another connection.

Messages are really serialized, and arrays copied, so nothing is shared by accident.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paramserve_core.errors import UnavailableError
from paramserve_core.transport.interface import Acceptor, Message, Receiver
from paramserve_protos.v1 import service_pb2
from simulation.scheduler import Scheduler

_MAY_ARRIVE_TWICE = frozenset({"call", "reply", "cancel", "acknowledge"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad the network is: probabilities per message, delays in seconds."""

    breaks: float = 0.0
    doubles: float = 0.0
    refuses: float = 0.0
    crashes: float = 0.0
    delay_s: float = 0.01
    restart_s: float = 0.5


def copy_of(message: Message) -> Message:
    """What arrives at the other side of a wire."""
    envelope = service_pb2.Envelope.FromString(message.envelope.SerializeToString())
    return Message(envelope, [tensor.copy() for tensor in message.tensors])


class _End:
    """The sending end of one direction of a pipe; a `Connection`."""

    transport = "simulated"

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self.peer: Receiver | None = None
        self.arrives_at_s = 0.0

    def send(self, message: Message) -> None:
        self._pipe.carry(self, copy_of(message))

    def close(self) -> None:
        self._pipe.close(self)


class _Pipe:
    """One connection."""

    def __init__(self, network: Network, server: SimulatedServer) -> None:
        self._network = network
        self._server = server
        self.client_end = _End(self)
        self.server_end = _End(self)
        self.is_broken = False

    def carry(self, end: _End, message: Message) -> None:
        if self.is_broken:
            raise UnavailableError(None, None, "the connection is broken")
        network, scheduler = self._network, self._network.scheduler
        weather, draw = network.weather, scheduler.random.random
        if draw() < weather.breaks:
            self.break_now()
            return
        if end is self.client_end and draw() < weather.crashes:
            scheduler.at(draw() * weather.delay_s, self._server.crash)
        end.arrives_at_s = max(end.arrives_at_s, scheduler.now) + draw() * weather.delay_s
        scheduler.at(end.arrives_at_s - scheduler.now, lambda: self._deliver(end, message))
        kind = message.envelope.WhichOneof("kind")
        if kind in _MAY_ARRIVE_TWICE and draw() < weather.doubles:
            double = copy_of(message)
            late_s = end.arrives_at_s - scheduler.now + draw() * 5 * weather.delay_s
            scheduler.at(late_s, lambda: self._deliver(end, double))

    def break_now(self) -> None:
        """Loses everything under way; each end hears of it in its own time."""
        if self.is_broken:
            return
        self.is_broken = True
        self._server.pipes.discard(self)
        for end in (self.client_end, self.server_end):
            if end.peer is not None:
                self._later(end.peer.lost, UnavailableError(None, None, "the connection broke"))

    def close(self, end: _End) -> None:
        if self.is_broken:
            return
        self.is_broken = True
        self._server.pipes.discard(self)
        if end.peer is not None:
            self._later(end.peer.lost, UnavailableError(None, None, "the peer closed"))

    def _later(self, function: Callable[[Any], None], argument: Any) -> None:
        scheduler = self._network.scheduler
        delay_s = scheduler.random.random() * self._network.weather.delay_s
        scheduler.at(delay_s, lambda: scheduler.start(lambda: function(argument)))

    def _deliver(self, end: _End, message: Message) -> None:
        if not self.is_broken and end.peer is not None:
            end.peer.received(message)


class SimulatedServer:
    """A server process: it can crash and be started anew, with nothing left of what it had."""

    def __init__(self, network: Network, address: str, start: Callable[[], Acceptor]) -> None:
        self._network = network
        self.address = address
        self._start = start
        self.acceptor: Acceptor | None = start()
        self.pipes: set[_Pipe] = set()
        self.crashes = 0

    def crash(self) -> None:
        if self.acceptor is None:
            return
        self.acceptor = None
        self.crashes += 1
        for pipe in sorted(self.pipes, key=id):
            pipe.break_now()
        weather, scheduler = self._network.weather, self._network.scheduler
        scheduler.at(scheduler.random.random() * weather.restart_s, self._restart)

    def _restart(self) -> None:
        self.acceptor = self._start()


class Network:
    """Servers by address, and the weather between them and their clients."""

    def __init__(self, scheduler: Scheduler, weather: Weather) -> None:
        self.scheduler = scheduler
        self.weather = weather
        self._servers: dict[str, SimulatedServer] = {}

    def serve(self, address: str, start: Callable[[], Acceptor]) -> SimulatedServer:
        server = self._servers[address] = SimulatedServer(self, address, start)
        return server

    def dialer(self, address: str) -> SimulatedDialer:
        return SimulatedDialer(self, self._servers[address])

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        self.weather = Weather(delay_s=self.weather.delay_s)


class SimulatedDialer:
    """A `Dialer` to one server."""

    def __init__(self, network: Network, server: SimulatedServer) -> None:
        self._network = network
        self._server = server

    @property
    def address(self) -> str:
        return self._server.address

    def dial(self, receiver: Receiver, timeout_s: float) -> _End:
        scheduler = self._network.scheduler
        scheduler.pause()
        acceptor = self._server.acceptor
        if acceptor is None or scheduler.random.random() < self._network.weather.refuses:
            raise UnavailableError(None, None, f"{self.address} refused the connection")
        pipe = _Pipe(self._network, self._server)
        pipe.client_end.peer = acceptor.accept(pipe.server_end, "simulated client")
        pipe.server_end.peer = receiver
        self._server.pipes.add(pipe)
        return pipe.client_end

    def close(self) -> None:
        """Nothing is kept between connections."""
