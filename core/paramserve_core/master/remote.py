"""The master inside a server, as its client sees it.

The graph, the fetches and the feeds go over; planning and running happen there. What an unpinned
op computes, the server computes.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

import numpy as np
from google.protobuf.message import Message as ProtoMessage
from numpy.typing import NDArray

from paramserve_core.errors import DeadlineExceededError, InternalError, OpError
from paramserve_core.executor.variable import read_only
from paramserve_core.master.conversation import Conversation
from paramserve_core.master.outstanding import Outcome, PendingCall
from paramserve_core.master.results import let_go, own_all
from paramserve_core.master.tracing import ServedStepTracer, StepReport
from paramserve_core.runtime import Mailbox, Runtime
from paramserve_protos.v1 import checkpoint_service_pb2, graph_pb2, service_pb2

Array = NDArray[Any]
M = TypeVar("M", bound=ProtoMessage)

_GRACE_S: Final = 0.25
"""How much longer than the server a client waits, so that the server's own report wins."""

_WAIT_S: Final = 10.0
"""How long the server holds back the answer about a save that has not ended."""


class RemoteMaster:
    """A session's master in another process."""

    def __init__(self, conversation: Conversation, runtime: Runtime) -> None:
        self._conversation = conversation
        self._runtime = runtime

    def extend(self, nodes: graph_pb2.GraphDef, timeout_s: float | None = None) -> None:
        """See `Master.extend`."""
        body = np.frombuffer(nodes.SerializeToString(), np.uint8)
        self._conversation.call(service_pb2.ExtendGraph(), [body], timeout_s)

    def prepare(
        self,
        fetches: Sequence[str],
        feeds: Sequence[str],
        targets: Sequence[str],
        timeout_s: float | None = None,
    ) -> int:
        """See `Master.prepare`."""
        request = service_pb2.PreparePlan(fetches=fetches, feeds=feeds, targets=targets)
        return self._ask(request, service_pb2.PreparePlanResponse, timeout_s).plan

    def run(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> list[Array]:
        """See `Master.run`."""
        return own_all(self.start(plan, feeds, timeout_s, report).result())

    def start(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> _RemoteStep:
        """See `Master.start`."""
        request = service_pb2.RunStep(plan=plan, timeout_s=timeout_s or 0.0)
        # A transport may read what is read-only where it lies until the step has ended.
        fed = [read_only(feed) for feed in feeds]
        tracer = None
        if report is not None:
            request.trace, request.partition_graphs = report.stats, report.partition_graphs
            tracer = ServedStepTracer(report, self._conversation, fed, self._runtime.now)
        box = self._conversation.mailbox()
        step = _RemoteStep(box, self._runtime, timeout_s, tracer)
        step.pending = self._conversation.start(
            request, fed, box.put, step.deadline, is_awaited=True
        )
        return step

    def devices(self) -> list[service_pb2.Task]:
        """See `Master.devices`."""
        return list(self._ask(service_pb2.ListTasks(), service_pb2.ListTasksResponse).tasks)

    def variables(self) -> list[service_pb2.VariableInfo]:
        """See `Master.variables`."""
        request = service_pb2.ListVariablesRequest()
        return list(self._ask(request, service_pb2.ListVariablesResponse).variables)

    def save(
        self, request: checkpoint_service_pb2.SaveRequest, timeout_s: float | None = None
    ) -> checkpoint_service_pb2.SaveResponse:
        """See `Master.save`."""
        return self._ask(request, checkpoint_service_pb2.SaveResponse, timeout_s)

    def begin_save(
        self, request: checkpoint_service_pb2.SaveRequest, timeout_s: float | None = None
    ) -> _RemoteSave:
        """See `Master.begin_save`."""
        begin = checkpoint_service_pb2.BeginSaveRequest(save=request)
        begun = self._ask(begin, checkpoint_service_pb2.BeginSaveResponse, timeout_s)
        return _RemoteSave(self, self._runtime, begun.save)

    def await_save(self, save: int, timeout_s: float) -> checkpoint_service_pb2.AwaitSaveResponse:
        """Waits for a save that was begun to end, `timeout_s` seconds at most."""
        request = checkpoint_service_pb2.AwaitSaveRequest(save=save, timeout_s=timeout_s)
        return self._ask(request, checkpoint_service_pb2.AwaitSaveResponse)

    def restore(
        self, request: checkpoint_service_pb2.RestoreRequest, timeout_s: float | None = None
    ) -> None:
        """See `Master.restore`."""
        self._conversation.call(request, timeout_s=timeout_s)

    def read_checkpoint_state(
        self, request: checkpoint_service_pb2.ReadStateRequest, timeout_s: float | None = None
    ) -> checkpoint_service_pb2.ReadStateResponse:
        """See `Master.read_checkpoint_state`."""
        return self._ask(request, checkpoint_service_pb2.ReadStateResponse, timeout_s)

    def reset(self, containers: Sequence[str]) -> None:
        """See `Master.reset`."""
        self._conversation.call(service_pb2.ResetContainers(containers=containers))

    def close(self) -> None:
        """See `Master.close`."""
        self._conversation.close()

    def _ask(
        self, request: ProtoMessage, response_type: type[M], timeout_s: float | None = None
    ) -> M:
        response, _ = self._conversation.call(request, timeout_s=timeout_s)
        if not isinstance(response, response_type):
            raise InternalError(
                None,
                None,
                f"{self._conversation.name} answered {type(request).__name__} with "
                f"{type(response).__name__}; is it of another version?",
            )
        return response


class _RemoteStep:
    """One step that runs in the server."""

    may_last = True  # For all that is known here.

    def __init__(
        self,
        box: Mailbox[Any],
        runtime: Runtime,
        timeout_s: float | None,
        tracer: ServedStepTracer | None,
    ) -> None:
        self._box = box
        self.deadline = None if timeout_s is None else runtime.now() + timeout_s + _GRACE_S
        self.pending: PendingCall | None = None
        self._runtime = runtime
        self._timeout_s = timeout_s
        self._tracer = tracer

    def cancel(self) -> None:
        """See `RunningStep.cancel`."""
        if self.pending is not None:
            self.pending.cancel()

    def try_brief(self) -> bool:
        """See `RunningStep.try_brief`; what has to be waited for is not."""
        return False

    def took(self, seconds: float) -> None:
        """See `RunningStep.took`; nothing here depends on it."""

    def result(self) -> list[Array]:
        """See `RunningStep.result`."""
        try:
            rest_s = None if self.deadline is None else self.deadline - self._runtime.now()
            outcome: Outcome = self._box.get(rest_s if rest_s is None else max(rest_s, 0.0))
        except TimeoutError:
            self.cancel()
            raise DeadlineExceededError(
                None, None, f"the step did not end within {self._timeout_s:g} s; it was cancelled"
            ) from None
        except BaseException:
            self.cancel()
            raise
        if outcome.error is not None:
            raise outcome.error
        if self._tracer is not None:
            return self._tracer.answered(outcome.tensors)
        tensors = list(outcome.tensors)
        let_go(outcome.tensors)
        return tensors


class _RemoteSave:
    """One save that the server writes."""

    def __init__(self, master: RemoteMaster, runtime: Runtime, number: int) -> None:
        self._master = master
        self._runtime = runtime
        self._number = number

    def progress(self) -> float:
        """See `RunningSave.progress`."""
        try:
            return self._master.await_save(self._number, 0.0).progress
        except OpError:
            return 1.0  # It has ended, if not well; `result` says how.

    def result(self, timeout_s: float | None = None) -> checkpoint_service_pb2.SaveResponse:
        """See `RunningSave.result`."""
        deadline = None if timeout_s is None else self._runtime.now() + timeout_s
        while True:
            rest_s = _WAIT_S if deadline is None else deadline - self._runtime.now()
            answer = self._master.await_save(self._number, min(max(rest_s, 0.0), _WAIT_S))
            if answer.HasField("saved"):
                return answer.saved
            if rest_s <= 0:
                raise DeadlineExceededError(
                    None, None, f"the checkpoint was not written within {timeout_s:g} s; it goes on"
                )
