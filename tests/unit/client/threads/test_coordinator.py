"""`Coordinator` and `LooperThread`: threads that end together."""

import re
import sys
import threading

import pytest

import paramserve as ps


@pytest.fixture
def coord():
    return ps.train.Coordinator()


def started(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def fail(coord, error):
    with coord.stop_on_exception():
        raise error


def test_nobody_is_asked_to_stop_at_first(coord):
    assert not coord.should_stop()
    assert not coord.wait_for_stop(0)
    assert not coord.joined


def test_a_request_stops_every_thread(coord):
    threads = [started(coord.wait_for_stop) for _ in range(3)]
    coord.request_stop()
    coord.join(threads)
    assert coord.should_stop()
    assert coord.joined
    assert not any(thread.is_alive() for thread in threads)


def test_join_raises_what_a_thread_failed_with(coord):
    error = ValueError("no more")
    threads = [started(fail, coord, error), started(coord.wait_for_stop)]
    with pytest.raises(ValueError, match="no more") as found:
        coord.join(threads)
    assert found.value is error
    assert coord.joined


def test_the_first_failure_counts_and_later_ones_are_logged(coord, caplog):
    coord.request_stop(ValueError("first"))
    coord.request_stop(TypeError("second"))
    with pytest.raises(ValueError, match="first"):
        coord.join()
    assert "after the stop was asked for" in caplog.text


def test_a_stop_without_a_reason_makes_later_failures_late(coord):
    coord.request_stop()
    coord.request_stop(ValueError("late"))
    coord.join()


def test_the_end_of_an_input_is_no_failure(coord):
    coord.request_stop(ps.errors.OutOfRangeError(None, None, "Reached limit of 3"))
    assert coord.should_stop()
    coord.join()


def test_what_a_clean_stop_is_can_be_said():
    coord = ps.train.Coordinator(clean_stop_exception_types=(KeyError,))
    coord.request_stop(KeyError("done"))
    coord.join()
    coord.clear_stop()
    coord.request_stop(ps.errors.OutOfRangeError(None, None, "Reached limit of 3"))
    with pytest.raises(ps.errors.OutOfRangeError):
        coord.join()


def test_exception_info_keeps_its_traceback(coord):
    def fails():
        raise ValueError("x")

    try:
        fails()
    except ValueError:
        coord.request_stop(sys.exc_info())
    with pytest.raises(ValueError, match="x") as found:
        coord.join()
    assert any(entry.name == "fails" for entry in found.traceback)


@pytest.mark.parametrize("ex", ["text", (ValueError, None, None), (1, 2)])
def test_a_reason_that_is_no_exception_is_refused(coord, ex):
    with pytest.raises(TypeError, match=re.escape(f"not {ex!r}")):
        coord.request_stop(ex)
    assert not coord.should_stop()


def test_a_thread_that_does_not_stop_is_named(coord):
    release = threading.Event()
    thread = started(release.wait)
    thread.name = "stubborn"
    coord.request_stop()
    with pytest.raises(RuntimeError, match=r"threads still running: stubborn \(1 of 1, 0 s after"):
        coord.join([thread], stop_grace_period_secs=0)
    assert coord.joined
    coord.join([thread], stop_grace_period_secs=0, ignore_live_threads=True)
    release.set()


def test_a_failure_goes_before_threads_that_do_not_stop(coord):
    release = threading.Event()
    thread = started(release.wait)
    coord.request_stop(ValueError("the reason"))
    with pytest.raises(ValueError, match="the reason"):
        coord.join([thread], stop_grace_period_secs=0)
    release.set()


def test_registered_threads_are_joined_once(coord):
    thread = started(coord.wait_for_stop)
    coord.register_thread(thread)
    coord.request_stop()
    coord.join()
    assert not thread.is_alive()


def test_a_failure_after_the_join_is_raised_where_it_happens(coord):
    coord.join()
    with pytest.raises(ValueError, match="late"):
        coord.request_stop(ValueError("late"))


def test_a_cleared_coordinator_is_as_new(coord):
    coord.request_stop(ValueError("x"))
    with pytest.raises(ValueError, match="x"):
        coord.join()
    coord.clear_stop()
    assert not coord.should_stop()
    assert not coord.joined
    coord.raise_requested_exception()
    coord.join()


def test_threads_that_end_by_themselves_need_no_request(coord):
    coord.join([started(lambda: None)])
    assert not coord.should_stop()


def test_a_looper_calls_its_function_until_it_is_stopped(coord):
    calls = []

    def target(limit, name):
        calls.append(name)
        if len(calls) == limit:
            coord.request_stop()

    looper = ps.train.LooperThread.loop(coord, None, target, args=(3,), kwargs={"name": "n"})
    coord.join()
    assert calls == ["n"] * 3
    assert not looper.is_alive()


def test_a_looper_with_an_interval_calls_at_once_and_then_waits(coord):
    called = threading.Event()
    looper = ps.train.LooperThread.loop(coord, 3600, called.set)
    assert called.wait(10)
    coord.request_stop()
    coord.join([looper])
    assert not looper.is_alive()


def test_a_looper_that_fails_stops_the_others(coord):
    def fails():
        raise ZeroDivisionError("x")

    others = started(coord.wait_for_stop)
    ps.train.LooperThread.loop(coord, None, fails)
    with pytest.raises(ZeroDivisionError):
        coord.join([others])


def test_a_subclass_of_a_looper_has_a_beginning_and_an_end(coord):
    done = []

    class Three(ps.train.LooperThread):
        def start_loop(self):
            done.append("start")

        def run_loop(self):
            done.append("loop")
            if len(done) == 4:
                coord.request_stop()

        def stop_loop(self):
            done.append("stop")

    Three(coord, None).start()
    coord.join()
    assert done == ["start", "loop", "loop", "loop", "stop"]


def test_a_looper_refuses_what_makes_no_sense(coord):
    with pytest.raises(ValueError, match="coord must be a Coordinator, got 3"):
        ps.train.LooperThread(3, None)
    with pytest.raises(ValueError, match="args and kwargs are for a target"):
        ps.train.LooperThread(coord, None, args=(1,))
