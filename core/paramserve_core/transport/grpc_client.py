"""Connections to a server over gRPC: one channel and one bidirectional stream each.

Thread rule: a dialer may be used from any thread. Each connection has a thread that reads and calls
its receiver; gRPC has another that writes what `send` put into the outbox.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message as ProtoMessage

from paramserve_core.errors import InternalError, OpError, UnavailableError, error_from_status
from paramserve_core.transport.announcing import new_announcer
from paramserve_core.transport.credentials import ClientCredentials
from paramserve_core.transport.frames import CHUNK_BYTES, MAX_FRAME_BYTES, Assembler, encode
from paramserve_core.transport.interface import Connection, Message, Receiver
from paramserve_core.transport.outbox import Outbox
from paramserve_protos.v1 import service_pb2

M = TypeVar("M", bound=ProtoMessage)
Metadata = tuple[tuple[str, str | bytes], ...]

DEFAULT_MAX_MESSAGE_BYTES: Final = 16 << 30

SERVICE: Final = "paramserve.v1.ParameterServer"

ACCEPTED: Final = ("paramserve-protocol", "1")
"""What a server sends at once when it takes a conversation."""

COMPRESSION_KEY: Final = "paramserve-compression"
"""Names, in the metadata of a client, what the server is to compress with too."""

_OPTIONS: Final = [
    # Every connection has a socket of its own, whose end is the connection's end.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.http2.max_frame_size", CHUNK_BYTES),
    # A peer whose host is gone is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
]

_BROKEN: Final = frozenset(
    {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL}
)
"""What gRPC says of streams that were reset; what a call of ours failed with comes in a reply."""

_log = logging.getLogger(__name__)


class GrpcDialer:
    """Connects to one server.

    Args:
        address: "host:port".
        credentials: what to show, and whether to use TLS.
        max_message_bytes: the largest message to accept or to send.
        compression: "gzip" or "", in both directions.
    """

    def __init__(
        self,
        address: str,
        credentials: ClientCredentials | None = None,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        compression: str = "",
    ) -> None:
        self._compression = grpc.Compression.Gzip if compression else grpc.Compression.NoCompression
        self._address = address
        self._credentials = credentials or ClientCredentials()
        self._max_message_bytes = max_message_bytes
        self._metadata = _metadata(self._credentials)
        if compression:
            self._metadata += ((COMPRESSION_KEY, compression),)

    @property
    def address(self) -> str:
        """The server: "host:port"."""
        return self._address

    @property
    def max_message_bytes(self) -> int:
        """The largest message to accept or to send."""
        return self._max_message_bytes

    def dial(self, receiver: Receiver, timeout_s: float) -> Connection:
        """See `Dialer.dial`."""
        connection = GrpcConnection(
            self._channel(), self._metadata, receiver, self._address, self._max_message_bytes
        )
        connection.wait_until_accepted(timeout_s)
        return connection

    def describe(self, timeout_s: float) -> service_pb2.DescribeResponse:
        """Asks the server who it is.

        Raises:
            UnavailableError: nobody answered within `timeout_s`.
            OpError: the server refused.
        """
        return self._ask(
            "Describe", service_pb2.DescribeRequest(), service_pb2.DescribeResponse, timeout_s
        )

    def list_variables(self, timeout_s: float, largest: int = 0) -> list[service_pb2.VariableInfo]:
        """Asks the server for its variables; raises as `describe` does.

        Args:
            timeout_s: how long to wait, in seconds.
            largest: how many, those with the most bytes first; 0: all, in the order of creation.
        """
        request = service_pb2.ListVariablesRequest(largest=largest)
        answer = self._ask("ListVariables", request, service_pb2.ListVariablesResponse, timeout_s)
        return list(answer.variables)

    def open_local(self, timeout_s: float) -> service_pb2.OpenLocalResponse:
        """Asks the server how to connect on the same host.

        Raises:
            UnimplementedError: the server does not offer it.
            OpError: as `describe` does.
        """
        return self._ask(
            "OpenLocal", service_pb2.OpenLocalRequest(), service_pb2.OpenLocalResponse, timeout_s
        )

    def close(self) -> None:
        """Nothing is kept between connections."""

    def _channel(self) -> grpc.Channel:
        credentials = self._credentials
        if not credentials.uses_tls:
            return grpc.insecure_channel(self._address, _OPTIONS, self._compression)
        secure = grpc.ssl_channel_credentials(credentials.ca, credentials.key, credentials.cert)
        return grpc.secure_channel(self._address, secure, _OPTIONS, self._compression)

    def _ask(
        self, method: str, request: ProtoMessage, response_type: type[M], timeout_s: float
    ) -> M:
        with self._channel() as channel:
            call = channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=response_type.FromString,
            )
            try:
                answer: M = call(
                    request, timeout=timeout_s, metadata=self._metadata, wait_for_ready=False
                )
            except grpc.RpcError as error:
                raise error_of(error, self._address) from None
        return answer


class GrpcConnection:
    """One stream to a server.

    The server takes a stream by sending its metadata at once, before any message. Until then what
    goes wrong is an error of `wait_until_accepted`, afterwards it is told to the receiver.
    """

    transport = "grpc"

    def __init__(
        self,
        channel: grpc.Channel,
        metadata: Metadata,
        receiver: Receiver,
        address: str,
        max_message_bytes: int,
    ) -> None:
        self._channel = channel
        self._receiver = receiver
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._outbox = Outbox()
        self._announcer = new_announcer()
        self._lock = threading.Lock()
        self._is_closed = False
        self._is_accepted = False
        self._error: OpError | None = None
        self._decided = threading.Event()
        # Frames are bytes here: see `frames`.
        converse = channel.stream_stream(f"/{SERVICE}/Converse", bytes, bytes)
        self._call: Any = converse(self._outbox, metadata=metadata)
        threading.Thread(target=self._read, name="paramserve-read", daemon=True).start()

    def wait_until_accepted(self, timeout_s: float) -> None:
        """Waits until the server took the stream; breaks it otherwise.

        Raises:
            UnavailableError: it did not within `timeout_s`, or cannot be reached.
            OpError: it refused.
        """
        try:
            self._decided.wait(timeout_s)
            if self._error is not None:
                raise self._error
            if not self._is_accepted:
                raise UnavailableError(
                    None, None, f"{self._address} did not answer within {timeout_s:g} s"
                )
        except BaseException:
            self.close()
            raise

    def send(self, message: Message) -> None:
        """See `Connection.send`."""
        self._outbox.put_all(encode(message, self._max_message_bytes, self._announcer))

    def close(self) -> None:
        """See `Connection.close`."""
        if self._end(UnavailableError(None, None, "it was closed here")):
            self._call.cancel()
            self._channel.close()

    def _end(self, error: OpError) -> bool:
        """Answers whether this was the end, or there was one before."""
        with self._lock:
            if self._is_closed:
                return False
            self._is_closed = True
        self._outbox.close(error)
        return True

    def _read(self) -> None:
        assembler = Assembler(self._max_message_bytes)
        error: OpError = UnavailableError(None, None, f"{self._address} closed the connection")
        try:
            if ACCEPTED in [tuple(item) for item in self._call.initial_metadata()]:
                self._is_accepted = True
                self._decided.set()
            for frame in self._call:
                message = assembler.feed(frame)
                if message is not None and not self._is_closed:
                    self._receiver.received(message)
        except grpc.RpcError as failure:
            error = error_of(failure, self._address)
        except OpError as failure:
            error = failure
        except Exception as failure:
            _log.exception("receiving from %s failed", self._address)
            error = InternalError(None, None, f"{type(failure).__name__}: {failure}")
        if self._end(error):
            self._call.cancel()
            self._channel.close()
            if self._is_accepted:
                self._receiver.lost(error)
        if not self._is_accepted:
            self._error = error
            self._decided.set()


def _metadata(credentials: ClientCredentials) -> Metadata:
    return (("authorization", f"Bearer {credentials.token}"),) if credentials.token else ()


def error_of(error: grpc.RpcError, address: str) -> OpError:
    """GRPC's error as ours, with the server named."""
    code = error.code()
    message = f"{address}: {error.details() or 'no reason given'}"
    if code in _BROKEN:
        return UnavailableError(None, None, message)
    return error_from_status(code.value[0], message)
