"""What a step reports about itself: when each op ran, and what was moved and waited for.

Every task has a clock of its own, and no two need agree. A task therefore says how long after the
arrival of a request something happened, and how long the whole took; whoever sent the request
knows when it went and when the answer came. What the task does not account for was spent on the
way, there and back, and is split in proportion to the bytes of each direction. That places the
task's times on the sender's clock, never before the request or after the answer, and is the idea of
the Network Time Protocol (Mills, RFC 5905) with what is known of the messages' sizes.

The same is done once more where a server plans the step: it reports on its own clock, and its
client, which knows the time of day, places that.

Thread rule: a `StepTracer` belongs to the thread that drives the step, but for what `reporting`
returns. What it is told there is read when the step has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from numpy.typing import NDArray

from paramserve_core.errors import InternalError
from paramserve_core.executor.tracing import Clock, StageRecorder
from paramserve_core.master.outstanding import Outcome
from paramserve_core.plan.planner import Plan, PlannedStage
from paramserve_core.transport.interface import Tensors
from paramserve_protos.v1 import config_pb2, service_pb2, stage_stats_pb2, step_stats_pb2

Array = NDArray[Any]
M = TypeVar("M", bound=ProtoMessage)

IN_PROCESS: Final = "in process"

_EMPTY_BYTES: Final = 64 << 10
"""A message without tensors takes about as long as that many bytes take more."""

_DEVICE: Final = "/device:CPU:0"
_STAGE: Final = "RunStage"
_STEP: Final = "RunStep"
_MAX_NANOS: Final = 1 << 60
_ROUNDING_NANOS: Final = 1000


class StepReport:
    """What a caller wants to know of a step, and, once the step ended well, the answer.

    Args:
        stats: fill `metadata.step_stats` and `metadata.stage_stats`.
        partition_graphs: fill `metadata.partition_graphs`.

    Attributes:
        metadata: what was asked for; its times are in the `*_nanos` fields, since the step began.
    """

    __slots__ = ("metadata", "partition_graphs", "stats")

    def __init__(self, *, stats: bool = True, partition_graphs: bool = False) -> None:
        self.stats = stats
        self.partition_graphs = partition_graphs
        self.metadata = config_pb2.RunMetadata()


class Exchange(NamedTuple):
    """A request and its answer as whoever sent it saw them; times in seconds on the same clock."""

    sent_at: float
    received_at: float
    transport: str
    request_bytes: int
    response_bytes: int

    def lead_s(self, busy_s: float) -> float:
        """From sending the request to its arrival, if the task took `busy_s` to answer it."""
        way_s = max(0.0, self.received_at - self.sent_at - busy_s)
        there, back = self.request_bytes + _EMPTY_BYTES, self.response_bytes + _EMPTY_BYTES
        return way_s * there / (there + back)


class Link(Protocol):
    """What is asked of a conversation."""

    @property
    def transport(self) -> str: ...  # noqa: D102
    def wire_bytes(self, tensors: Tensors) -> int: ...  # noqa: D102


class StepTracer:
    """Gathers what the stages of one step report.

    Args:
        plan: what the step runs.
        now: the clock, in seconds; the step begins now.
    """

    def __init__(self, plan: Plan, now: Clock) -> None:
        self._plan = plan
        self._now = now
        self._began_at = now()
        self._recorders: dict[int, StageRecorder] = {}
        self._answers: dict[int, tuple[Exchange, Array]] = {}

    def recorder(self, number: int) -> StageRecorder:
        """What records the stage of that number, which runs here."""
        recorder = self._recorders[number] = StageRecorder(self._now)
        return recorder

    def reporting(
        self, number: int, link: Link, tensors: Tensors, report: Callable[[Outcome], None]
    ) -> Callable[[Outcome], None]:
        """The stage of that number is sent off now.

        Args:
            number: the stage.
            link: what carries it.
            tensors: what goes with it.
            report: takes its outcome.

        Returns:
            What takes the outcome with the trace in it, and reports it without. It may be called
            from any thread, once.
        """
        sent_at, request_bytes = self._now(), link.wire_bytes(tensors)

        def answered(outcome: Outcome) -> None:
            received_at = self._now()
            if outcome.error is None:
                others, trace = without_trace(outcome.tensors)
                outcome = Outcome(outcome.response, others)
                response_bytes = link.wire_bytes(others)
                exchange = Exchange(
                    sent_at, received_at, link.transport, request_bytes, response_bytes
                )
                self._answers[number] = (exchange, trace)
            report(outcome)

        return answered

    def fill(self, metadata: config_pb2.RunMetadata) -> None:
        """Writes down what the stages reported; the step has ended well.

        Raises:
            InternalError: a task's report cannot be read.
        """
        for number, stage in enumerate(self._plan.stages):
            if number in self._recorders:
                recorder = self._recorders[number]
                trace = recorder.trace()
                # Nobody waited for an answer: what the step did afterwards is not the stage's.
                trace.answered_nanos = trace.ended_nanos
                ended_at = recorder.arrived_at + trace.ended_nanos / 1e9
                exchange = Exchange(recorder.arrived_at, ended_at, IN_PROCESS, 0, 0)
            else:
                exchange, encoded = self._answers[number]
                trace = parsed_trace(service_pb2.StageTrace, encoded, stage.task)
                whole = (trace.began_nanos, trace.ended_nanos)
                spans = [_span_of(node) for node in trace.nodes]
                check_spans([whole, *spans], trace.answered_nanos, stage.task)
            self._add(metadata, stage, exchange, trace)

    def _add(
        self,
        metadata: config_pb2.RunMetadata,
        stage: PlannedStage,
        exchange: Exchange,
        trace: service_pb2.StageTrace,
    ) -> None:
        arrived_at = exchange.sent_at + exchange.lead_s(trace.answered_nanos / 1e9)
        arrived_nanos = round((arrived_at - self._began_at) * 1e9)
        nodes = {node.name: node for node in stage.nodes}
        device = _device(metadata.step_stats, stage.task + _DEVICE)
        for recorded in trace.nodes:
            stats = device.node_stats.add()
            stats.CopyFrom(recorded)
            stats.all_start_nanos += arrived_nanos
            stats.scheduled_nanos = arrived_nanos
            stats.op_end_rel_nanos = recorded.all_end_rel_nanos
            node = nodes.get(recorded.node_name)
            if node is not None:
                stats.timeline_label = f"{node.name} = {node.op}({', '.join(node.input)})"
        found = stage_stats_pb2.StageStats(
            task=stage.task,
            stage=stage.number,
            wait_nanos=trace.began_nanos,
            apply_nanos=trace.ended_nanos - trace.began_nanos,
            ops_left_out=trace.ops_left_out,
        )
        add_exchange(metadata, exchange, self._began_at, found, f"{_STAGE} {stage.number}")


class ServedStepTracer:
    """Takes the report of a step that a server plans; the request for it is sent now.

    Args:
        report: what is asked, and then answered.
        link: what carries the request.
        feeds: what goes with it.
        now: the clock, in seconds.
    """

    def __init__(self, report: StepReport, link: Link, feeds: Tensors, now: Clock) -> None:
        self._report = report
        self._link = link
        self._now = now
        self._request_bytes = link.wire_bytes(feeds)
        self._sent_at = now()

    def answered(self, tensors: Tensors) -> list[Array]:
        """Takes the tensors of the answer, which has come now; answers those of the fetches.

        Raises:
            InternalError: the server's report cannot be read.
        """
        received_at = self._now()
        fetched, encoded = without_trace(tensors)
        link, metadata = self._link, self._report.metadata
        trace = parsed_trace(service_pb2.StepTrace, encoded, "the server")
        nodes = [n for d in trace.metadata.step_stats.dev_stats for n in d.node_stats]
        spans = [_span_of(node) for node in nodes]
        spans += [(s.start_nanos, s.start_nanos) for s in trace.metadata.stage_stats]
        check_spans(spans, trace.answered_nanos, trace.task)
        metadata.CopyFrom(trace.metadata)
        if self._report.stats:
            exchange = Exchange(
                self._sent_at,
                received_at,
                link.transport,
                self._request_bytes,
                link.wire_bytes(fetched),
            )
            place(metadata, round(exchange.lead_s(trace.answered_nanos / 1e9) * 1e9))
            wait_nanos = min((n.all_start_nanos for n in nodes), default=0)
            found = stage_stats_pb2.StageStats(
                task=trace.task,
                wait_nanos=wait_nanos,
                apply_nanos=trace.answered_nanos - wait_nanos,
            )
            add_exchange(metadata, exchange, self._sent_at, found, _STEP)
        return fetched


def add_exchange(
    metadata: config_pb2.RunMetadata,
    exchange: Exchange,
    began_at: float,
    found: stage_stats_pb2.StageStats,
    name: str,
) -> None:
    """Adds a request to a report, and, where it travelled, to the timeline.

    Args:
        metadata: the report.
        exchange: the request and its answer.
        began_at: when the step began, on the clock of `exchange`.
        found: what the task said of it; completed here.
        name: what the request is called in the timeline: "RunStage 0".
    """
    found.transport = exchange.transport
    found.start_nanos = round((exchange.sent_at - began_at) * 1e9)
    found.round_trip_nanos = round((exchange.received_at - exchange.sent_at) * 1e9)
    found.request_bytes = exchange.request_bytes
    found.response_bytes = exchange.response_bytes
    metadata.stage_stats.append(found)
    if exchange.transport == IN_PROCESS:
        return
    row = _device(metadata.step_stats, f"{found.task}/transport:{exchange.transport}")
    row.node_stats.add(
        node_name=name,
        timeline_label=f"{name} = {name.partition(' ')[0]}()",
        all_start_nanos=found.start_nanos,
        scheduled_nanos=found.start_nanos,
        op_end_rel_nanos=found.round_trip_nanos,
        all_end_rel_nanos=found.round_trip_nanos,
    )


def _device(stats: step_stats_pb2.StepStats, name: str) -> step_stats_pb2.DeviceStepStats:
    for device in stats.dev_stats:
        if device.device == name:
            return device
    return stats.dev_stats.add(device=name)


def with_trace(tensors: Sequence[Array], trace: ProtoMessage) -> list[Array]:
    """The tensors of an answer and, as the last one, a trace."""
    return [*tensors, np.frombuffer(trace.SerializeToString(), np.uint8)]


def without_trace(tensors: Tensors) -> tuple[list[Array], Array]:
    """The tensors of an answer that `with_trace` made, and the encoded trace.

    `tensors` lets go of its arrays: nobody but the caller holds them afterwards.
    """
    others = list(tensors)
    if isinstance(tensors, list):
        tensors.clear()
    trace = others.pop() if others else np.empty(0)
    return others, trace


def parsed_trace(kind: type[M], encoded: Array, task: str) -> M:
    """Reads an encoded trace.

    Raises:
        InternalError: it is none; a server of another version may have sent it.
    """
    message = kind()
    try:
        if encoded.dtype != np.uint8:
            raise DecodeError
        message.ParseFromString(encoded.tobytes())
    except DecodeError:
        raise InternalError(
            None,
            None,
            f"{task} was asked for a {kind.__name__} and answered something else; is it of "
            "another version?",
            task=task,
        ) from None
    return message


def _span_of(node: step_stats_pb2.NodeExecStats) -> tuple[int, int]:
    return node.all_start_nanos, node.all_start_nanos + node.all_end_rel_nanos


def check_spans(spans: Iterable[tuple[int, int]], answered_nanos: int, task: str) -> None:
    """Refuses a report in which something happened before the request or after the answer.

    Raises:
        InternalError: it does; or a step took decades.
    """
    last_nanos = min(answered_nanos, _MAX_NANOS) + _ROUNDING_NANOS
    for began_nanos, ended_nanos in spans:
        if not 0 <= began_nanos <= ended_nanos <= last_nanos:
            raise InternalError(
                None,
                None,
                f"{task} reports that something ran from {began_nanos} to {ended_nanos} ns after "
                f"the request, which it answered after {answered_nanos} ns",
                task=task,
            )


def place(metadata: config_pb2.RunMetadata, later_nanos: int) -> None:
    """Moves everything in a report by that many nanoseconds, onto another clock."""
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            node.all_start_nanos += later_nanos
            node.scheduled_nanos += later_nanos
    for stage in metadata.stage_stats:
        stage.start_nanos += later_nanos


def fill_micros(metadata: config_pb2.RunMetadata) -> None:
    """Says in microseconds what a report says in nanoseconds.

    An op takes a microsecond at least, for a timeline does not show what takes no time.
    """
    for device in metadata.step_stats.dev_stats:
        for node in device.node_stats:
            node.all_start_micros = node.all_start_nanos // 1000
            node.scheduled_micros = node.scheduled_nanos // 1000
            node.op_start_rel_micros = node.op_start_rel_nanos // 1000
            node.op_end_rel_micros = max(1, node.op_end_rel_nanos // 1000)
            node.all_end_rel_micros = max(1, node.all_end_rel_nanos // 1000)
