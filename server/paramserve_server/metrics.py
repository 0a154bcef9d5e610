"""Prometheus metrics of a server.

Read from the task when they are scraped, so they cost a step nothing.

Thread rule: `Collector.collect` is called on the exporter's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from paramserve_core.errors import exception_type_from_error_code
from paramserve_core.serving import TaskServer


class Collector:
    """The figures of one task."""

    def __init__(self, server: TaskServer) -> None:
        self._host = server.host
        self._traffic = server.traffic

    def collect(self) -> Iterator[Metric]:
        """Answers the metrics as they are now."""
        host = self._host
        yield GaugeMetricFamily(
            "paramserve_sessions", "Sessions that are kept now", host.session_count
        )
        yield GaugeMetricFamily(
            "paramserve_variables",
            "Variables, with a value or without",
            host.store.variable_count,
        )
        yield GaugeMetricFamily(
            "paramserve_variable_bytes",
            "Bytes in the values of variables",
            host.store.budget.used_bytes,
        )
        yield GaugeMetricFamily(
            "paramserve_inflight_bytes",
            "Bytes of received tensors whose calls have not ended",
            host.inflight_bytes,
        )
        yield GaugeMetricFamily(
            "paramserve_waiting_messages",
            "Messages that are left unread until there is room for their tensors",
            host.waiting_count,
        )
        yield GaugeMetricFamily(
            "paramserve_running_calls", "Calls that run or wait for a thread", host.running_count
        )
        yield from self._transports()
        yield from self._calls()

    def _transports(self) -> Iterator[Metric]:
        connections = GaugeMetricFamily(
            "paramserve_connections", "Connections that are open now", labels=["transport"]
        )
        received = CounterMetricFamily(
            "paramserve_received_bytes", "Bytes from clients", labels=["transport"]
        )
        sent = CounterMetricFamily(
            "paramserve_sent_bytes", "Bytes to clients", labels=["transport"]
        )
        for transport, traffic in sorted(self._traffic.items()):
            connections.add_metric([transport], traffic.connections)
            received.add_metric([transport], traffic.received_bytes)
            sent.add_metric([transport], traffic.sent_bytes)
        yield from (connections, received, sent)

    def _calls(self) -> Iterator[Metric]:
        figures = sorted(self._host.statistics.calls().items())
        yield CounterMetricFamily(
            "paramserve_steps",
            "Steps that touched this server",
            sum(of_kind.steps for _, of_kind in figures),
        )
        calls = CounterMetricFamily(
            "paramserve_calls", "Calls that ended well, by kind", labels=["kind"]
        )
        queued = CounterMetricFamily(
            "paramserve_call_queue_seconds",
            "Time from their arrival until they began, in seconds",
            labels=["kind"],
        )
        seconds = CounterMetricFamily(
            "paramserve_call_seconds",
            "Time that they took from then on, in seconds",
            labels=["kind"],
        )
        for kind, of_kind in figures:
            calls.add_metric([kind], of_kind.count)
            queued.add_metric([kind], of_kind.queued_s)
            seconds.add_metric([kind], of_kind.run_s)
        failures = CounterMetricFamily(
            "paramserve_failed_calls", "Calls that failed, by error", labels=["error"]
        )
        for code, count in sorted(self._host.statistics.failures().items()):
            failures.add_metric([exception_type_from_error_code(code).__name__], count)
        yield from (calls, queued, seconds, failures)


def serve(server: TaskServer, address: str, port: int) -> Callable[[], None]:
    """Serves the metrics over HTTP; answers what stops it.

    Raises:
        OSError: the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(Collector(server))
    http, thread = start_http_server(port, addr=address, registry=registry)

    def stop() -> None:
        http.shutdown()
        http.server_close()
        thread.join()

    return stop
