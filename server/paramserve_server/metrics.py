"""Prometheus metrics of a server.

Read from the task when they are scraped, so they cost a step nothing.

Thread rule: `Collector.collect` is called on the exporter's thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from paramserve_core.errors import exception_type_from_error_code
from paramserve_core.task.host import TaskHost


class Collector:
    """The figures of one task."""

    def __init__(self, host: TaskHost) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """Answers the metrics as they are now."""
        host, statistics = self._host, self._host.statistics
        yield GaugeMetricFamily(
            "paramserve_sessions", "Sessions that are kept now", host.session_count
        )
        yield GaugeMetricFamily(
            "paramserve_variable_bytes",
            "Bytes in the values of variables",
            host.store.budget.used_bytes,
        )
        yield CounterMetricFamily(
            "paramserve_calls", "Calls that ended well", value=statistics.calls
        )
        yield CounterMetricFamily(
            "paramserve_call_seconds", "Time that those took, in seconds", value=statistics.seconds
        )
        failures = CounterMetricFamily(
            "paramserve_failed_calls", "Calls that failed, by error", labels=["error"]
        )
        for code, count in sorted(statistics.failures.items()):
            failures.add_metric([exception_type_from_error_code(code).__name__], count)
        yield failures


def serve(host: TaskHost, address: str, port: int) -> Any:
    """Serves the metrics over HTTP; answers what stops it.

    Raises:
        OSError: the port cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(Collector(host))
    server, _ = start_http_server(port, addr=address, registry=registry)
    return server.shutdown
