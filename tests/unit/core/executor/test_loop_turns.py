"""When loops pause, by a clock of the test's."""

import pytest

from loop_graphs import LoopBuilder
from paramserve_core.executor.loop_turns import (
    LATELY_S,
    LONE_STRETCH_S,
    SHORTEST_S,
    STRETCH_S,
    LoopTurns,
)
from paramserve_core.executor.program import Program
from paramserve_core.executor.step import StepContext
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.random_streams import RandomStreams


class Clock:
    """Each look at it is 10 microseconds after the one before."""

    def __init__(self):
        self.time_s = 0.0
        self.pauses = 0

    def now(self):
        self.time_s += 1e-5
        return self.time_s

    def sleep(self, seconds):
        self.time_s += seconds
        self.pauses += 1


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def turns(clock):
    return LoopTurns(clock.now, clock.sleep)


def pauses_of(turns, clock, iterations, stretches=1):
    """Pauses of one of so many stretches in so many iterations, of which each takes 10 us."""
    entered = [turns.stretch() for _ in range(stretches)]
    for stretch in entered:
        stretch.__enter__()
    before = clock.pauses
    for _ in range(iterations):
        entered[0].give_way()
    for stretch in entered:
        stretch.__exit__(None, None, None)
    return clock.pauses - before


def test_a_loop_that_is_short_does_not_pause(turns, clock):
    assert pauses_of(turns, clock, int(STRETCH_S / 1e-5) - 3) == 0


def test_a_loop_that_lasts_pauses_seldom_where_nobody_asks_and_often_where_somebody_does(
    turns, clock
):
    alone = pauses_of(turns, clock, 10_000)
    assert alone == pytest.approx(0.1 / LONE_STRETCH_S, rel=0.1)
    turns.others_ask()
    lately = pauses_of(turns, clock, int(LATELY_S / 1e-5) // 2)
    assert lately == pytest.approx(0.05 / STRETCH_S, rel=0.15)
    clock.time_s += LATELY_S
    assert pauses_of(turns, clock, 10_000) == alone


def test_many_loops_together_keep_others_waiting_no_longer_than_one(turns, clock):
    alone = pauses_of(turns, clock, 10_000)
    assert pauses_of(turns, clock, 10_000, stretches=8) == pytest.approx(8 * alone, rel=0.15)
    assert turns.stretch_s() == LONE_STRETCH_S  # All have left.


def test_however_many_there_are_each_gets_something_done(turns):
    for _ in range(10_000):
        turns.stretch().__enter__()
    assert turns.stretch_s() == SHORTEST_S


def test_a_program_gives_way_once_in_an_iteration(turns, clock):
    program = Program(LoopBuilder(500.0).whole().graph.node, returned=["exit:0"])
    step = StepContext(VariableStore(), RandomStreams())
    assert program.run(step, [], {}) == [500]
    assert clock.time_s == 0.0
    turns.others_ask()
    with turns.stretch() as step.stretch:
        assert program.run(step, [], {}) == [500]
    assert clock.pauses == pytest.approx(500 * 1e-5 / STRETCH_S, abs=1)
