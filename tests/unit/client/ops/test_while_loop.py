"""A loop runs its body as long as its condition holds, whatever its ops are made of."""

from collections import namedtuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


def below(limit):
    return lambda i, *_: i < limit


# What it computes.


def test_the_loop_variables_come_back_as_they_were_when_the_condition_failed(session):
    n = ps.placeholder(ps.int32, [])
    loop = ps.while_loop(below(n), lambda i, total: [i + 1, total + i], [0, 0])
    assert session.run(loop, {n: 5}) == [5, 10]
    assert session.run(loop, {n: 0}) == [0, 0]


@given(n=st.integers(0, 20), start=st.integers(-5, 5), steps=st.integers(1, 3))
@settings(deadline=None, max_examples=25)
def test_a_loop_computes_what_python_s_loop_does(n, start, steps):
    with ps.Graph().as_default(), ps.Session() as session:
        i, product, odd = session.run(
            ps.while_loop(
                lambda i, product, odd: i < n,
                lambda i, product, odd: (
                    i + steps,
                    product * 3 % 1000,
                    ps.cond(ps.equal(i % 2, 1), lambda: odd + 1, lambda: odd),
                ),
                (start, 1, 0),
            )
        )
    expected = (start, 1, 0)
    while expected[0] < n:
        expected = (
            expected[0] + steps,
            expected[1] * 3 % 1000,
            expected[2] + expected[0] % 2,
        )
    assert (i, product, odd) == expected


def test_one_loop_variable_comes_back_alone_unless_the_structure_is_wanted(session):
    assert session.run(ps.while_loop(below(3), lambda i: i + 1, [0])) == 3
    assert session.run(ps.while_loop(below(3), lambda i: [i + 1], (0,))) == 3
    whole = ps.while_loop(below(3), lambda i: [i + 1], [0], return_same_structure=True)
    assert session.run(whole) == [3]


def test_one_loop_variable_that_is_a_structure_stays_one(session):
    found = ps.while_loop(lambda d: d["a"] < 3, lambda d: [{"a": d["a"] + 1}], [{"a": 0}])
    assert session.run(found) == {"a": 3}
    assert session.run(ps.while_loop(lambda d: d[0] < 3, lambda d: [[d[0] + 1]], [[0]])) == [3]


def test_structures_come_back_as_they_are(session):
    Pair = namedtuple("Pair", "left right")
    first = [0, Pair(1, {"b": 2, "a": (3,)})]

    def body(i, pair):
        right = {"a": (pair.right["a"][0] * 2,), "b": pair.right["b"] + pair.left}
        return [i + 1, Pair(pair.left + 10, right)]

    found = session.run(ps.while_loop(below(2), body, first))
    assert found == [2, Pair(21, {"b": 14, "a": (12,)})]


def test_rows_may_be_a_loop_variable(session):
    rows = ps.IndexedSlices(
        ps.constant([[1.0]]), ps.constant([0], ps.int64), ps.constant([4, 1], ps.int64)
    )

    def body(i, rows):
        values = ps.concat([rows.values, rows.values[-1:] * 2.0], 0)
        indices = ps.concat([rows.indices, rows.indices[-1:] + 1], 0)
        return [i + 1, ps.IndexedSlices(values, indices, rows.dense_shape)]

    _, grown = ps.while_loop(
        below(3), body, [0, rows], shape_invariants=[ps.TensorShape([]), ps.TensorShape([None, 1])]
    )
    assert grown.values.shape.as_list() == [None, 1]
    found = session.run(grown)
    assert found.values.tolist() == [[1], [2], [4], [8]]
    assert found.indices.tolist() == [0, 1, 2, 3]


def test_loops_nest_and_use_what_is_outside_of_both(session):
    n = ps.placeholder(ps.int32, [])

    def outer(i, total):
        _, inner = ps.while_loop(below(i), lambda j, t: [j + 1, t + j * i + n], [0, total])
        return [i + 1, inner]

    loop = ps.while_loop(below(n), outer, [0, 0])
    expected = sum(j * i + 5 for i in range(5) for j in range(i))
    assert session.run(loop, {n: 5}) == [5, expected]


