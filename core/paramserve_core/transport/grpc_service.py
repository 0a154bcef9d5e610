"""The listening side: a gRPC server in front of an `Acceptor`.

Each conversation keeps two threads: the one that gRPC gave the call, which writes, and one that
reads and calls the receiver. So the pool is as large as the number of conversations allowed, and
one more is refused rather than left waiting.

Thread rule: `GrpcServer` belongs to whoever made it; the service's methods run on gRPC's threads.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc

from paramserve_core.errors import InternalError, OpError, UnavailableError
from paramserve_core.transport.announcing import new_announcer
from paramserve_core.transport.frames import CHUNK_BYTES, MAX_FRAME_BYTES, Assembler, encode
from paramserve_core.transport.grpc_client import ACCEPTED, COMPRESSION_KEY, SERVICE
from paramserve_core.transport.interface import Connection, Message, Receiver
from paramserve_core.transport.outbox import Outbox
from paramserve_core.transport.traffic import Traffic
from paramserve_core.transport.wire import GZIP
from paramserve_protos.v1 import service_pb2

_SPARE_THREADS: Final = 16
"""For calls that are short: descriptions, listings, health, reflection."""

_OPTIONS: Final = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.http2.max_frame_size", CHUNK_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    # A client has one conversation on a connection, and asks little beside it.
    ("grpc.max_concurrent_streams", 16),
    # A message that has to wait for room has been read this far and no farther. Left to itself,
    # gRPC reads up to 20 MB ahead on each connection, and is no faster for it on one host.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2 * CHUNK_BYTES),
    # Two servers on one port would each get half of the clients.
    ("grpc.so_reuseport", 0),
    # A client whose host is gone is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
]

_log = logging.getLogger(__name__)


class Host(Protocol):
    """What the service needs of the task behind it."""

    def accept(self, connection: Connection, peer: str) -> Receiver:
        """A client connected; answers who receives its messages."""

    def describe(self) -> service_pb2.DescribeResponse:
        """Who the task is and how it does."""

    def list_variables(
        self, containers: list[str] | None = None, largest: int = 0
    ) -> list[service_pb2.VariableInfo]:
        """The variables of the task; see `ListVariablesRequest`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """Certificates of a server, PEM.

    Attributes:
        key: its private key.
        cert: its certificate.
        client_ca: who must have signed a client's certificate; None: clients need none.
    """

    key: bytes
    cert: bytes
    client_ca: bytes | None = None


class GrpcServer:
    """A gRPC server that hands its conversations to a host.

    Args:
        host: the task behind it.
        max_conversations: how many clients at a time.
        max_message_bytes: envelope and tensors of one message together.
        tls: certificates; None: plain text.
        interceptors: see each call before the service does.
        traffic: counts the bytes.
        offer_local: how a client on this host may connect otherwise; None: it may not.
    """

    def __init__(
        self,
        host: Host,
        *,
        max_conversations: int,
        max_message_bytes: int,
        tls: ServerTls | None = None,
        interceptors: Sequence[grpc.ServerInterceptor[Any, Any]] = (),
        traffic: Traffic | None = None,
        offer_local: Callable[[], service_pb2.OpenLocalResponse] | None = None,
    ) -> None:
        self._tls = tls
        self.traffic = traffic or Traffic()
        self._service = _Service(
            host, max_conversations, max_message_bytes, self.traffic, offer_local
        )
        self._pool = ThreadPoolExecutor(max_conversations + _SPARE_THREADS, "paramserve-grpc")
        self.grpc_server = grpc.server(
            self._pool, interceptors=list(interceptors), options=_OPTIONS
        )
        self.grpc_server.add_generic_rpc_handlers((self._service.handlers(),))

    def listen(self, address: str) -> int:
        """Binds "host:port"; port 0 is any. Answers the port.

        Raises:
            OSError: the address cannot be had; the message says why.
        """
        try:
            if self._tls is None:
                port = self.grpc_server.add_insecure_port(address)
            else:
                credentials = grpc.ssl_server_credentials(
                    [(self._tls.key, self._tls.cert)],
                    root_certificates=self._tls.client_ca,
                    require_client_auth=self._tls.client_ca is not None,
                )
                port = self.grpc_server.add_secure_port(address, credentials)
        except (RuntimeError, ValueError) as error:
            raise OSError(f"cannot listen on {address}: {_reason(address) or error}") from None
        return port

    def start(self) -> None:
        """Serves, on threads of its own."""
        self.grpc_server.start()

    def stop(self, grace_s: float) -> None:
        """Stops listening, ends every conversation, and waits until all calls have ended."""
        stopped = self.grpc_server.stop(grace_s)
        self._service.end_all()
        stopped.wait()
        self._pool.shutdown(wait=False)


