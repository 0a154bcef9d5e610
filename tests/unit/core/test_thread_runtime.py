"""Waiting for as long as somebody else says, whatever that is."""

import math
import threading

import pytest

from paramserve_core.runtime import ThreadRuntime


@pytest.fixture
def runtime():
    runtime = ThreadRuntime("test")
    yield runtime
    runtime.close()


@pytest.mark.parametrize("delay_s", [1e10, 1e300, math.inf, math.nan])
def test_a_timer_may_be_set_to_a_time_that_never_comes(runtime, monkeypatch, delay_s):
    failed = []
    monkeypatch.setattr(threading, "excepthook", failed.append)
    timer = runtime.call_later(delay_s, lambda: failed.append("called"))
    timer.cancel()
    timer.join()
    assert failed == []


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
