"""A session that is closed says so to what comes too late."""

import pytest

from paramserve_core.errors import CancelledError, NotFoundError
from paramserve_core.executor.store import VariableStore
from paramserve_core.runtime import ThreadRuntime
from paramserve_core.task.gate import StepGate
from paramserve_core.task.limits import TaskLimits
from paramserve_core.task.session import TaskSession


@pytest.fixture
def session():
    return TaskSession("s", VariableStore(), TaskLimits(), StepGate(ThreadRuntime("test")))


def test_a_stage_that_comes_as_its_session_closes_is_told_so(session):
    session.register_plan(1, [])
    session.close()
    with pytest.raises(CancelledError, match="the session was closed"):
        session.begin(1, step=1, stage=0)


@pytest.mark.parametrize("plan", [1, 2])
def test_a_stage_that_nobody_registered_is_named(session, plan):
    session.register_plan(1, [])
    with pytest.raises(NotFoundError, match=f"stage 0 of plan {plan} is not registered"):
        session.begin(plan, step=1, stage=0)
