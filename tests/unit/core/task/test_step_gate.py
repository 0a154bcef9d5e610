"""How far steps over several tasks have come, as a checkpoint asks."""

from paramserve_core.executor.store import VariableStore
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.session import TaskSession


def test_half_done_step_of_a_session_that_is_gone_holds_up_no_checkpoint():
    gate = StepGate(ThreadRuntime())
    sessions = [TaskSession(name, VariableStore(), TaskLimits(), gate) for name in ("gone", "here")]
    for session in sessions:
        step = (session.name, 1)
        gate.enter(step, 2, lambda: None)
        gate.leave(step, 2, is_done=True)
    sessions[0].close()
    has_ended = {step.session: step.ended for step in gate.hold("hold").steps}
    assert has_ended == {"gone": True, "here": False}
    gate.release("hold")
