"""A call runs once, however often it arrives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserve_core.errors import ResourceExhaustedError
from paramserve_core.task.calls import CallTable, Verdict
from paramserve_core.task.messages import reply_message


def test_a_call_is_new_once_then_running_then_answered():
    table = CallTable(10)
    assert table.begin(1, 1) is Verdict.NEW
    assert table.begin(1, 1) is Verdict.RUNNING
    answer = reply_message(1, None)
    table.finish(1, answer)
    assert table.begin(1, 1) is Verdict.ANSWERED
    assert table.answer_of(1) is answer


def test_what_the_client_completed_is_forgotten_and_a_late_copy_dropped():
    table = CallTable(10)
    for number in (1, 2, 3):
        table.begin(number, 1)
        table.finish(number, reply_message(number, None))
    assert table.begin(4, 3) is Verdict.NEW
    assert table.begin(2, 1) is Verdict.OUTDATED
    assert table.answer_of(2) is None
    assert table.answer_of(3) is not None


def test_a_cancelled_call_that_runs_is_cancelled_once_it_can_be():
    table = CallTable(10)
    cancelled = []
    table.begin(1, 1)
    assert table.cancel(1) is Verdict.RUNNING
    table.running(1, lambda: cancelled.append(1))
    assert cancelled == [1]


def test_a_call_whose_cancellation_came_first_does_not_run():
    table = CallTable(10)
    assert table.cancel(1) is Verdict.CANCELLED
    assert table.begin(1, 1) is Verdict.CANCELLED
    table.finish(1, reply_message(1, None))
    assert table.begin(1, 1) is Verdict.ANSWERED


def test_an_answer_that_was_acknowledged_is_dropped_and_not_that_it_was_given():
    table = CallTable(10)
    table.begin(1, 1)
    table.finish(1, reply_message(1, None, [object()]))
    table.acknowledge([1, 99])
    assert table.answer_of(1) is None
    assert table.begin(1, 1) is Verdict.OUTDATED
    assert table.cancel(1) is Verdict.OUTDATED


def test_any_number_of_acknowledged_calls_may_overtake_one_that_runs():
    table = CallTable(4)
    table.begin(1, 1)
    for number in range(2, 100):
        assert table.begin(number, 1) is Verdict.NEW
        table.finish(number, reply_message(number, None))
        table.acknowledge([number])
    assert {table.begin(number, 1) for number in range(2, 100)} == {Verdict.OUTDATED}
    assert table.begin(1, 1) is Verdict.RUNNING


@given(st.permutations(range(2, 12)), st.integers(0, 12))
def test_calls_may_be_acknowledged_in_any_order(numbers, completed_below):
    table = CallTable(20)
    for number in range(1, 12):
        table.begin(number, 1)
        table.finish(number, reply_message(number, None))
    for count, number in enumerate(numbers, 1):
        table.acknowledge([number])
        done = {n for n in range(1, 12) if table.begin(n, 1) is Verdict.OUTDATED}
        assert done == set(numbers[:count])
    assert table.begin(12, completed_below) is Verdict.NEW
    assert table.begin(1, 0) is (Verdict.OUTDATED if completed_below > 1 else Verdict.ANSWERED)
    assert all(table.begin(n, 0) is Verdict.OUTDATED for n in range(2, 12))


def test_acknowledgements_with_gaps_count_as_calls():
    table = CallTable(8)
    for number in (1, 3, 5, 7):
        for begun in (number, number + 1):
            table.begin(begun, 1)
        table.finish(number, reply_message(number, None))
        table.acknowledge([number])
    with pytest.raises(ResourceExhaustedError, match="limit is 8"):
        table.begin(9, 1)


def test_unfinished_and_unacknowledged_calls_have_a_limit():
    table = CallTable(2)
    table.begin(1, 1)
    table.begin(2, 1)
    with pytest.raises(ResourceExhaustedError, match="limit is 2"):
        table.begin(3, 1)
    table.finish(1, reply_message(1, None))
    assert table.begin(3, 2) is Verdict.NEW
