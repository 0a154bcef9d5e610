"""Partial runs: a step in several calls, in which nothing runs twice."""

import pytest

import paramserve as ps


@pytest.fixture
def x():
    return ps.placeholder(ps.float32, [], name="x")


@pytest.fixture
def y():
    return ps.placeholder(ps.float32, [], name="y")


def test_feeds_and_fetches_come_bit_by_bit(sess, x, y):
    doubled = x * 2.0
    total = doubled + y
    handle = sess.partial_run_setup([doubled, total], [x, y])
    assert sess.partial_run(handle, doubled, {x: 1.0}) == 2.0
    assert sess.partial_run(handle, [total], {y: 3.0}) == [5.0]


def test_what_an_earlier_call_computed_is_not_computed_again(sess, x):
    counter = ps.Variable(0.0, name="counter")
    sess.run(counter.initializer)
    with ps.control_dependencies([counter.assign_add(1.0).op]):
        first = ps.identity(ps.random_uniform([]), name="first")
    second = first + x
    handle = sess.partial_run_setup([first, second], [x])
    value = sess.partial_run(handle, first)
    assert sess.partial_run(handle, second, {x: 1.0}) == pytest.approx(value + 1.0)
    assert sess.run(counter) == 1.0


def test_tensors_that_cross_the_border_are_kept_without_being_fetched(sess, x, y):
    counter = ps.Variable(0.0, name="counter")
    sess.run(counter.initializer)
    added = counter.assign_add(x)
    both = ps.identity(added) * 10.0
    first, second = both + 0.0, both + y
    handle = sess.partial_run_setup([first, second], [x, y])
    assert sess.partial_run(handle, first, {x: 2.0}) == 20.0
    assert sess.partial_run(handle, second, {y: 1.0}) == 21.0
    assert sess.run(counter) == 2.0


def test_what_a_control_dependency_waited_for_has_run_once(sess, x):
    counter = ps.Variable(0.0, name="counter")
    sess.run(counter.initializer)
    added = counter.assign_add(1.0)
    with ps.control_dependencies([added]):
        after = x + 1.0
    handle = sess.partial_run_setup([added, after], [x])
    assert sess.partial_run(handle, added) == 1.0
    assert sess.partial_run(handle, after, {x: 1.0}) == 2.0
    assert sess.run(counter) == 1.0


def test_an_update_that_would_have_to_run_again_is_refused(sess, x):
    counter = ps.Variable(0.0, name="counter")
    sess.run(counter.initializer)
    group = ps.group(counter.assign_add(1.0))
    with ps.control_dependencies([group]):
        after = x + 1.0
    handle = sess.partial_run_setup([group, after], [x])
    assert sess.partial_run(handle, group) is None
    with pytest.raises(ps.errors.UnimplementedError, match="would have to run once more"):
        sess.partial_run(handle, after, {x: 1.0})
    assert sess.run(counter) == 1.0


def test_values_belong_to_the_caller(sess):
    a = ps.placeholder(ps.float32, [2], name="a")
    doubled = a * 2.0
    more = doubled + 1.0
    handle = sess.partial_run_setup([doubled, more, a], [a])
    found = sess.partial_run(handle, doubled, {a: [1.0, 2.0]})
    found += 100
    assert sess.partial_run(handle, more).tolist() == [3.0, 5.0]
    assert sess.partial_run(handle, a).tolist() == [1.0, 2.0]


def test_several_partial_runs_do_not_meet(sess, x, y):
    total = x + y
    handles = [sess.partial_run_setup([x, total], [x, y]) for _ in range(2)]
    assert handles[0] != handles[1]
    for number, handle in enumerate(handles):
        assert sess.partial_run(handle, x, {x: number}) == number
    for number, handle in enumerate(handles):
        assert sess.partial_run(handle, total, {y: 10.0}) == number + 10.0


def test_what_was_not_announced_or_came_before_is_refused(sess, x, y):
    total = x + y
    handle = sess.partial_run_setup([total], [x, y])
    refusals = [
        (x, {}, "The fetch x:0 was not named in partial_run_setup"),
        (total, {total: 1.0}, "The feed add:0 was not named"),
    ]
    for fetch, feeds, text in refusals:
        with pytest.raises(ps.errors.InvalidArgumentError, match=text):
            sess.partial_run(handle, fetch, feeds)
    assert sess.partial_run(handle, total, {x: 1.0, y: 2.0}) == 3.0
    with pytest.raises(ps.errors.InvalidArgumentError, match="The feed x:0 has already been fed"):
        sess.partial_run(handle, [], {x: 1.0})
    with pytest.raises(ps.errors.InvalidArgumentError, match="add:0 has already been fetched"):
        sess.partial_run(handle, total)
    with pytest.raises(ps.errors.InvalidArgumentError, match="no partial run 'other'"):
        sess.partial_run("other", total)


def test_a_call_that_fails_can_be_made_again(sess, x, y):
    total = x + y
    handle = sess.partial_run_setup([total], [x, y])
    with pytest.raises(ps.errors.InvalidArgumentError, match="feed a value for placeholder"):
        sess.partial_run(handle, total, {x: 1.0})
    assert sess.partial_run(handle, total, {x: 1.0, y: 2.0}) == 3.0
