"""The tasks of a session, as its master sees them: one in this process, the others elsewhere.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from google.protobuf.message import Message as ProtoMessage
from numpy.typing import NDArray

from paramserve_core.errors import InternalError, OpError
from paramserve_core.executor.host_functions import HostFunctions
from paramserve_core.executor.loop_turns import LoopTurns
from paramserve_core.executor.store import VariableStore
from paramserve_core.master.conversation import Conversation
from paramserve_core.master.outstanding import Outcome
from paramserve_core.plan.planner import PlannedStage
from paramserve_core.task.gate import HoldRequest, StepGate
from paramserve_core.task.handlers import CheckpointHandlers
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.listing import variable_infos
from paramserve_core.task.session import CompiledStage, StageRun, TaskSession
from paramserve_core.transport.interface import Tensors
from paramserve_protos.v1 import service_pb2

Array = NDArray[Any]


class StagePlace(Protocol):
    """What a master needs of every task, beyond running stages."""

    @property
    def name(self) -> str:
        """The task's full name."""

    @property
    def is_shared(self) -> bool:
        """Whether other sessions use the task's variables too."""

    def register_plan(
        self,
        plan: int,
        stages: Sequence[PlannedStage],
        changing_stages: int,
        timeout_s: float | None = None,
    ) -> None:
        """Gives the task its stages of a plan; blocks until it has them.

        Args:
            plan: the plan's number.
            stages: those that run on this task.
            changing_stages: how many of the plan's stages change variables of shared tasks.
            timeout_s: for how long at most.
        """

    def end_steps(self, steps: Sequence[int]) -> None:
        """Tells the task that these steps are over; does not wait."""

    def call(
        self, request: ProtoMessage, tensors: Tensors = (), timeout_s: float | None = None
    ) -> tuple[Any, list[Array]]:
        """A call about checkpoints or holds; blocks until it is answered.

        Args:
            request: the request.
            tensors: what goes with it.
            timeout_s: how long to wait for another process.

        Raises:
            DeadlineExceededError: `timeout_s` passed; the call was cancelled.
        """

    def tell(self, request: ProtoMessage) -> None:
        """As `call`, but does not wait for another process."""

    def describe(self) -> service_pb2.Task:
        """Name, incarnation and address, as far as they are known here."""

    def variables(self) -> Sequence[service_pb2.VariableInfo]:
        """The variables of the task."""

    def reset(self, containers: Sequence[str]) -> None:
        """Drops the variables of the containers, of all if none is given."""

    def close(self) -> None:
        """Ends the session on the task."""


class LocalTask:
    """A task in this process.

    Args:
        name: the task's full name.
        session_id: names this session to the checkpoint code.
        store: the task's variables.
        limits: what the session may hold.
        checkpoints: answers checkpoint calls on the store.
        gate: what stages pass that change variables.
        is_shared: the store serves other sessions too.
        incarnation: that of the process, where it serves others too.
        address: where it serves others.
        functions: the Python functions that ops may call; None in a server.
        turns: what loops give way by; None: they do not.
    """

    def __init__(
        self,
        name: str,
        session_id: str,
        store: VariableStore,
        limits: TaskLimits,
        checkpoints: CheckpointHandlers,
        gate: StepGate,
        *,
        is_shared: bool = False,
        incarnation: int = 0,
        address: str = "",
        functions: HostFunctions | None = None,
        turns: LoopTurns | None = None,
    ) -> None:
        self.name = name
        self.functions = functions
        self._session_id = session_id
        self._store = store
        self._checkpoints = checkpoints
        self.is_shared = is_shared
        self._gate = gate
        self._session = TaskSession(
            session_id,
            store,
            limits,
            gate,
            files=checkpoints.files,
            functions=functions,
            turns=turns,
        )
        self._task = service_pb2.Task(name=name, incarnation=incarnation, address=address)

    def register_plan(
        self,
        plan: int,
        stages: Sequence[PlannedStage],
        changing_stages: int,
        timeout_s: float | None = None,
    ) -> None:
        """See `StagePlace`."""
        compiled = [
            CompiledStage(
                stage.nodes,
                stage,
                is_alone=len(stages) == 1,
                changing_stages=changing_stages if self.is_shared else 0,
            )
            for stage in stages
        ]
        self._session.register_plan(plan, compiled)

    def begin(self, plan: int, step: int, stage: int) -> StageRun:
        """Begins a stage; the caller runs it on its own thread."""
        return self._session.begin(plan, step, stage)

    def end_steps(self, steps: Sequence[int]) -> None:
        """See `StagePlace`."""
        self._session.end_steps(steps)

    def call(
        self, request: ProtoMessage, tensors: Tensors = (), timeout_s: float | None = None
    ) -> tuple[Any, list[Array]]:
        """See `StagePlace`."""
        if isinstance(request, HoldRequest):
            return self._gate.handle(request), []
        response, answered = self._checkpoints.handle(request, tensors, self._session_id)
        return response, list(answered)

    def tell(self, request: ProtoMessage) -> None:
        """See `StagePlace`."""
        self.call(request)

    def describe(self) -> service_pb2.Task:
        """See `StagePlace`."""
        return self._task

    def variables(self) -> Sequence[service_pb2.VariableInfo]:
        """See `StagePlace`."""
        return variable_infos(self._store, self.name)

    def reset(self, containers: Sequence[str]) -> None:
        """See `StagePlace`."""
        self._store.reset(containers or None)

    def close(self) -> None:
        """See `StagePlace`."""
        self._session.close()
        self._checkpoints.forget(self._session_id)


