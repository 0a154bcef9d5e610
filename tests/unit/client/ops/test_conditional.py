"""Of a conditional only the branch taken runs, whatever its ops are made of."""

from collections import namedtuple

import pytest

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


@pytest.fixture
def pred(session):
    return ps.placeholder(ps.bool, [])


def both(session, fetch, pred):
    return session.run(fetch, {pred: True}), session.run(fetch, {pred: False})


def test_an_update_in_the_branch_that_is_not_taken_does_not_happen(session, pred):
    v = ps.Variable(0)
    result = ps.cond(pred, lambda: ps.assign_add(v, 10), lambda: ps.assign_add(v, 1))
    session.run(v.initializer)
    assert session.run(result, {pred: True}) == 10
    assert session.run(result, {pred: False}) == 11
    assert session.run(v) == 11


def test_branches_of_constants_give_the_one_taken(session, pred):
    result = ps.cond(pred, lambda: ps.constant(1), lambda: ps.constant(2))
    assert both(session, result, pred) == (1, 2)


def test_branches_of_plain_values_give_the_one_taken(session, pred):
    assert both(session, ps.cond(pred, lambda: 1.5, lambda: 2.5), pred) == (1.5, 2.5)


def test_branches_of_tensors_from_outside_give_the_one_taken(session, pred):
    a, b = ps.constant([1]), ps.constant([2, 3])
    result = ps.cond(pred, lambda: a, lambda: b)
    yes, no = both(session, result, pred)
    assert (yes.tolist(), no.tolist()) == ([1], [2, 3])
    assert result.shape.as_list() == [None]


def test_random_numbers_are_drawn_in_the_branch_taken_only(session, pred):
    drawn = ps.cond(pred, lambda: ps.random_uniform([], seed=1), lambda: ps.constant(0.0))
    with ps.Session() as other:
        first = other.run(drawn, {pred: True})
    for _ in range(3):
        assert session.run(drawn, {pred: False}) == 0
    assert session.run(drawn, {pred: True}) == first


def test_a_failing_op_in_the_branch_that_is_not_taken_does_not_fail(session, pred):
    def fail():
        with ps.control_dependencies([ps.Assert(ps.constant(False), ["never"])]):
            return ps.constant(1)

    result = ps.cond(pred, fail, lambda: ps.constant(2))
    assert session.run(result, {pred: False}) == 2
    with pytest.raises(ps.errors.InvalidArgumentError, match="never"):
        session.run(result, {pred: True})


def test_a_variable_without_a_value_may_be_read_in_the_other_branch(session, pred):
    v = ps.Variable(5)
    result = ps.cond(pred, lambda: ps.identity(v.ref()), lambda: ps.constant(2))
    assert session.run(result, {pred: False}) == 2
    with pytest.raises(ps.errors.FailedPreconditionError):
        session.run(result, {pred: True})


def test_conditionals_nest(session, pred):
    x = ps.placeholder(ps.int32, [])

    def inner():
        return ps.cond(x > 0, lambda: x * 2 + 1, lambda: ps.constant(-1))

    result = ps.cond(pred, inner, lambda: ps.cond(x > 0, lambda: ps.constant(7), lambda: x))
    found = {
        (p, value): session.run(result, {pred: p, x: value})
        for p in (True, False)
        for value in (3, -4)
    }
    assert found == {(True, 3): 7, (True, -4): -1, (False, 3): 7, (False, -4): -4}


def test_a_branch_may_use_what_another_conditional_gave(session, pred):
    first = ps.cond(pred, lambda: ps.constant(1), lambda: ps.constant(2))
    second = ps.cond(ps.logical_not(pred), lambda: first * 10, lambda: first + 5)
    assert both(session, second, pred) == (6, 20)


def test_a_structure_comes_back_as_it_is(session, pred):
    Pair = namedtuple("Pair", "left right")
    result = ps.cond(
        pred,
        lambda: {"b": (1, [2.0]), "a": Pair(3, 4)},
        lambda: {"b": (5, [6.0]), "a": Pair(7, 8)},
    )
    yes, no = both(session, result, pred)
    assert yes == {"b": (1, [2.0]), "a": Pair(3, 4)}
    assert no == {"b": (5, [6.0]), "a": Pair(7, 8)}


def test_a_list_of_one_is_that_one_unless_strict(session, pred):
    assert isinstance(ps.cond(pred, lambda: [1], lambda: [2]), ps.Tensor)
    assert isinstance(ps.cond(pred, lambda: [1], lambda: [2], strict=True), list)


def test_operations_may_be_branches(session, pred):
    v = ps.Variable(0)
    other = ps.Variable(0)
    update = ps.cond(
        pred,
        lambda: ps.group(ps.assign_add(v, 1), ps.assign_add(other, 1)),
        lambda: ps.no_op(),
    )
    session.run(ps.global_variables_initializer())
    session.run(update, {pred: True})
    session.run(update, {pred: False})
    assert session.run([v, other]) == [1, 1]


