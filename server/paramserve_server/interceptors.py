"""What sees a call before the service does: the check of the token.

Thread rule: called on gRPC's threads, several at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import grpc

from paramserve_server.auth import HEADER, knows

_HEALTH: Final = "/grpc.health.v1.Health/"
_MAX_PEERS: Final = 1000

_log = logging.getLogger(__name__)


class TokenInterceptor(grpc.ServerInterceptor):  # type: ignore[misc,type-arg] # untyped base
    """Refuses calls without the token; health checks pass, since they say nothing.

    A refused method is logged once, so that a client that keeps trying cannot fill the log.

    Args:
        token: the secret that clients must show.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._lock = threading.Lock()
        self._logged: set[str] = set()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Lets a call through, or answers it with UNAUTHENTICATED."""
        method = handler_call_details.method
        metadata = handler_call_details.invocation_metadata
        if method.startswith(_HEALTH) or knows(metadata, self._token):
            return continuation(handler_call_details)
        with self._lock:
            is_news = method not in self._logged and len(self._logged) < _MAX_PEERS
            self._logged.add(method)
        if is_news:
            _log.warning("a call without the token was refused", extra={"method": method})
        shown = any(key == HEADER for key, _ in metadata)
        found = "the call shows another token" if shown else "the call shows no token"
        return _refusing(f"{found}; set PARAMSERVE_TOKEN to the one the server was started with")


def _refusing(message: str) -> Any:
    def abort(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    return grpc.stream_stream_rpc_method_handler(abort)
