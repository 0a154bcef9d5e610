"""The master that plans here: in a client process, or in a server for its clients.

It keeps the graph and the plans of one session, and makes a `Step` for each run.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from paramserve_core.checkpoint import coordinator
from paramserve_core.checkpoint.background import BackgroundSave, Watcher
from paramserve_core.checkpoint.entries import Placement
from paramserve_core.errors import (
    CancelledError,
    InvalidArgumentError,
    UnimplementedError,
)
from paramserve_core.executor.host_functions import CALLING_OPS
from paramserve_core.executor.variable import all_read_only
from paramserve_core.master.cut import consistent_cut
from paramserve_core.master.operation import Operation
from paramserve_core.master.parallel import run_all
from paramserve_core.master.results import own_all
from paramserve_core.master.step import Step
from paramserve_core.master.tasks import LocalTask, RemoteTask
from paramserve_core.master.tracing import StepReport
from paramserve_core.plan.graph import DEFAULT_MAX_NODES, StepGraph
from paramserve_core.plan.partition import partition_graphs
from paramserve_core.plan.placement import Placer
from paramserve_core.plan.planner import Plan, PlannedStage, make_plan
from paramserve_core.runtime import Runtime
from paramserve_protos.v1 import checkpoint_service_pb2, graph_pb2, service_pb2

Array = NDArray[Any]
T = TypeVar("T")

_log = logging.getLogger(__name__)


class LocalMaster:
    """Plans and drives the steps of one session.

    Args:
        tasks: the tasks of the session; at most one of them in this process.
        default_task: the name of the task that runs what names no device.
        runtime: time and threads.
        soft_placement: run an op on the default task when its device is not there.
        log_placement: log the task of each op when a plan is made.
        cpus: how many CPU devices each task answers to.
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
        cpus: int = 1,
        max_nodes: int = DEFAULT_MAX_NODES,
        shows_task: bool = True,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._tasks = {task.name: task for task in tasks}
        self._runtime = runtime
        names = [task.name for task in tasks]
        self._placer = Placer(names, default_task, soft=soft_placement, cpus=cpus)
        self._log_placement = log_placement
        self._shows_task = shows_task
        self._on_close = on_close
        self._graph = StepGraph(max_nodes)
        self._lock = threading.Lock()
        self._plans: dict[int, Plan] = {}
        self._placement = Placement(self._task_of_entry)
        self._plan_numbers = itertools.count(1)
        self._step_numbers = itertools.count(1)
        self._is_closed = False
        self._running: set[Step] = set()

    def extend(self, nodes: graph_pb2.GraphDef, timeout_s: float | None = None) -> None:
        """See `Master.extend`."""
        with self._lock:
            self._graph.extend(nodes)

    def prepare(
        self,
        fetches: Sequence[str],
        feeds: Sequence[str],
        targets: Sequence[str],
        timeout_s: float | None = None,
    ) -> int:
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
        self._on_all(
            by_task,
            lambda task, stages: task.register_plan(number, stages, changing, timeout_s),
        )
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
        step = self._begin(plan, all_read_only(feeds), timeout_s, report)
        return own_all(step.result())

    def start(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None = None,
        report: StepReport | None = None,
    ) -> Step:
        """See `Master.start`; `feeds` may be kept, so nobody else may write to them."""
        return self._begin(plan, feeds, timeout_s, report)

    def _begin(
        self,
        plan: int,
        feeds: Sequence[Array],
        timeout_s: float | None,
        report: StepReport | None,
    ) -> Step:
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
        if report is not None and report.partition_graphs:
            with self._lock:
                report.metadata.partition_graphs.extend(partition_graphs(self._graph, planned))
        step = Step(
            self._tasks,
            self._runtime,
            planned,
            plan,
            next(self._step_numbers),
            feeds,
            timeout_s,
            report,
            self._running,
            shows_task=self._shows_task,
        )
        step.begin()
        return step

    def devices(self) -> list[service_pb2.Task]:
        """See `Master.devices`."""
        return [task.describe() for task in self._tasks.values()]

    def variables(self) -> list[service_pb2.VariableInfo]:
        """See `Master.variables`."""
        listed = self._on_all(self._everywhere(), lambda task, _: task.variables())
        return [variable for variables in listed for variable in variables]

    def save(
        self, request: checkpoint_service_pb2.SaveRequest, timeout_s: float | None = None
    ) -> checkpoint_service_pb2.SaveResponse:
        """See `Master.save`."""
        return self._save(request, Watcher(), self._operation(timeout_s))

    def begin_save(
        self, request: checkpoint_service_pb2.SaveRequest, timeout_s: float | None = None
    ) -> BackgroundSave:
        """See `Master.begin_save`."""
        operation = self._operation(timeout_s)
        save = BackgroundSave(
            self._runtime,
            lambda watcher: self._save(request, watcher, operation),
            on_taken=operation.drop_deadline,
        )
        save.wait_until_taken()
        return save

    def _save(
        self,
        request: checkpoint_service_pb2.SaveRequest,
        watcher: Watcher,
        operation: Operation,
    ) -> checkpoint_service_pb2.SaveResponse:
        return coordinator.save(
            operation.tasks,
            request,
            self._placement,
            self._parallel,
            self._holding(operation),
            watcher,
        )

    def restore(
        self, request: checkpoint_service_pb2.RestoreRequest, timeout_s: float | None = None
    ) -> None:
        """See `Master.restore`."""
        operation = self._operation(timeout_s)
        coordinator.restore(
            operation.tasks,
            request,
            self._placement,
            self._parallel,
            self._holding(operation),
        )

    def _operation(self, timeout_s: float | None) -> Operation:
        return Operation(self._tasks, self._runtime, timeout_s)

    def _holding(self, operation: Operation) -> coordinator.Hold:
        return lambda: consistent_cut(operation.tasks, self._parallel, self._runtime)

    def read_checkpoint_state(
        self, request: checkpoint_service_pb2.ReadStateRequest, timeout_s: float | None = None
    ) -> checkpoint_service_pb2.ReadStateResponse:
        """See `Master.read_checkpoint_state`."""
        tasks = self._operation(timeout_s).tasks
        return coordinator.read_state(tasks, request, self._parallel)

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
