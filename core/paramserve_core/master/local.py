"""The master that plans here: in a client process, or in a server for its clients.

A running step is driven by the thread that waits for it. Stages on other tasks go out as soon as
what they need is there and report to the step's mailbox; stages on the task in this process run on
the waiting thread itself, so a step of one local stage is a function call.

A step that fails is over everywhere when its error is raised: the other tasks are told, and what
still runs there is waited for, a few seconds at most.

Thread rule: every method may be called from any thread. A `_Step` belongs to the thread that
called `result`, but for `cancel`.
"""

from __future__ import annotations

import itertools
import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from paramserve_core.checkpoint import coordinator
from paramserve_core.checkpoint.background import BackgroundSave, Watcher
from paramserve_core.errors import (
    CancelledError,
    DeadlineExceededError,
    InvalidArgumentError,
    OpError,
    UnimplementedError,
)
from paramserve_core.executor.host_functions import CALLING_OPS
from paramserve_core.executor.store import read_only
from paramserve_core.master.conversation import Outcome
from paramserve_core.master.cut import consistent_cut
from paramserve_core.master.parallel import run_all
from paramserve_core.master.tasks import LocalTask, RemoteTask, as_outcome
from paramserve_core.master.tracing import StepReport, StepTracer
from paramserve_core.plan.graph import DEFAULT_MAX_NODES, StepGraph
from paramserve_core.plan.partition import partition_graphs
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import FEEDS, Plan, PlannedStage, Source, make_plan
from paramserve_core.runtime import Runtime
from paramserve_core.task.session import StageRun
from paramserve_core.transport.ownership import is_exclusive
from paramserve_protos.v1 import checkpoint_service_pb2, graph_pb2, service_pb2

Array = NDArray[Any]
T = TypeVar("T")

_SETTLE_S: Final = 5.0
"""How long a failed step waits for the stages that still run elsewhere."""

_log = logging.getLogger(__name__)


