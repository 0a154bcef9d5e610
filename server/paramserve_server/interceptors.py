"""What sees a call before the service does: the check of the token.

Thread rule: called on gRPC's threads, several at once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import grpc

from paramserve_server.auth import HEADER, knows

_HEALTH: Final = "/grpc.health.v1.Health/"

_log = logging.getLogger(__name__)


class TokenInterceptor(grpc.ServerInterceptor):  # type: ignore[type-arg] # not generic when it runs
    """Refuses calls without the token; health checks pass, since they say nothing.

    Args:
        token: the secret that clients must show.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Lets a call through, or answers it with UNAUTHENTICATED."""
        metadata = handler_call_details.invocation_metadata
        if handler_call_details.method.startswith(_HEALTH) or knows(metadata, self._token):
            return continuation(handler_call_details)
        shown = any(key == HEADER for key, _ in metadata)
        found = "the call shows another token" if shown else "the call shows no token"
        return _refusing(f"{found}; set PARAMSERVE_TOKEN to the one the server was started with")


def _refusing(message: str) -> Any:
    def abort(request: Any, context: grpc.ServicerContext) -> Any:
        _log.warning("call refused", extra={"peer": context.peer(), "error": message})
        context.abort(grpc.StatusCode.UNAUTHENTICATED, message)

    return grpc.stream_stream_rpc_method_handler(abort)
