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
        self._traffic = server.server.traffic

    def collect(self) -> Iterator[Metric]:
        """Answers the metrics as they are now."""
        host = self._host
        variables = host.store.variables()
        yield GaugeMetricFamily(
            "paramserve_sessions", "Sessions that are kept now", host.session_count
        )
        yield GaugeMetricFamily(
            "paramserve_variables", "Variables, with a value or without", len(variables)
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
        yield CounterMetricFamily(
            "paramserve_received_bytes", "Bytes from clients", self._traffic.received_bytes
        )
        yield CounterMetricFamily(
            "paramserve_sent_bytes", "Bytes to clients", self._traffic.sent_bytes
        )
        yield from self._calls()

    def _calls(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "paramserve_calls", "Calls that ended well, by kind", labels=["kind"]
        )
        seconds = CounterMetricFamily(
            "paramserve_call_seconds", "Time that those took, in seconds", labels=["kind"]
        )
        for kind, (count, taken_s) in sorted(self._host.statistics.calls().items()):
            calls.add_metric([kind], count)
            seconds.add_metric([kind], taken_s)
        failures = CounterMetricFamily(
            "paramserve_failed_calls", "Calls that failed, by error", labels=["error"]
        )
        for code, count in sorted(self._host.statistics.failures().items()):
            failures.add_metric([exception_type_from_error_code(code).__name__], count)
        yield from (calls, seconds, failures)


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
