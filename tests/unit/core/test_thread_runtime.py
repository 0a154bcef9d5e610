"""Waiting for as long as somebody else says, whatever that is, and calls that are made later."""

import math
import os
import threading

import pytest

from paramserve_core.runtime import ThreadRuntime
from paramserve_core.timers import TimerQueue

WAIT_S = 30.0


@pytest.fixture
def runtime():
    runtime = ThreadRuntime("test")
    yield runtime
    runtime.close()


@pytest.mark.parametrize("delay_s", [1e10, 1e300, math.inf, math.nan])
def test_a_timer_may_be_set_to_a_time_that_never_comes(runtime, delay_s):
    called, passed = [], threading.Event()
    timer = runtime.call_later(delay_s, lambda: called.append("called"))
    runtime.call_later(0.0, passed.set)
    assert passed.wait(WAIT_S)
    timer.cancel()
    assert called == []


def test_timers_are_called_in_the_order_of_their_times_by_one_thread(runtime):
    called, passed = [], threading.Event()

    def call(number):
        called.append((number, threading.get_ident()))

    runtime.call_later(0.03, passed.set)
    runtime.call_later(0.02, lambda: call(2))
    runtime.call_later(0.01, lambda: call(1))
    runtime.call_later(-1.0, lambda: call(0))
    assert passed.wait(WAIT_S)
    numbers, threads = zip(*called, strict=True)
    assert numbers == (0, 1, 2)
    assert len(set(threads)) == 1


def test_a_timer_that_was_taken_back_is_not_called_and_holds_nothing(runtime):
    called, passed = [], threading.Event()

    class Held:
        def __del__(self):
            called.append("freed")

    held = Held()
    timer = runtime.call_later(0.01, lambda held=held: called.append("called"))
    del held
    timer.cancel()
    timer.cancel()
    assert called == ["freed"]
    runtime.call_later(0.02, passed.set)
    assert passed.wait(WAIT_S)
    assert called == ["freed"]


def test_timers_that_are_set_and_taken_back_for_ever_do_not_pile_up():
    queue = TimerQueue()
    kept = [queue.call_later(3600.0, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        queue.call_later(1800.0, lambda: None).cancel()
    assert len(queue) < 200
    assert all(timer.function is not None for timer in kept)


def test_a_timer_whose_call_fails_leaves_the_others(runtime, caplog):
    passed = threading.Event()
    runtime.call_later(0.0, lambda: 1 / 0)
    runtime.call_later(0.01, passed.set)
    assert passed.wait(WAIT_S)
    assert "a timer's call failed" in caplog.text


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_process_that_was_forked_has_timers_of_its_own(runtime):
    here = []
    timer = runtime.call_later(3600.0, lambda: here.append("parent's"))
    pid = os.fork()
    if not pid:
        passed = threading.Event()
        runtime.call_later(0.0, passed.set)
        os._exit(0 if passed.wait(WAIT_S) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    timer.cancel()


@pytest.mark.parametrize("timeout_s", [1e10, math.inf, math.nan])
def test_what_is_there_is_taken_however_long_one_would_wait(runtime, timeout_s):
    mailbox, event = runtime.mailbox(), runtime.event()
    mailbox.put("letter")
    event.set()
    assert mailbox.get(timeout_s) == "letter"
    assert event.wait(timeout_s)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, -math.inf])
def test_what_is_not_there_is_not_waited_for_in_the_past(runtime, timeout_s):
    with pytest.raises(TimeoutError):
        runtime.mailbox().get(timeout_s)
    assert not runtime.event().wait(timeout_s)
