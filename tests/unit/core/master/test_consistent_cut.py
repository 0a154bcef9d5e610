"""Which steps a checkpoint over several tasks waits for."""

from paramserve_core.master.cut import consistent_cut
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task import gate as gates
from paramserve_core.task.gate import StepGate
from paramserve_protos.v1 import service_pb2

RUNTIME = ThreadRuntime()


class GatedTask:
    """A task that has nothing but its gate, and the steps that it was asked to let through."""

    def __init__(self) -> None:
        self.gate = StepGate(RUNTIME)
        self.let: list[tuple[str, int]] = []

    def call(self, request):
        if isinstance(request, service_pb2.LetStepsRequest):
            self.let += [(step.session, step.step) for step in request.steps]
        return self.gate.handle(request), []

    def do(self, session: str, step: int) -> None:
        """Its part of a step over two tasks."""
        self.gate.enter((session, step), 2, lambda: None)
        self.gate.leave((session, step), 2, is_done=True)


def cut(*tasks: GatedTask) -> None:
    named = {str(i): task for i, task in enumerate(tasks)}
    with consistent_cut(named, lambda thunks: [thunk() for thunk in thunks], RUNTIME):
        pass


def test_steps_that_one_task_forgot_hold_up_no_checkpoint(monkeypatch):
    monkeypatch.setattr(gates, "_REMEMBERED", 10)
    first, second = GatedTask(), GatedTask()
    for step in range(20):
        for session in ("a", "b"):
            first.do(session, step)
            second.do(session, step)
    for step in range(20, 25):  # Of another pair of tasks: so more is forgotten here.
        second.do("c", step)
        second.do("c", step)
    cut(first, second)
    assert first.let == second.let == []


def test_step_that_is_half_done_is_let_through_however_many_were_before(monkeypatch):
    monkeypatch.setattr(gates, "_REMEMBERED", 10)
    first, second = GatedTask(), GatedTask()
    for step in range(50):
        first.do("a", step)
        second.do("a", step)
    first.do("a", 50)
    original = second.call

    def call(request):
        answer = original(request)
        if isinstance(request, service_pb2.LetStepsRequest) and len(second.let) == 1:
            second.do("a", 50)  # Its turn comes: the gate lets it in, or this would not return.
        return answer

    second.call = call
    cut(first, second)
    assert set(first.let) == set(second.let) == {("a", 50)}
