"""A running step: the stages of a plan, driven by the thread that waits for the result.

Stages on other tasks go out as soon as what they need is there and report to the step's mailbox;
stages on the task in this process run on the waiting thread itself, so a step of one local stage is
a function call.

A step that fails is over everywhere when its error is raised: the other tasks are told, and what
still runs there is waited for, a few seconds at most.

Thread rule: a `Step` belongs to the thread that calls `result`, but for `cancel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from numpy.typing import NDArray

from paramserve_core.errors import CancelledError, DeadlineExceededError, OpError
from paramserve_core.executor.variable import read_only
from paramserve_core.master.outstanding import Outcome
from paramserve_core.master.results import let_go
from paramserve_core.master.tasks import LocalTask, RemoteTask, as_outcome
from paramserve_core.master.tracing import StepReport, StepTracer
from paramserve_core.plan.planner import FEEDS, Plan, PlannedStage, Source
from paramserve_core.runtime import Runtime
from paramserve_core.task.session import StageRun

Array = NDArray[Any]

_SETTLE_S: Final = 5.0
"""How long a failed step waits for the stages that still run elsewhere."""


class Step:
    """One run of a plan; a `RunningStep`.

    Args:
        tasks: the tasks of the session, by name.
        runtime: time and threads.
        plan: what is run.
        plan_number: what the tasks know it by.
        number: what they know this run by.
        feeds: one array per feed of the plan; nobody writes to them.
        timeout_s: when to end it, in seconds from `result` on.
        report: is filled when the step has ended well.
        running: holds the step while it runs, so that its session can cancel it.
        shows_task: name the task in errors of stages that run in this process.
    """

    def __init__(
        self,
        tasks: Mapping[str, LocalTask | RemoteTask],
        runtime: Runtime,
        plan: Plan,
        plan_number: int,
        number: int,
        feeds: Sequence[Array],
        timeout_s: float | None,
        report: StepReport | None,
        running: set[Step],
        *,
        shows_task: bool,
    ) -> None:
        self._tasks = tasks
        self._runtime = runtime
        self._plan = plan
        self._plan_number = plan_number
        self._number = number
        self._feeds = feeds
        self._timeout_s = timeout_s
        self._report = report
        self._running = running
        self._shows_task = shows_task
        alone = tasks[plan.stages[0].task] if len(plan.stages) == 1 else None
        self._is_alone_elsewhere = isinstance(alone, RemoteTask)
        self._box = alone.link.mailbox() if isinstance(alone, RemoteTask) else runtime.mailbox()
        self._cancels: dict[int, Callable[[], None]] = {}
        self._is_cancelled = False
        self._is_late = False
        self._deadline: float | None = None
        self._alone: StageRun | None = None
        self._alone_inputs: list[Array] = []
        self._tracer = StepTracer(plan, runtime.now) if report and report.stats else None

    def begin(self) -> None:
        """Begins the stage of a step that is one stage in this process.

        Raises:
            CancelledError: the session was closed.
        """
        stages = self._plan.stages
        if len(stages) == 1:
            task = self._tasks[stages[0].task]
            if isinstance(task, LocalTask):
                self._alone = task.begin(self._plan_number, self._number, stages[0].number)
                self._alone_inputs = self._inputs(stages[0], {})

    @property
    def may_last(self) -> bool:
        """See `RunningStep.may_last`."""
        return self._plan.has_loops

    def try_brief(self) -> bool:
        """See `RunningStep.try_brief`."""
        if self._alone is None or self._timeout_s is not None:
            return False
        return self._alone.try_brief(self._alone_inputs)

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
        self._running.add(self)
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
            self._running.discard(self)
        if self._tracer is not None and self._report is not None:
            self._tracer.fill(self._report.metadata)
        if self._plan.is_direct:
            values = list(answers[0])
        else:
            values = [self._value(source, answers) for source in self._plan.fetches]
        for tensors in answers.values():
            let_go(tensors)
        return values

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
            outcome = self._run_here(self._alone, 0, self._alone_inputs)
            if outcome.error is not None:
                raise outcome.error
            return {0: outcome.tensors}
        if len(stages) == 1:
            task = self._tasks[stages[0].task]
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
                    task = self._tasks[stages[number].task]
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
            task = self._tasks[self._plan.stages[number].task]
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
            deadline=self._deadline,
            is_traced=tracer is not None,
            is_awaited=self._is_alone_elsewhere,
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
        name = self._plan.stages[number].task if self._shows_task else ""
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
            self._tasks[name].end_steps([self._number])
        deadline = self._runtime.now() + _SETTLE_S
        while settle and outstanding:
            try:
                report = self._box.get(max(0.0, deadline - self._runtime.now()))
            except TimeoutError:
                return
            if report is None:
                return
            outstanding.pop(report[0], None)