def _reason(address: str) -> str | None:
    """Why an address cannot be bound, which gRPC does not say; None if it can."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        for family, kind, protocol, _, place in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(place)
    except OSError as error:
        return error.strerror
    return None


class _Service:
    """The methods of the service."""

    def __init__(
        self,
        host: Host,
        max_conversations: int,
        max_message_bytes: int,
        traffic: Traffic,
        offer_local: Callable[[], service_pb2.OpenLocalResponse] | None,
    ) -> None:
        self._offer_local = offer_local
        self._host = host
        self._traffic = traffic
        self._max_conversations = max_conversations
        self._max_message_bytes = max_message_bytes
        self._lock = threading.Lock()
        self._streams: set[_Stream] = set()

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        describe = grpc.unary_unary_rpc_method_handler(
            self._describe,
            request_deserializer=service_pb2.DescribeRequest.FromString,
            response_serializer=service_pb2.DescribeResponse.SerializeToString,
        )
        list_variables = grpc.unary_unary_rpc_method_handler(
            self._list_variables,
            request_deserializer=service_pb2.ListVariablesRequest.FromString,
            response_serializer=service_pb2.ListVariablesResponse.SerializeToString,
        )
        # Without (de)serializers, frames are bytes here: see `frames`.
        converse = grpc.stream_stream_rpc_method_handler(self._converse)
        methods = {"Describe": describe, "ListVariables": list_variables, "Converse": converse}
        if self._offer_local is not None:
            methods["OpenLocal"] = grpc.unary_unary_rpc_method_handler(
                self._open_local,
                request_deserializer=service_pb2.OpenLocalRequest.FromString,
                response_serializer=service_pb2.OpenLocalResponse.SerializeToString,
            )
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def end_all(self) -> None:
        with self._lock:
            streams = list(self._streams)
        for stream in streams:
            stream.close()

    def _describe(
        self, request: service_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> service_pb2.DescribeResponse:
        return self._host.describe()

    def _list_variables(
        self, request: service_pb2.ListVariablesRequest, context: grpc.ServicerContext
    ) -> service_pb2.ListVariablesResponse:
        variables = self._host.list_variables(list(request.containers) or None, request.largest)
        return service_pb2.ListVariablesResponse(variables=variables)

    def _open_local(
        self, request: service_pb2.OpenLocalRequest, context: grpc.ServicerContext
    ) -> service_pb2.OpenLocalResponse:
        assert self._offer_local is not None
        try:
            return self._offer_local()
        except OpError as error:
            context.abort(_STATUS_OF[error.error_code], error.message)

    def _converse(self, frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        with self._lock:
            is_full = len(self._streams) >= self._max_conversations
            if not is_full:
                stream = _Stream(frames, context, self._max_message_bytes, self._traffic)
                self._streams.add(stream)
        if is_full:
            context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the server has {self._max_conversations} connections, its limit",
            )
        self._traffic.opened()
        try:
            yield from stream.serve(self._host)
        finally:
            self._traffic.closed()
            with self._lock:
                self._streams.discard(stream)


class _Stream:
    """One conversation; the `Connection` that its session sends on.

    The thread that reads also says that the connection is lost, so the receiver is called by one
    thread only.
    """

    transport = "grpc"

    def __init__(
        self,
        frames: Iterator[bytes],
        context: grpc.ServicerContext,
        max_message_bytes: int,
        traffic: Traffic,
    ) -> None:
        self._traffic = traffic
        self._frames = frames
        self._context = context
        self._max_message_bytes = max_message_bytes
        self._outbox = Outbox()
        self._announcer = new_announcer()
        self._refusal: OpError | None = None
        self._is_closed = False

    def send(self, message: Message) -> None:
        """See `Connection.send`."""
        self._outbox.put_all(encode(message, self._max_message_bytes, self._announcer))

    def close(self) -> None:
        """See `Connection.close`; what was sent still goes out."""
        self._is_closed = True
        self._outbox.close(drop=False)

    def serve(self, host: Host) -> Iterator[bytes]:
        """Reads on a thread of its own, and gives gRPC what is to be written."""
        # gRPC does not interrupt a writer that waits for something to write.
        if not self._context.add_callback(self._outbox.close):
            return
        if (COMPRESSION_KEY, GZIP) in map(tuple, self._context.invocation_metadata()):
            self._context.set_compression(grpc.Compression.Gzip)
        self._context.send_initial_metadata((ACCEPTED,))
        receiver = host.accept(self, self._context.peer())
        threading.Thread(
            target=self._read, args=(receiver,), name="paramserve-read", daemon=True
        ).start()
        for frame in self._outbox:
            self._traffic.sent(len(frame))
            yield frame
        if self._refusal is not None:
            code = _STATUS_OF[self._refusal.error_code]
            self._context.abort(code, self._refusal.message)

    def _read(self, receiver: Receiver) -> None:
        try:
            self._receive(receiver)
        except OpError as error:
            # Its traceback would hold what arrived of the message as long as this stream is known.
            self._refusal = error.with_traceback(None)
            _log.warning(
                "message refused", extra={"peer": self._context.peer(), "error": error.message}
            )
        except Exception as error:
            # gRPC tells by a bare Exception or an RpcError that the call has ended.
            if self._context.is_active():
                _log.exception("receiving failed", extra={"peer": self._context.peer()})
                self._refusal = InternalError(None, None, f"{type(error).__name__}: {error}")
            error.with_traceback(None)  # gRPC keeps it.
        self._outbox.close(self._refusal, drop=False)
        if not self._is_closed:
            lost = UnavailableError(None, None, "the client closed the connection")
            receiver.lost(self._refusal or lost)

    def _receive(self, receiver: Receiver) -> None:
        assembler = Assembler(self._max_message_bytes, receiver.admit, are_own=False)
        for frame in self._frames:
            self._traffic.received(len(frame))
            message = assembler.feed(frame)
            if self._is_closed:
                return
            if message is not None:
                receiver.received(message)
                # A local name would hold its admission until the next one has come.
                del message


_STATUS_OF: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}
