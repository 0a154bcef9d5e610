"""Functions that change variables take a Variable or its reference."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


@pytest.fixture(params=["variable", "reference"])
def table(request, session):
    v = ps.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))
    session.run(v.initializer)
    return v if request.param == "variable" else v.ref()


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (lambda v: ps.assign(v, np.ones((3, 2))), [[1, 1], [1, 1], [1, 1]]),
        (lambda v: ps.assign_add(v, np.ones((3, 2))), [[1, 2], [3, 4], [5, 6]]),
        (lambda v: ps.assign_sub(v, np.ones((3, 2))), [[-1, 0], [1, 2], [3, 4]]),
        (lambda v: ps.scatter_update(v, [2, 0], [[7, 7], [8, 8]]), [[8, 8], [2, 3], [7, 7]]),
        (lambda v: ps.scatter_add(v, [1, 1], [[1, 0], [2, 0]]), [[0, 1], [5, 3], [4, 5]]),
        (lambda v: ps.scatter_sub(v, [1], [[1, 1]]), [[0, 1], [1, 2], [4, 5]]),
        (lambda v: ps.scatter_mul(v, [2, 2], [[2, 3], [2, 1]]), [[0, 1], [2, 3], [16, 15]]),
        (lambda v: ps.scatter_max(v, [0, 0], [[1, 0], [3, 0]]), [[3, 1], [2, 3], [4, 5]]),
        (lambda v: ps.scatter_min(v, [1, 2], 2.0), [[0, 1], [2, 2], [2, 2]]),
        (lambda v: ps.scatter_div(v, [2], [[2, 5]]), [[0, 1], [2, 3], [2, 1]]),
    ],
)
def test_an_update_answers_the_value_after_it(session, table, update, expected):
    assert session.run(update(table)).tolist() == expected
    assert session.run(table).tolist() == expected


def test_an_index_out_of_range_leaves_the_variable_as_it_was(session, table):
    update = ps.scatter_add(table, [0, 3], [[1, 1], [1, 1]])
    with pytest.raises(ps.errors.InvalidArgumentError, match="3"):
        session.run(update)
    assert session.run(table).tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_counter_stops_at_its_limit(session):
    v = ps.Variable(0)
    session.run(v.initializer)
    step = ps.count_up_to(v, 2)
    assert [session.run(step), session.run(step)] == [0, 1]
    with pytest.raises(ps.errors.OutOfRangeError, match="Reached limit of 2"):
        session.run(step)
    assert session.run(v) == 2


def test_whether_a_variable_has_a_value_can_be_asked(session):
    v = ps.Variable(0)
    asked = ps.is_variable_initialized(v)
    assert not session.run(asked)
    session.run(v.initializer)
    assert session.run(asked)


def test_another_shape_is_assigned_only_without_validation(session, table):
    with pytest.raises(ValueError, match="shape"):
        ps.assign(table, [1.0])
    changed = ps.assign(table, [1.0], validate_shape=False)
    assert session.run(changed).tolist() == [1.0]


def test_what_is_no_variable_is_refused(session):
    for update in (ps.assign, ps.assign_add):
        with pytest.raises(TypeError, match="mutable"):
            update(ps.constant(1.0), 2.0)