class LocalMaster:
    """Plans and drives the steps of one session.

    Args:
        tasks: the tasks of the session; at most one of them in this process.
        default_task: the name of the task that runs what names no device.
        runtime: time and threads.
        soft_placement: run an op on the default task when its device is not there.
        log_placement: log the task of each op when a plan is made.
        max_nodes: the largest graph taken.
        shows_task: name the task in errors of stages that run in this process.
        on_close: called at the end of `close`, to end what was made for this master.
    """

    def __init__(
        self,
        tasks: Sequence[LocalTask | RemoteTask],
        default_task: str,
        runtime: Runtime,
        *,
        soft_placement: bool = False,
        log_placement: bool = False,
        max_nodes: int = DEFAULT_MAX_NODES,
        shows_task: bool = True,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._runtime = runtime
        self._placer = Placer([t.name for t in tasks], default_task, soft=soft_placement)
        self._log_placement = log_placement
        self._shows_task = shows_task
        self._on_close = on_close
        self._graph = StepGraph(max_nodes)
        self._lock = threading.Lock()
        self._plans: dict[int, Plan] = {}
        self._plan_numbers = itertools.count(1)
        self._step_numbers = itertools.count(1)
        self._is_closed = False
        self._running: set[_Step] = set()

    def extend(self, nodes: graph_pb2.GraphDef) -> None:
        """See `Master.extend`."""
        with self._lock:
            self._graph.extend(nodes)

    def prepare(self, fetches: Sequence[str], feeds: Sequence[str], targets: Sequence[str]) -> int:
        """See `Master.prepare`."""
        with self._lock:
            plan = make_plan(self._graph, self._placer, fetches, feeds, targets)
            number = next(self._plan_numbers)
        by_task: dict[str, list[PlannedStage]] = {}
        for stage in plan.stages:
            by_task.setdefault(stage.task, []).append(stage)
            if self._log_placement:
                for node in stage.nodes:
                    _log.info("%s (%s): %s", node.name, node.op, stage.task)
        self._check_functions(plan)
        changing = sum(s.changes_variables and self._tasks[s.task].is_shared for s in plan.stages)
        self._on_all(by_task, lambda task, stages: task.register_plan(number, stages, changing))
        self._plans[number] = plan
        return number

    def _check_functions(self, plan: Plan) -> None:
        """Refuses to send what calls a function of the program to where there is none."""
        for stage in plan.stages:
            task = self._tasks[stage.task]
            if isinstance(task, LocalTask) and task.functions is not None:
                continue
            for node in stage.nodes:
                if node.op in CALLING_OPS:
                    raise UnimplementedError(
                        None,
                        None,
                        f"{node.name}: a Python function runs in the client, and {stage.task} is "
                        "a server; use a Session(), or a Session(ClusterSpec) and no device for "
                        "this op",
                        node_name=node.name,
                    )

    def run(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> list[Array]:
        """See `Master.run`."""
        step = self._begin(plan, [read_only(feed) for feed in feeds], timeout_s, report)
        return own_all(step.result())

    def start(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> _Step:
        """See `Master.start`; `feeds` may be kept, so nobody else may write to them."""
        return self._begin(plan, feeds, timeout_s, report)

    def _begin(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None,
        report: StepReport | None,
    ) -> _Step:
        try:
            planned = self._plans[plan]
        except KeyError:
            raise InvalidArgumentError(None, None, f"plan {plan} was not prepared") from None
        if len(feeds) != len(planned.feeds):
            raise InvalidArgumentError(
                None, None, f"the plan takes {len(planned.feeds)} feeds, {len(feeds)} were given"
            )
        if self._is_closed:
            raise CancelledError(None, None, "the session was closed")
        step = _Step(self, planned, plan, next(self._step_numbers), feeds, timeout_s, report)
        step.begin()
        return step

    def partition_graphs(self, plan: Plan) -> list[graph_pb2.GraphDef]:
        """The graph of each task of a plan."""
        with self._lock:
            return partition_graphs(self._graph, plan)

    def devices(self) -> list[service_pb2.Task]:
        """See `Master.devices`."""
        return [task.describe() for task in self._tasks.values()]

    def variables(self) -> list[service_pb2.VariableInfo]:
        """See `Master.variables`."""
        listed = self._on_all(self._everywhere(), lambda task, _: task.variables())
        return [variable for variables in listed for variable in variables]

    def save(
        self, request: checkpoint_service_pb2.SaveRequest
    ) -> checkpoint_service_pb2.SaveResponse:
        """See `Master.save`."""
        return self._save(request, Watcher())

    def begin_save(self, request: checkpoint_service_pb2.SaveRequest) -> BackgroundSave:
        """See `Master.begin_save`."""
        save = BackgroundSave(self._runtime, lambda watcher: self._save(request, watcher))
        save.wait_until_taken()
        return save

    def _save(
        self, request: checkpoint_service_pb2.SaveRequest, watcher: Watcher
    ) -> checkpoint_service_pb2.SaveResponse:
        return coordinator.save(
            self._tasks,
            request,
            self._task_of_entry,
            self._parallel,
            self._hold,
            watcher,
        )

    def restore(self, request: checkpoint_service_pb2.RestoreRequest) -> None:
        """See `Master.restore`."""
        coordinator.restore(self._tasks, request, self._task_of_entry, self._parallel, self._hold)

    def _hold(self) -> AbstractContextManager[None]:
        return consistent_cut(self._tasks, self._parallel, self._runtime)

    def read_checkpoint_state(
        self, request: checkpoint_service_pb2.ReadStateRequest
    ) -> checkpoint_service_pb2.ReadStateResponse:
        """See `Master.read_checkpoint_state`."""
        return coordinator.read_state(self._tasks, request, self._parallel)

    def reset(self, containers: Sequence[str]) -> None:
        """See `Master.reset`."""
        self._on_all(self._everywhere(), lambda task, _: task.reset(containers))

    def close(self) -> None:
        """See `Master.close`."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            running = list(self._running)
        for step in running:
            step.cancel()
        self._on_all(self._everywhere(), lambda task, _: task.close())
        if self._on_close is not None:
            self._on_close()

    def _everywhere(self) -> dict[str, None]:
        return dict.fromkeys(self._tasks)

    def _on_all(
        self, work: Mapping[str, T], do: Callable[[LocalTask | RemoteTask, T], Any]
    ) -> list[Any]:
        """Calls `do` for every task in `work`, side by side."""

        def thunk(name: str, item: T) -> Callable[[], Any]:
            return lambda: do(self._tasks[name], item)

        return self._parallel([thunk(name, item) for name, item in work.items()])

    def _parallel(self, thunks: Sequence[Callable[[], Any]]) -> list[Any]:
        return run_all(self._runtime, thunks)

    def _task_of_entry(self, entry: checkpoint_service_pb2.CheckpointEntry) -> str:
        with self._lock:
            node = self._graph.node(entry.node)
            return self._placer.place(self._graph, [node])[node.name]


class _Step:
    """One run of a plan."""

    def __init__(
        self,
        master: LocalMaster,
        plan: Plan,
        plan_number: int,
        number: int,
        feeds: Sequence[Array],
        timeout_s: float | None,
        report: StepReport | None,
    ) -> None:
        self._master = master
        self._plan = plan
        self._plan_number = plan_number
        self._number = number
        self._feeds = feeds
        self._timeout_s = timeout_s
        self._runtime = master._runtime
        self._box = self._runtime.mailbox()
        self._cancels: dict[int, Callable[[], None]] = {}
        self._is_cancelled = False
        self._is_late = False
        self._deadline: float | None = None
        self._alone: StageRun | None = None
        self._report = report
        self._tracer = StepTracer(plan, self._runtime.now) if report and report.stats else None

    def begin(self) -> None:
        """Begins the stage of a step that is one stage in this process.

        Raises:
            CancelledError: the session was closed.
        """
        stages = self._plan.stages
        if len(stages) == 1:
            task = self._master._tasks[stages[0].task]
            if isinstance(task, LocalTask):
                self._alone = task.begin(self._plan_number, self._number, stages[0].number)

    def try_brief(self) -> bool:
        """See `RunningStep.try_brief`."""
        if self._alone is None or self._timeout_s is not None:
            return False
        return self._alone.try_brief(self._inputs(self._plan.stages[0], {}))

    def took(self, seconds: float) -> None:
        """See `RunningStep.took`."""
        if self._alone is not None:
            self._alone.took(seconds)

    def cancel(self) -> None:
        """See `RunningStep.cancel`."""
        self._is_cancelled = True
        for cancel in list(self._cancels.values()):
            cancel()
        self._box.put(None)

    def result(self) -> list[Array]:
        """See `RunningStep.result`."""
        self._master._running.add(self)
        if self._timeout_s is not None:
            self._deadline = self._runtime.now() + self._timeout_s
        try:
            answers = self._run()
        except CancelledError:
            if self._is_late:
                raise DeadlineExceededError(
                    None,
                    None,
                    f"the step did not end within {self._timeout_s:g} s; it was cancelled",
                ) from None
            raise
        finally:
            self._master._running.discard(self)
        if self._report is not None:
            self._fill(self._report)
        values = [self._value(source, answers) for source in self._plan.fetches]
        for tensors in answers.values():
            let_go(tensors)
        return values

    def _fill(self, report: StepReport) -> None:
        if self._tracer is not None:
            self._tracer.fill(report.metadata)
        if report.partition_graphs:
            report.metadata.partition_graphs.extend(self._master.partition_graphs(self._plan))

    def _value(self, source: Source, answers: Mapping[int, Sequence[Array]]) -> Array:
        if source.stage == FEEDS:
            return self._feeds[source.index]
        return answers[source.stage][source.index]

    def _expire(self) -> None:
        self._is_late = True
        self.cancel()

    def _run(self) -> dict[int, Sequence[Array]]:
        stages = self._plan.stages
        if self._alone is not None:
            outcome = self._run_here(self._alone, 0, self._inputs(stages[0], {}))
            if outcome.error is not None:
                raise outcome.error
            return {0: outcome.tensors}
        if len(stages) == 1:
            task = self._master._tasks[stages[0].task]
            assert isinstance(task, RemoteTask)
            return self._await_one(task)
        return self._drive(stages)

    def _drive(self, stages: Sequence[PlannedStage]) -> dict[int, Sequence[Array]]:
        answers: dict[int, Sequence[Array]] = {}
        waiting = {number: set(stage.needs) for number, stage in enumerate(stages)}
        here: list[int] = []
        try:
            self._start_ready(waiting, answers, here)
            while len(answers) < len(stages):
                if here and not self._is_cancelled:
                    number = here.pop(0)
                    task = self._master._tasks[stages[number].task]
                    assert isinstance(task, LocalTask)
                    run = task.begin(self._plan_number, self._number, stages[number].number)
                    outcome = self._run_here(run, number, self._inputs(stages[number], answers))
                else:
                    number, outcome = self._next_report()
                if outcome.error is not None:
                    raise outcome.error
                answers[number] = outcome.tensors
                for needs in waiting.values():
                    needs.discard(number)
                self._start_ready(waiting, answers, here)
        except BaseException as error:
            self._give_up(error)
            raise
        return answers

    def _await_one(self, task: RemoteTask) -> dict[int, Sequence[Array]]:
        """As `_drive`, for a step that is one stage elsewhere: the most frequent kind."""
        try:
            self._send(task, 0, {})
            _, outcome = self._next_report()
            if outcome.error is not None:
                raise outcome.error
        except BaseException as error:
            self._give_up(error)
            raise
        return {0: outcome.tensors}

    def _give_up(self, error: BaseException) -> None:
        self._end_everywhere(settle=isinstance(error, OpError) and not self._is_cancelled)

    def _next_report(self) -> tuple[int, Outcome]:
        """Which stage ended next, and how.

        Raises:
            CancelledError: the step was cancelled or is late.
        """
        try:
            if self._deadline is None:
                report: tuple[int, Outcome] | None = self._box.get()
            else:
                report = self._box.get(max(0.0, self._deadline - self._runtime.now()))
        except TimeoutError:
            self._is_late = self._is_cancelled = True
            report = None
        if report is None or self._is_cancelled:
            raise CancelledError(None, None, "the step was cancelled")
        self._cancels.pop(report[0], None)
        return report

    def _start_ready(
        self,
        waiting: dict[int, set[int]],
        answers: Mapping[int, Sequence[Array]],
        here: list[int],
    ) -> None:
        for number in [n for n, needs in waiting.items() if not needs]:
            del waiting[number]
            task = self._master._tasks[self._plan.stages[number].task]
            if isinstance(task, LocalTask):
                here.append(number)
            else:
                self._send(task, number, answers)

    def _send(self, task: RemoteTask, number: int, answers: Mapping[int, Sequence[Array]]) -> None:
        stage, box, tracer = self._plan.stages[number], self._box, self._tracer
        inputs = self._inputs(stage, answers)

        def report(outcome: Outcome) -> None:
            box.put((number, outcome))

        self._cancels[number] = task.start_stage(
            self._plan_number,
            self._number,
            stage.number,
            inputs,
            report if tracer is None else tracer.reporting(number, task.link, inputs, report),
            is_traced=tracer is not None,
        )

    def _inputs(self, stage: PlannedStage, answers: Mapping[int, Sequence[Array]]) -> list[Array]:
        return [
            self._feeds[s.index] if s.stage == FEEDS else read_only(answers[s.stage][s.index])
            for s in stage.sources
        ]

    def _run_here(self, run: StageRun, number: int, inputs: Sequence[Array]) -> Outcome:
        self._cancels[number] = run.cancel
        if self._is_cancelled:
            run.cancel()
        timer = None
        if self._deadline is not None:
            timer = self._runtime.call_later(self._deadline - self._runtime.now(), self._expire)
        name = self._plan.stages[number].task if self._master._shows_task else ""
        recorder = None if self._tracer is None else self._tracer.recorder(number)
        try:
            return as_outcome(lambda: run.run(inputs, recorder), name)
        finally:
            self._cancels.pop(number, None)
            if timer is not None:
                timer.cancel()

    def _end_everywhere(self, *, settle: bool) -> None:
        """Cancels what runs, and tells every task of the plan that the step is over."""
        outstanding = dict(self._cancels)
        for cancel in outstanding.values():
            cancel()
        for name in dict.fromkeys(stage.task for stage in self._plan.stages):
            self._master._tasks[name].end_steps([self._number])
        deadline = self._runtime.now() + _SETTLE_S
        while settle and outstanding:
            try:
                report = self._box.get(max(0.0, deadline - self._runtime.now()))
            except TimeoutError:
                return
            if report is None:
                return
            outstanding.pop(report[0], None)


def own_all(arrays: list[Array]) -> list[Array]:
    """The arrays, each writable and the caller's own; copies where they are not yet.

    Args:
        arrays: fetched values; the caller keeps no other reference to them or to the list.
    """
    for index, array in enumerate(arrays):
        if sys.getrefcount(array) > _UNSHARED or not is_exclusive(array):
            arrays[index] = np.array(array)
    return arrays


def let_go(tensors: Sequence[Array]) -> None:
    """Empties a list of arrays that were taken from it.

    The thread that received them may hold the list for a moment yet, and an array in two lists is
    one that `own_all` copies.
    """
    if isinstance(tensors, list):
        tensors.clear()


def _references(arrays: list[Array]) -> int:
    """The count that `own_all` sees of an array that only its list holds; Pythons differ."""
    for _, array in enumerate(arrays):
        return sys.getrefcount(array)
    return 0


_UNSHARED: Final = _references([np.empty(1)])
