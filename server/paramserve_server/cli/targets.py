"""The servers that commands ask: how they are named, and what to do when one cannot be asked.

What gRPC says of a connection that failed is about itself. So after a failure the address is tried
once more, with a plain socket, and what that finds decides which advice is given.

Thread rule: a `Target` may be used from any thread; asking blocks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, TypeVar

from paramserve_core.errors import (
    DeadlineExceededError,
    OpError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
)
from paramserve_core.transport.credentials import CA_VARIABLE, ClientCredentials
from paramserve_core.transport.grpc_client import GrpcDialer
from paramserve_protos.v1 import service_pb2

T = TypeVar("T")

_SCHEME: Final = "grpc://"
_MAX_PROBE_S: Final = 2.0


class NotReachedError(Exception):
    """A server could not be asked; the message says which, what was found and what to do."""


class Target:
    """A server, by its address.

    Args:
        text: "grpc://host:port", or without the scheme; an IPv6 address is in brackets.

    Raises:
        ValueError: that is no address, or the environment's credentials cannot be read.
    """

    def __init__(self, text: str) -> None:
        self.address = text.removeprefix(_SCHEME)
        host, _, port = self.address.rpartition(":")
        is_host = bool(host) and not set(host) & set("/ ,") and (":" not in host or host[0] == "[")
        is_port = port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16
        if not (is_host and is_port):
            raise ValueError(
                f"{text!r} is no target; wanted grpc://host:port, as `paramserve serve` prints it"
            )
        self._place = host.strip("[]"), int(port)
        self._credentials = ClientCredentials.from_env()
        self._dialer = GrpcDialer(self.address, self._credentials)

    def describe(self, timeout_s: float) -> service_pb2.DescribeResponse:
        """Asks the server who it is and how it does.

        Raises:
            NotReachedError: it did not answer within `timeout_s`, or is none of ours.
            OpError: it failed.
        """
        return self._ask(lambda: self._dialer.describe(timeout_s), timeout_s)

    def variables(self, timeout_s: float, largest: int = 0) -> list[service_pb2.VariableInfo]:
        """Asks for its variables; raises as `describe` does.

        Args:
            timeout_s: how long to wait, in seconds.
            largest: how many, those with the most bytes first; 0: all, in the order of creation.
        """
        return self._ask(lambda: self._dialer.list_variables(timeout_s, largest), timeout_s)

    def _ask(self, question: Callable[[], T], timeout_s: float) -> T:
        try:
            return question()
        except UnauthenticatedError as error:
            raise NotReachedError(error.message) from None
        except UnimplementedError:
            raise NotReachedError(
                f"{self.address}: a gRPC server answers, but not one of this version of "
                "paramserve; check host and port, and what `paramserve version` says there"
            ) from None
        except (UnavailableError, DeadlineExceededError) as error:
            raise NotReachedError(f"{self.address}: {self._advice(error, timeout_s)}") from None

    def _advice(self, error: OpError, timeout_s: float) -> str:
        host, port = self._place
        try:
            socket.create_connection(self._place, min(timeout_s, _MAX_PROBE_S)).close()
        except socket.gaierror:
            return f"the name {host!r} is not known; check its spelling, or give an IP address"
        except ConnectionRefusedError:
            return (
                f"nothing listens on port {port}; is the server running, and was it told to "
                "--listen on this address? By default it listens on loopback, for its own host only"
            )
        except TimeoutError:
            return (
                "no answer to a connection; is the host up, and does a firewall between let "
                f"port {port} through?"
            )
        except OSError as failure:
            return f"no connection: {failure.strerror}; check host, port and network"
        if isinstance(error, DeadlineExceededError):
            return (
                f"a connection was made, but no answer came within {timeout_s:g} s; the server may "
                "be stopped or very busy (--timeout waits longer), or it is no paramserve server"
            )
        if self._credentials.uses_tls:
            return (
                "a connection was made, but no TLS session; the server may have no TLS (then unset "
                f"{CA_VARIABLE}), have a certificate for another name or from another signer than "
                f"{CA_VARIABLE} holds, or want one of yours (PARAMSERVE_TLS_CERT, "
                f"PARAMSERVE_TLS_KEY). gRPC says: {' '.join(error.message.split())}"
            )
        return (
            "a connection was made, but nobody speaks gRPC without TLS there; if the server has "
            f"TLS, set {CA_VARIABLE} to the certificates of who signed its own, else check the port"
        )
