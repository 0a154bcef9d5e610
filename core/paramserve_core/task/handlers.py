"""What a task does for each kind of call.

A handler answers a call with a `Work`: a function to be run on some thread, and how to cancel it.
Making the work is brief and happens in the order of arrival; running it may take long.

There are two sets of handlers, as there are two kinds of session: one whose client plans its steps
itself and sends stages (`TaskHandlers`), and one whose client sends its graph to a master here
(`MasterHandlers`).

Thread rule: `begin` is called by one thread at a time per session; works run on any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as ProtoMessage
from numpy.typing import NDArray

from paramserve_core.errors import InvalidArgumentError, UnimplementedError
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.tracing import Clock, StageRecorder
from paramserve_core.master.interface import Master
from paramserve_core.master.tracing import StepReport, with_trace
from paramserve_core.task.begun_saves import BegunSaves
from paramserve_core.task.listing import variable_infos
from paramserve_core.task.session import CompiledStage, TaskSession
from paramserve_core.transport.interface import Tensors
from paramserve_protos.v1 import checkpoint_service_pb2, graph_pb2, service_pb2

if TYPE_CHECKING:
    from paramserve_core.checkpoint.graph_files import GraphFiles

Answer = tuple[ProtoMessage | None, Tensors]


def _nothing() -> None:
    return None


def _is_not_brief() -> bool:
    return False


def _ignore(seconds: float) -> None:
    return None


@dataclass(slots=True)
class Work:
    """A call that was begun.

    Attributes:
        run: does it, and answers the response (None: nothing to say) and its tensors.
        cancel: makes `run` end soon with a CancelledError.
        begins_something: it is not the rest of a step or a save that runs already; a server that
            is about to stop refuses it.
        try_brief: whether the thread that received the call may run it; if so, it must.
        took: is told how many seconds the call took.
        may_last: it has a loop, which may go on for any time.
    """

    run: Callable[[], Answer]
    cancel: Callable[[], None] = _nothing
    begins_something: bool = False
    try_brief: Callable[[], bool] = _is_not_brief
    took: Callable[[float], None] = _ignore
    may_last: bool = False


class Handlers(Protocol):
    """The calls of one session."""

    def begin(self, call: service_pb2.Call, tensors: Tensors) -> Work:
        """Begins a call.

        Raises:
            OpError: the call cannot be begun.
        """

    def close(self) -> None:
        """Ends the session: frees what it holds."""


class CheckpointHandlers(Protocol):
    """The checkpoint calls of a task, as `paramserve_core.checkpoint` answers them."""

    @property
    def files(self) -> GraphFiles | None:
        """The checkpoint files that ops of a graph may touch; None where there is no disk."""

    def handle(
        self, request: ProtoMessage, tensors: Tensors, session: str
    ) -> tuple[ProtoMessage | None, Sequence[NDArray[Any]]]:
        """Carries out one checkpoint request of a session."""

    def forget(self, session: str) -> None:
        """Drops the snapshots and staged restores of a session that ended."""


class TaskHandlers:
    """Calls of a session whose client plans: stages, checkpoints, variables."""

    def __init__(
        self,
        name: str,
        task: str,
        session: TaskSession,
        store: VariableStore,
        checkpoints: CheckpointHandlers,
        now: Clock,
    ) -> None:
        self._name = name
        self._task = task
        self._session = session
        self._store = store
        self._checkpoints = checkpoints
        self._now = now

    def begin(self, call: service_pb2.Call, tensors: Tensors) -> Work:
        """See `Handlers.begin`."""
        kind = call.WhichOneof("request")
        match kind:
            case "run_stage":
                return self._run_stage(call.run_stage, tensors)
            case "register_plan":
                plan = call.register_plan.plan
                return Work(lambda: self._register_plan(plan, tensors))
            case "end_steps":
                self._session.end_steps(call.end_steps.steps)
                return Work(_done)
            case "hold_steps" | "let_steps" | "release_steps":
                hold = getattr(call, kind)
                return Work(lambda: (self._session.gate.handle(hold), ()))
            case "list_variables":
                containers = list(call.list_variables.containers)
                return Work(lambda: (self._variables(containers), ()))
            case "reset_containers":
                containers = list(call.reset_containers.containers)
                return Work(lambda: self._reset(containers))
            case (
                "list_tasks"
                | "extend_graph"
                | "prepare_plan"
                | "run_step"
                | "save"
                | "begin_save"
                | "await_save"
                | "restore"
            ):
                raise InvalidArgumentError(
                    None, None, f"call {kind!r} is for a session of the other kind, with a master"
                )
            case None:
                raise UnimplementedError(
                    None, None, "a call of a kind that this version does not know"
                )
            case _:
                request = getattr(call, kind)
                return Work(lambda: self._checkpoints.handle(request, tensors, self._name))

    def close(self) -> None:
        """See `Handlers.close`."""
        self._session.close()
        self._checkpoints.forget(self._name)

    def _run_stage(self, request: service_pb2.RunStage, tensors: Tensors) -> Work:
        is_first = not self._session.has_step(request.step)
        stage = self._session.begin(request.plan, request.step, request.stage)
        recorder = StageRecorder(self._now) if request.trace else None

        def run() -> Answer:
            answer = stage.run(tensors, recorder)
            return None, answer if recorder is None else with_trace(answer, recorder.trace())

        return Work(
            run,
            stage.cancel,
            is_first,
            lambda: stage.try_brief(tensors),
            stage.took,
            stage.may_last,
        )

    def _register_plan(self, plan: int, tensors: Tensors) -> Answer:
        message = service_pb2.PlanStages()
        _parse(message, tensors, "register_plan")
        compiled = [
            CompiledStage(
                stage.nodes.node,
                stage,
                is_alone=len(message.stages) == 1,
                changing_stages=message.changing_stages,
            )
            for stage in message.stages
        ]
        self._session.register_plan(plan, compiled)
        return None, ()

    def _variables(self, containers: Sequence[str]) -> ProtoMessage:
        return service_pb2.ListVariablesResponse(
            variables=variable_infos(self._store, self._task, containers)
        )

    def _reset(self, containers: Sequence[str]) -> Answer:
        self._store.reset(containers or None)
        return None, ()


class MasterHandlers:
    """Calls of a session that a master in this process plans and drives."""

    def __init__(self, master: Master, task: str, now: Clock) -> None:
        self._master = master
        self._task = task
        self._now = now
        self._saves = BegunSaves()

    def begin(self, call: service_pb2.Call, tensors: Tensors) -> Work:
        """See `Handlers.begin`."""
        master = self._master
        kind = call.WhichOneof("request")
        match kind:
            case "run_step":
                return self._run_step(call.run_step, tensors)
            case "extend_graph":
                return Work(lambda: self._extend(tensors))
            case "prepare_plan":
                prepare = call.prepare_plan
                return Work(lambda: self._prepare(prepare))
            case "save":
                save = call.save
                return Work(lambda: (master.save(save), ()), begins_something=True)
            case "begin_save":
                begin = call.begin_save
                return Work(lambda: (self._saves.begin(master, begin), ()), begins_something=True)
            case "await_save":
                awaited = call.await_save
                return Work(lambda: (self._saves.wait(awaited), ()))
            case "restore":
                restore = call.restore
                return Work(lambda: self._restore(restore), begins_something=True)
            case "read_state":
                read = call.read_state
                return Work(lambda: (master.read_checkpoint_state(read), ()))
            case "list_tasks":
                return Work(lambda: (service_pb2.ListTasksResponse(tasks=master.devices()), ()))
            case "list_variables":
                return Work(
                    lambda: (
                        service_pb2.ListVariablesResponse(variables=master.variables()),
                        (),
                    )
                )
            case "reset_containers":
                containers = list(call.reset_containers.containers)
                return Work(lambda: self._reset(containers))
            case None:
                raise UnimplementedError(
                    None, None, "a call of a kind that this version does not know"
                )
            case _:
                raise InvalidArgumentError(
                    None, None, f"call {kind!r} is for a session that plans its steps itself"
                )

    def close(self) -> None:
        """See `Handlers.close`."""
        self._master.close()

    def _run_step(self, request: service_pb2.RunStep, tensors: Tensors) -> Work:
        report, arrived_at = None, 0.0
        if request.trace or request.partition_graphs:
            arrived_at = self._now()
            report = StepReport(stats=request.trace, partition_graphs=request.partition_graphs)
        step = self._master.start(request.plan, tensors, request.timeout_s or None, report)

        def run() -> Answer:
            values = step.result()
            if report is None:
                return None, values
            answered_nanos = round((self._now() - arrived_at) * 1e9)
            trace = service_pb2.StepTrace(
                metadata=report.metadata, answered_nanos=answered_nanos, task=self._task
            )
            return None, with_trace(values, trace)

        return Work(
            run,
            step.cancel,
            begins_something=True,
            try_brief=step.try_brief,
            took=step.took,
            may_last=step.may_last,
        )

    def _extend(self, tensors: Tensors) -> Answer:
        graph = graph_pb2.GraphDef()
        _parse(graph, tensors, "extend_graph")
        self._master.extend(graph)
        return None, ()

    def _restore(self, request: checkpoint_service_pb2.RestoreRequest) -> Answer:
        self._master.restore(request)
        return None, ()

    def _reset(self, containers: Sequence[str]) -> Answer:
        self._master.reset(containers)
        return None, ()

    def _prepare(self, request: service_pb2.PreparePlan) -> Answer:
        plan = self._master.prepare(request.fetches, request.feeds, request.targets)
        return service_pb2.PreparePlanResponse(plan=plan), ()


def _done() -> Answer:
    return None, ()


def _parse(message: ProtoMessage, tensors: Tensors, call: str) -> None:
    """Reads the serialized message that is a call's one tensor."""
    if len(tensors) != 1 or tensors[0].dtype != np.uint8 or tensors[0].ndim != 1:
        raise InvalidArgumentError(
            None, None, f"call {call!r} comes with one tensor, a vector of uint8"
        )
    try:
        message.ParseFromString(tensors[0].tobytes())
    except DecodeError:
        raise InvalidArgumentError(
            None, None, f"the tensor of call {call!r} is no {message.DESCRIPTOR.name}"
        ) from None