def test_a_loop_in_a_branch_runs_where_that_is_taken(session):
    pred = ps.placeholder(ps.bool, [])
    runs = ps.Variable(0)

    def body(i):
        with ps.control_dependencies([ps.assign_add(runs, 1)]):
            return i + 1

    result = ps.cond(pred, lambda: ps.while_loop(below(4), body, [0]), lambda: ps.constant(-1))
    session.run(runs.initializer)
    assert session.run(result, {pred: False}) == -1
    assert session.run(runs) == 0
    assert session.run(result, {pred: True}) == 4
    assert session.run(runs) == 4


def test_a_loop_ends_after_its_most_iterations(session):
    limit = ps.placeholder(ps.int32, [])
    loop = ps.while_loop(lambda i: True, lambda i: i + 2, [0], maximum_iterations=limit)
    assert session.run(loop, {limit: 7}) == 14
    assert session.run(loop, {limit: 0}) == 0


def test_random_numbers_are_drawn_in_every_iteration(session):
    loop = ps.while_loop(
        lambda i, drawn: i < 3,
        lambda i, drawn: [i + 1, ps.concat([drawn, ps.random_uniform([1])], 0)],
        [0, ps.zeros([0])],
        shape_invariants=[[], [None]],
    )
    drawn = session.run(loop)[1]
    assert len(set(drawn.tolist())) == 3


# Order and variables.


def test_an_update_happens_once_in_every_iteration_and_no_more(session):
    v = ps.Variable(0)

    def body(i):
        with ps.control_dependencies([ps.assign_add(v, 1)]):
            return i + 1

    loop = ps.while_loop(below(5), body, [0])
    session.run(v.initializer)
    session.run(loop)
    assert session.run(v) == 5


def test_a_value_read_outside_stays_and_one_read_inside_is_new(session):
    v = ps.Variable(1.0)

    def body(i, before, now):
        with ps.control_dependencies([ps.assign_add(v, 1.0)]):
            return [i + 1, before + v, now + v.read_value()]

    loop = ps.while_loop(below(3), body, [0, 0.0, 0.0])
    session.run(v.initializer)
    assert session.run(loop) == [3, 3, 2 + 3 + 4]


def test_a_variable_made_in_the_body_is_one_and_initialised_outside(session):
    def body(i, total):
        w = ps.get_variable("w", [], initializer=ps.constant_initializer(3.0))
        return [i + 1, total + w]

    loop = ps.while_loop(below(2), body, [0, 0.0])
    (w,) = ps.global_variables()
    session.run(w.initializer)
    assert session.run(loop) == [2, 6]


def test_an_initial_value_computed_in_a_loop_is_refused(session):
    def body(i):
        ps.Variable(i, name="late")
        return i + 1

    with pytest.raises(ValueError, match=r"late: the initial value .* or a loop.* a callable"):
        ps.while_loop(below(2), body, [0])


def test_a_loop_waits_for_what_the_blocks_around_it_wait_for(session):
    v = ps.Variable(0)
    session.run(v.initializer)
    with ps.control_dependencies([ps.assign(v, 7)]):
        loop = ps.while_loop(below(3), lambda i: i + v.read_value(), [0])
    assert session.run(loop) == 7


@pytest.mark.parametrize("in_branch", [False, True])
def test_an_op_in_a_loop_may_wait_for_one_outside_even_one_without_outputs(session, in_branch):
    v, w = ps.Variable(0), ps.Variable(0)
    session.run([v.initializer, w.initializer])
    before = [ps.group(ps.assign(v, 7)), ps.assign(w, 8)]

    def waiting(i):
        with ps.control_dependencies(before):
            return i + v.read_value() + w.read_value()

    def body(i):
        return ps.cond(i > 0, lambda: waiting(i), lambda: i + 1) if in_branch else waiting(i)

    assert session.run(ps.while_loop(below(3), body, [0])) == 15 + in_branch


def test_the_loop_s_ops_can_be_neither_fetched_nor_fed(session):
    inside = []

    def body(i):
        inside.append(i + 1)
        return inside[0]

    loop = ps.while_loop(below(3), body, [0])
    with pytest.raises(ValueError, match="fetch"):
        session.run(inside[0])
    with pytest.raises(ValueError, match="fed"):
        session.run(loop, {inside[0]: 1})


