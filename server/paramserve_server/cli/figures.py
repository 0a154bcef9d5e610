"""What a server did between two looks at it, as rates.

A server counts from its start, and says by its own clock how long ago that was: neither how long
an answer travels nor when it was asked for distorts a rate. A server that was started anew between
two looks counts from zero again, and so its figures are of all the time since then.

Thread rule: pure functions of messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from paramserve_core.errors import exception_type_from_error_code
from paramserve_core.task.messages import STEP_KINDS
from paramserve_protos.v1 import service_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportRates:
    """One transport: its open connections, and bytes per second from and to clients."""

    connections: int
    received_bytes_per_s: float
    sent_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Calls that failed with one error: in the interval, and since the server started."""

    count: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A server over an interval; counts without "per" are as they are at its end.

    Attributes:
        task: the task's name.
        incarnation: of the process, in hexadecimal.
        uptime_s: seconds since the process started.
        interval_s: seconds that the rates are of.
        steps: that touched the server since it started.
        steps_per_s: those of the interval, per second.
        queued_s_per_step: seconds that the calls of a step waited before they began; None where
            there was no step.
        run_s_per_step: seconds that they then took.
        calls_in_flight: calls that run or wait for a thread.
        messages_waiting: left unread until there is room for their tensors.
        inflight_bytes: of received tensors whose calls have not ended.
        sessions: that are kept.
        variables: how many.
        variable_bytes: in their values.
        transports: by name.
        failures: by the error's name.
    """

    task: str
    incarnation: str
    uptime_s: float
    interval_s: float
    steps: int
    steps_per_s: float
    queued_s_per_step: float | None
    run_s_per_step: float | None
    calls_in_flight: int
    messages_waiting: int
    inflight_bytes: int
    sessions: int
    variables: int
    variable_bytes: int
    transports: dict[str, TransportRates]
    failures: dict[str, Failures]


def figures(
    before: service_pb2.DescribeResponse | None, now: service_pb2.DescribeResponse
) -> Figures:
    """The figures between two answers of a server; since its start without an earlier one."""
    if before is None or before.task.incarnation != now.task.incarnation:
        before = service_pb2.DescribeResponse()
    earlier, activity = before.activity, now.activity
    interval_s = now.uptime_s - before.uptime_s
    steps = activity.steps - earlier.steps
    queued_s, run_s = (
        end - begin
        for begin, end in zip(_step_seconds(earlier), _step_seconds(activity), strict=True)
    )
    return Figures(
        task=now.task.name,
        incarnation=f"{now.task.incarnation:016x}",
        uptime_s=now.uptime_s,
        interval_s=interval_s,
        steps=activity.steps,
        steps_per_s=_rate(steps, interval_s),
        queued_s_per_step=queued_s / steps if steps else None,
        run_s_per_step=run_s / steps if steps else None,
        calls_in_flight=activity.calls_in_flight,
        messages_waiting=activity.messages_waiting,
        inflight_bytes=activity.inflight_bytes,
        sessions=now.sessions,
        variables=activity.variables,
        variable_bytes=now.variable_bytes,
        transports=_transports(earlier.transports, activity.transports, interval_s),
        failures=_failures(earlier.failures, activity.failures),
    )


def _rate(count: int, interval_s: float) -> float:
    return count / interval_s if interval_s > 0 else 0.0


def _step_seconds(activity: service_pb2.Activity) -> tuple[float, float]:
    """Seconds that the calls of steps were queued, and ran."""
    calls = [call for call in activity.calls if call.kind in STEP_KINDS]
    return sum(call.queued_s for call in calls), sum(call.run_s for call in calls)


def _transports(
    before: Iterable[service_pb2.TransportActivity],
    now: Iterable[service_pb2.TransportActivity],
    interval_s: float,
) -> dict[str, TransportRates]:
    earlier = {activity.transport: activity for activity in before}
    rates = {}
    for activity in now:
        first = earlier.get(activity.transport, service_pb2.TransportActivity())
        rates[activity.transport] = TransportRates(
            connections=activity.connections,
            received_bytes_per_s=_rate(activity.received_bytes - first.received_bytes, interval_s),
            sent_bytes_per_s=_rate(activity.sent_bytes - first.sent_bytes, interval_s),
        )
    return rates


def _failures(
    before: Iterable[service_pb2.FailureCount], now: Iterable[service_pb2.FailureCount]
) -> dict[str, Failures]:
    earlier = {failure.code: failure.count for failure in before}
    return {
        exception_type_from_error_code(failure.code).__name__: Failures(
            count=failure.count - earlier.get(failure.code, 0), total=failure.count
        )
        for failure in now
    }