def test_slices_may_be_branches(session, pred):
    def rows(value, index):
        return lambda: ps.IndexedSlices(ps.constant([[value]]), ps.constant([index]))

    result = ps.cond(pred, rows(1.0, 4), rows(2.0, 5))
    yes, no = both(session, result, pred)
    assert (yes.values.tolist(), yes.indices.tolist()) == ([[1.0]], [4])
    assert (no.values.tolist(), no.indices.tolist()) == ([[2.0]], [5])


def test_a_variable_made_in_a_branch_is_initialised_outside_of_it(session, pred):
    made = []

    def make():
        made.append(ps.Variable(3, name="inside"))
        return made[0] + 1

    result = ps.cond(pred, make, lambda: ps.constant(0))
    session.run(made[0].initializer)
    assert both(session, result, pred) == (4, 0)


def test_what_is_within_a_branch_cannot_be_fetched(session, pred):
    inside = []

    def branch():
        inside.append(ps.constant(1) + 1)
        return inside[0]

    ps.cond(pred, branch, lambda: ps.constant(2))
    assert not session.graph.is_fetchable(inside[0])
    with pytest.raises(ValueError, match="fetch"):
        session.run(inside[0], {pred: True})


def test_a_conditional_is_named_as_tensorflows(session, pred):
    x = ps.constant(1, name="x")
    ps.cond(pred, lambda: x + 1, lambda: x)
    names = [op.name for op in session.graph.get_operations()]
    for name in ("cond/Switch", "cond/switch_t", "cond/switch_f", "cond/pred_id", "cond/Merge"):
        assert name in names
    assert "cond/add/Switch" in names


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda p: ps.cond(True, lambda: 1, lambda: 2),
            TypeError,
            "pred must not be a Python bool",
        ),
        (lambda p: ps.cond(p, 1, lambda: 2), TypeError, "true_fn must be callable"),
        (lambda p: ps.cond(p, lambda: None, lambda: 2), ValueError, "true_fn must return"),
        (lambda p: ps.cond(p, lambda: 1, lambda: (1, 2)), ValueError, "same number of values"),
        (lambda p: ps.cond(p, lambda: 1, lambda: 2.0), TypeError, "must have the same type"),
        (lambda p: ps.cond(ps.constant(1), lambda: 1, lambda: 2), ValueError, "bool"),
    ],
)
def test_bad_conditionals_are_refused(pred, call, error, text):
    with pytest.raises(error, match=text):
        call(pred)


def test_the_first_true_case_is_taken(session):
    x = ps.placeholder(ps.int32, [])
    result = ps.case(
        [(x > 10, lambda: ps.constant("large")), (x > 5, lambda: ps.constant("some"))],
        default=lambda: ps.constant("few"),
    )
    assert [session.run(result, {x: n}) for n in (11, 6, 1)] == [b"large", b"some", b"few"]


def test_no_true_case_without_default_fails(session):
    x = ps.placeholder(ps.int32, [])
    result = ps.case({x > 10: lambda: ps.constant(1), x < 5: lambda: ps.constant(2)})
    assert [session.run(result, {x: n}) for n in (11, 1)] == [1, 2]
    with pytest.raises(ps.errors.InvalidArgumentError, match="None of the conditions"):
        session.run(result, {x: 7})


def test_one_case_without_default_is_that_or_fails(session, pred):
    result = ps.case([(pred, lambda: ps.constant(1))])
    assert session.run(result, {pred: True}) == 1
    with pytest.raises(ps.errors.InvalidArgumentError, match="None of the conditions"):
        session.run(result, {pred: False})


def test_two_true_cases_fail_where_one_is_wanted(session):
    x = ps.placeholder(ps.int32, [])
    result = ps.case(
        [(x > 10, lambda: ps.constant(1)), (x > 5, lambda: ps.constant(2))],
        default=lambda: ps.constant(3),
        exclusive=True,
    )
    assert [session.run(result, {x: n}) for n in (6, 1)] == [2, 3]
    with pytest.raises(ps.errors.InvalidArgumentError, match="More than one condition"):
        session.run(result, {x: 11})


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        (5, TypeError),
        ([], ValueError),
        ([lambda: 1], TypeError),
        ([(True, lambda: 1)], TypeError),
        ([("pred", lambda: 1)], TypeError),
    ],
)
def test_bad_cases_are_refused(session, pairs, error):
    with pytest.raises(error):
        ps.case(pairs, default=lambda: ps.constant(1))


def test_indices_of_two_types_meet_in_the_wider_one():
    values = ps.constant([1.0])
    narrow, wide = ps.constant([0]), ps.constant([3], ps.int64)
    pred = ps.placeholder(ps.bool, [])
    chosen = ps.cond(
        pred, lambda: ps.IndexedSlices(values, narrow), lambda: ps.IndexedSlices(values, wide)
    )
    assert chosen.indices.dtype is ps.int64
    with ps.Session() as session:
        assert [session.run(chosen.indices, {pred: p}).tolist() for p in (True, False)] == [
            [0],
            [3],
        ]
