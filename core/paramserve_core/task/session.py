"""One session's state on one task: its compiled plans, its running steps, its random streams.

A *step* exists here from its first stage to its last, and holds what its stages keep for each
other. A stage that fails ends its step: what is kept goes, and a later stage of it is refused.

The in-process session calls this directly; a server calls it for each remote session.

A stage that was brief in its last runs is expected to be brief again (`Pace`), and a server
runs it on the thread that received it: handing it to another thread would take longer.

Thread rule: every method may be called from any thread. `begin` and `end_steps` are brief and are
called in the order in which the client asked, so that a step's end cannot overtake its stages;
`StageRun.run` is where the work is and may run beside anything.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from numpy.typing import NDArray

from paramserve_core.errors import (
    CancelledError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from paramserve_core.executor.host_functions import HostFunctions
from paramserve_core.executor.loop_turns import LoopTurns
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.tracing import StageRecorder
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.task.gate import Key, StepGate
from paramserve_core.task.limits import TaskLimits
from paramserve_protos.v1 import node_def_pb2

if TYPE_CHECKING:
    from paramserve_core.checkpoint.graph_files import GraphFiles

Array = NDArray[Any]

_BRIEF_S: Final = 500e-6
"""A few times what it costs to hand work to another thread, and nothing that keeps a client."""

_BRIEF_BYTES: Final = 64 << 10
_TRUSTED: Final = 8


class Pace:
    """How long a stage took lately, and so whether its next run may be expected to be brief.

    A stage earns trust by being brief, and loses all of what a few brief runs earned by being long
    once; a machine that is busy may make any run look long.

    Args:
        may_last: nothing follows from how long it took, as with a loop: it is never trusted.
    """

    __slots__ = ("_may_last", "_trust")

    def __init__(self, *, may_last: bool = False) -> None:
        self._may_last = may_last
        self._trust = 0

    @property
    def is_brief(self) -> bool:
        """Whether the next run is expected to be brief."""
        return self._trust >= _TRUSTED

    def took(self, seconds: float) -> None:
        """A run ended after that many seconds, its answer sent."""
        if seconds < _BRIEF_S and not self._may_last:
            self._trust = min(self._trust + 1, 2 * _TRUSTED)
        else:
            self._trust = max(self._trust - _TRUSTED, 0)


class StageDescription(Protocol):
    """What a stage is made of; `service.proto` explains the lists of names."""

    @property
    def received(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def kept(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def returned(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def retained(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def is_last(self) -> bool: ...  # noqa: D102


class CompiledStage:
    """A stage, ready to run."""

    __slots__ = ("changes", "is_alone", "is_last", "pace", "program", "received_count")

    def __init__(
        self,
        nodes: Iterable[node_def_pb2.NodeDef],
        stage: StageDescription,
        *,
        is_alone: bool,
        changing_stages: int,
    ) -> None:
        self.program = Program(
            nodes,
            received=stage.received,
            kept=stage.kept,
            returned=stage.returned,
            retained=stage.retained,
        )
        self.received_count = len(stage.received)
        self.is_last = stage.is_last
        self.is_alone = is_alone
        self.pace = Pace(may_last=self.program.has_loops)
        # Of the step, on all tasks; 0: this stage is none of them.
        self.changes = max(1, changing_stages) if self.program.changes_variables else 0


class _Step:
    """What the stages of one step have in common on this task."""

    __slots__ = ("context", "kept")

    def __init__(self, context: StepContext) -> None:
        self.context = context
        self.kept: dict[str, Any] = {}


class StageRun:
    """One stage that was begun; `run` does it."""

    __slots__ = ("_has_entered", "_number", "_session", "_stage", "_step")

    def __init__(
        self, session: TaskSession, stage: CompiledStage, number: int, step: _Step
    ) -> None:
        self._session = session
        self._stage = stage
        self._number = number
        self._step = step
        self._has_entered = False

    @property
    def may_last(self) -> bool:
        """Whether it has loops, which may go on for any time."""
        return self._stage.program.has_loops

    def took(self, seconds: float) -> None:
        """The run ended after that many seconds, and its answer was sent."""
        self._stage.pace.took(seconds)

    def try_brief(self, received: Sequence[Array]) -> bool:
        """Whether `run` may be called by a thread that must not be kept for long.

        If so, it has to be called: the run is past the gate, which a checkpoint closes. What may
        keep it still is another session's update of a variable that it needs.
        """
        stage = self._stage
        if (
            not stage.pace.is_brief
            or len(received) != stage.received_count
            or sum(array.nbytes for array in received) > _BRIEF_BYTES
        ):
            return False
        if stage.changes:
            self._has_entered = self._session.gate.try_enter(self._key, stage.changes)
            return self._has_entered
        return True

    @property
    def _key(self) -> Key:
        return self._session.name, self._number

    def cancel(self) -> None:
        """Makes `run` end soon with a CancelledError."""
        self._step.context.cancel()

    def run(self, received: Sequence[Array], recorder: StageRecorder | None = None) -> list[Array]:
        """Runs the stage; see `Program.run` for what it takes, answers and raises."""
        stage, step = self._stage, self._step
        try:
            if len(received) != stage.received_count:
                raise InvalidArgumentError(
                    None,
                    None,
                    f"a stage takes {stage.received_count} tensors, {len(received)} came with the "
                    "request",
                )
            run = self._change if stage.changes else self._run
            answer = run(received, recorder)
        except BaseException:
            step.context.cancel()
            self._session.forget_step(self._number)
            raise
        if stage.is_last and not stage.is_alone:
            self._session.forget_step(self._number)
        return answer

    def _change(self, received: Sequence[Array], recorder: StageRecorder | None) -> list[Array]:
        """Runs a stage that changes variables, which a checkpoint may keep waiting."""
        gate, total, key = self._session.gate, self._stage.changes, self._key
        if not self._has_entered:
            gate.enter(key, total, self._step.context.check_cancelled)
        is_done = False
        try:
            answer = self._run(received, recorder)
            is_done = True
        finally:
            gate.leave(key, total, is_done=is_done)
        return answer

    def _run(self, received: Sequence[Array], recorder: StageRecorder | None) -> list[Array]:
        program, step, turns = self._stage.program, self._step, self._session.turns
        try:
            if turns is None or not program.has_loops:
                return program.run(step.context, received, step.kept, recorder)
            with turns.stretch() as step.context.stretch:
                return program.run(step.context, received, step.kept, recorder)
        except KeyError as error:
            raise InvalidArgumentError(
                None, None, f"{error.args[0]} was not left by an earlier stage of the step"
            ) from None


class TaskSession:
    """The state of one session on one task.

    Args:
        name: names the session to the gate.
        store: the task's variables.
        limits: what the session may hold.
        gate: what stages pass that change variables.
        random: the session's random streams; new ones by default.
        files: the checkpoint files that ops may touch.
        functions: the Python functions that ops may call; None in a server.
        turns: what loops give way by; None: they do not.
    """

    def __init__(
        self,
        name: str,
        store: VariableStore,
        limits: TaskLimits,
        gate: StepGate,
        random: RandomStreams | None = None,
        files: GraphFiles | None = None,
        functions: HostFunctions | None = None,
        turns: LoopTurns | None = None,
    ) -> None:
        self.name = name
        self.gate = gate
        self.turns = turns
        self._store = store
        self._limits = limits
        self._random = random or RandomStreams()
        self._files = files
        self._functions = functions
        self._lock = threading.Lock()
        self._plans: dict[int, list[CompiledStage]] = {}
        self._steps: dict[int, _Step] = {}
        self._is_closed = False

    def register_plan(self, plan: int, stages: Sequence[CompiledStage]) -> None:
        """Keeps a plan under the number that its client gave it.

        Raises:
            InvalidArgumentError: the number is taken.
            ResourceExhaustedError: the session has as many plans as it may.
        """
        with self._lock:
            if plan in self._plans:
                raise InvalidArgumentError(None, None, f"plan {plan} is registered already")
            if len(self._plans) >= self._limits.max_plans:
                raise ResourceExhaustedError(
                    None,
                    None,
                    f"the session has {len(self._plans)} plans, the limit is "
                    f"{self._limits.max_plans}: run the same fetches and feeds again rather than "
                    "new ops in every step",
                )
            self._plans[plan] = list(stages)

    def begin(self, plan: int, step: int, stage: int) -> StageRun:
        """Begins a stage: from here on `end_steps` and `StageRun.cancel` reach it.

        Raises:
            NotFoundError: no such plan or stage.
            CancelledError: the session was closed.
        """
        stages = self._plans.get(plan)
        if self._is_closed:  # Asked after the look-up: closing says so, and then drops the plans.
            raise CancelledError(None, None, "the session was closed")
        try:
            compiled = (stages or [])[stage]
        except IndexError:
            raise NotFoundError(
                None, None, f"stage {stage} of plan {plan} is not registered in this session"
            ) from None
        if compiled.is_alone:
            return StageRun(self, compiled, step, _Step(self._new_context()))
        with self._lock:
            state = self._steps.get(step)
            if state is None:
                if len(self._steps) >= self._limits.max_calls:
                    raise ResourceExhaustedError(
                        None,
                        None,
                        f"the session has {len(self._steps)} unfinished steps here, the limit is "
                        f"{self._limits.max_calls}",
                    )
                state = self._steps[step] = _Step(self._new_context())
        return StageRun(self, compiled, step, state)

    def _new_context(self) -> StepContext:
        return StepContext(self._store, self._random, self._files, self._functions)

    def has_step(self, step: int) -> bool:
        """Whether a stage of that step ran here and another one may follow."""
        return step in self._steps

    def end_steps(self, steps: Iterable[int]) -> None:
        """Cancels those steps and drops what they keep; unknown ones are passed over."""
        numbers = list(steps)
        self.gate.end_steps([(self.name, number) for number in numbers])
        for number in numbers:
            with self._lock:
                step = self._steps.pop(number, None)
            if step is not None:
                step.context.cancel()

    def forget_step(self, number: int) -> None:
        """Drops what a step keeps, once its last stage ended or one failed."""
        with self._lock:
            self._steps.pop(number, None)

    def close(self) -> None:
        """Cancels every step and drops every plan; nothing begins afterwards."""
        self._is_closed = True
        self.end_steps(list(self._steps))
        self.gate.end_session(self.name)
        self._plans.clear()