def test_an_assertion_in_a_loop_ends_the_step(session):
    def body(i):
        with ps.control_dependencies([ps.Assert(i < 2, ["too far:", i])]):
            return i + 1

    with pytest.raises(ps.errors.InvalidArgumentError, match=r"\[too far:\] \[2\]"):
        session.run(ps.while_loop(below(5), body, [0]))


def test_a_loop_that_fails_to_build_leaves_a_graph_that_runs(session):
    with pytest.raises(RuntimeError, match="of the body's own"):
        ps.while_loop(
            below(3), lambda i: (_ for _ in ()).throw(RuntimeError("of the body's own")), [0]
        )
    x = ps.constant(2.0)
    assert session.run(x + 1.0) == 3
    assert ps.get_default_graph().current_control_flow is None


# Shapes.


def test_a_shape_that_holds_in_every_iteration_is_known_outside(session):
    loop = ps.while_loop(below(2), lambda i, a: [i + 1, a * 2.0], [0, ps.ones([2, 3])])
    assert loop[1].shape.as_list() == [2, 3]


def test_a_shape_that_changes_is_refused_with_what_to_do(session):
    grow = lambda i, a: [i + 1, ps.concat([a, a], 0)]  # noqa: E731
    with pytest.raises(
        ValueError, match=r"enters the loop with shape \(2,\), but has shape \(4,\)"
    ):
        ps.while_loop(below(2), grow, [0, ps.ones([2])])
    loop = ps.while_loop(below(2), grow, [0, ps.ones([2])], [ps.TensorShape([]), [None]])
    assert loop[1].shape.as_list() == [None]
    assert session.run(loop[1]).shape == (8,)


def test_an_invariant_that_the_first_value_does_not_have_is_refused(session):
    with pytest.raises(ValueError, match=r"shape invariant specified for .* is \(3,\)"):
        ps.while_loop(below(2), lambda i, a: [i, a], [0, ps.ones([2])], [[], [3]])


def test_invariants_of_another_structure_are_refused(session):
    with pytest.raises(ValueError, match="must have the structure of 'loop_vars'"):
        ps.while_loop(below(2), lambda i, a: [i, a], [0, ps.ones([2])], [[]])


# Wrong use.


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((1, lambda i: i, [0]), TypeError, "'cond' must be callable"),
        ((lambda i: i < 1, 1, [0]), TypeError, "'body' must be callable"),
        ((lambda i: i < 1, lambda i: i, []), ValueError, "'loop_vars' must be provided"),
        ((lambda i: i < 1, lambda i: i, [0], None, 0), TypeError, "must be positive"),
        ((lambda i: i < 1, lambda i: i, [0], None, 2.5), TypeError, "must be an integer"),
        ((lambda i: i, lambda i: i, [0]), TypeError, "'cond' must answer a boolean scalar"),
        ((lambda i: [i < 1] * 2, lambda i: i, [0]), TypeError, "boolean scalar"),
        ((lambda i: i < 1, lambda i: [i, i], [0]), ValueError, "in their structure"),
        ((lambda i: i < 1, lambda i: {"a": i}, [0]), ValueError, "in their structure"),
        ((lambda i: i < 1, lambda i: None, [0]), ValueError, "in their structure"),
        ((lambda i: i < 1, lambda i: ps.constant(1.0), [0]), TypeError, "Tensor of int32.*float32"),
    ],
)
def test_wrong_use_says_what_is_wrong(session, arguments, error, text):
    with pytest.raises(error, match=text):
        ps.while_loop(*arguments)


def test_a_number_for_a_loop_variable_gets_its_type(session):
    loop = ps.while_loop(lambda a: a < 1.0, lambda a: 2, [0.5])
    assert session.run(loop) == np.float32(2)


def test_more_iterations_than_a_number_can_say_are_refused(session):
    with pytest.raises(ValueError, match="'maximum_iterations' must be a scalar"):
        ps.while_loop(below(1), lambda i: i, [0], maximum_iterations=[1, 2])
