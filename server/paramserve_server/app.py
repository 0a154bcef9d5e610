"""A server process from its start to its end.

It prints its target on stdout when it can be used, and serves until SIGTERM or Ctrl-C. Then it
refuses what is new, lets running steps end, and exits with 0; a second signal ends it at once.

Thread rule: `serve` runs on the main thread.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from dataclasses import replace
from types import FrameType

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from paramserve_core.errors import OpError
from paramserve_core.serving import TaskServer
from paramserve_protos.v1 import service_pb2
from paramserve_server import logs, memory, metrics
from paramserve_server.config import ConfigError, ServerConfig
from paramserve_server.interceptors import TokenInterceptor

_log = logging.getLogger(__name__)


def serve(config: ServerConfig, log_level: str = "info") -> int:
    """Runs a server until it is told to stop; answers the exit code.

    Raises:
        ConfigError: the options make no sense, or the address or port cannot be had.
    """
    memory.keep_free_memory()
    memory.allow_descriptors()
    options = config.serving()
    token = config.token()
    interceptors = [TokenInterceptor(token)] if token else []
    logs.configure(log_level)
    try:
        server = TaskServer(replace(options, interceptors=interceptors))
    except OSError as error:
        raise ConfigError(str(error), 1) from None
    except OpError as error:
        raise ConfigError(error.message) from None
    checker = _add_services(server)
    stop_metrics = None
    if config.metrics_port is not None:
        host = config.listen.rpartition(":")[0].strip("[]")
        try:
            stop_metrics = metrics.serve(server, host, config.metrics_port)
        except OSError as error:
            raise ConfigError(
                f"--metrics-port {config.metrics_port}: {error.strerror}", 1
            ) from None
    told = threading.Event()
    _listen_for_signals(told)
    server.start()
    print(f"grpc://{server.address}", flush=True)
    _log.info("serving", extra={"task": server.name, "address": server.address})
    told.wait()
    _log.info("stopping", extra={"task": server.name})
    checker.enter_graceful_shutdown()
    ended = server.stop(config.grace_s)
    if stop_metrics is not None:
        stop_metrics()
    if not ended:
        _log.warning("steps were cancelled", extra={"after_s": config.grace_s})
        # One that is deep in a kernel ends when that does; the interpreter would wait for it.
        os._exit(0)
    return 0


def _add_services(server: TaskServer) -> health.HealthServicer:
    """Health and reflection, beside the service itself."""
    checker = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server.server.grpc_server)
    name = service_pb2.DESCRIPTOR.services_by_name["ParameterServer"].full_name
    for service in ("", name):
        checker.set(service, health_pb2.HealthCheckResponse.SERVING)
    names = (name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server.server.grpc_server)
    return checker


def _listen_for_signals(told: threading.Event) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        if told.is_set():
            os._exit(128 + number)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