class RemoteTask:
    """A task at the other end of a conversation."""

    is_shared = True

    def __init__(self, name: str, address: str, conversation: Conversation) -> None:
        self.name = name
        self._task = service_pb2.Task(name=name, address=address)
        self._conversation = conversation

    @property
    def link(self) -> Conversation:
        """What carries the calls."""
        return self._conversation

    def register_plan(
        self,
        plan: int,
        stages: Sequence[PlannedStage],
        changing_stages: int,
        timeout_s: float | None = None,
    ) -> None:
        """See `StagePlace`."""
        message = service_pb2.PlanStages(
            stages=[stage.message() for stage in stages], changing_stages=changing_stages
        )
        body = np.frombuffer(message.SerializeToString(), np.uint8)
        request = service_pb2.RegisterPlan(plan=plan)
        self._conversation.call(request, [body], timeout_s)

    def start_stage(
        self,
        plan: int,
        step: int,
        stage: int,
        tensors: Tensors,
        done: Callable[[Outcome], None],
        *,
        deadline: float | None = None,
        is_traced: bool = False,
        is_awaited: bool = False,
    ) -> Callable[[], None]:
        """Sends a stage off; answers how to cancel it. See `Conversation.start`."""
        request = service_pb2.RunStage(plan=plan, step=step, stage=stage, trace=is_traced)
        return self._conversation.start(
            request, tensors, done, deadline, is_awaited=is_awaited
        ).cancel

    def end_steps(self, steps: Sequence[int]) -> None:
        """See `StagePlace`."""
        self.tell(service_pb2.EndSteps(steps=steps))

    def call(
        self, request: ProtoMessage, tensors: Tensors = (), timeout_s: float | None = None
    ) -> tuple[Any, list[Array]]:
        """See `StagePlace`."""
        return self._conversation.call(request, tensors, timeout_s)

    def tell(self, request: ProtoMessage) -> None:
        """See `StagePlace`."""
        self._conversation.tell(request)

    def describe(self) -> service_pb2.Task:
        """See `StagePlace`."""
        return self._task

    def variables(self) -> Sequence[service_pb2.VariableInfo]:
        """See `StagePlace`."""
        response, _ = self._conversation.call(service_pb2.ListVariablesRequest())
        if not isinstance(response, service_pb2.ListVariablesResponse):
            raise InternalError(None, None, f"{self.name}: unexpected answer {response!r}")
        return response.variables

    def reset(self, containers: Sequence[str]) -> None:
        """See `StagePlace`."""
        self._conversation.call(service_pb2.ResetContainers(containers=containers))

    def close(self) -> None:
        """See `StagePlace`."""
        self._conversation.close()


def as_outcome(run: Callable[[], Sequence[Array]], task: str) -> Outcome:
    """Runs a stage here and says how it ended."""
    try:
        return Outcome(tensors=run())
    except OpError as error:
        error.task = error.task or task or None
        return Outcome(error=error)
