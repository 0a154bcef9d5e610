"""Changing slices of variables: `v[...].assign`, and index vectors."""

import numpy as np
import pytest

import paramserve as ps
from paramserve_core.errors import InvalidArgumentError


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


@pytest.fixture
def table(session):
    v = ps.Variable(np.zeros((3, 4), np.float32), name="table")
    session.run(v.initializer)
    return v


def placeholder(value):
    """A tensor whose value and shape are known only when it is run."""
    return ps.placeholder_with_default(value, None)


# By brackets.

BRACKETS = {
    "a row": np.s_[1],
    "an element": np.s_[2, 3],
    "steps backwards": np.s_[::-2, 1:3],
    "a new dimension": np.s_[:, None, 0],
    "an ellipsis": np.s_[..., -1],
    "everything": np.s_[:],
    "nothing": np.s_[3:],
}


@pytest.mark.parametrize("brackets", BRACKETS.values(), ids=BRACKETS)
def test_what_is_between_the_brackets_is_assigned_to(session, table, brackets):
    expected = np.zeros((3, 4), np.float32)
    value = np.arange(1.0, expected[brackets].size + 1).reshape(expected[brackets].shape)
    expected[brackets] = value
    assert session.run(table[brackets].assign(value)).tolist() == expected.tolist()
    assert session.run(table).tolist() == expected.tolist()


def test_a_slice_that_is_assigned_to_has_a_variable(session, table):
    for tensor in (table.value(), ps.constant([1.0])[0], ps.identity(table) + 1.0):
        assert not hasattr(tensor, "assign")
    with pytest.raises(AttributeError, match="'sum:0' is no slice of a variable"):
        ps.add(table, 1.0, name="sum").assign(1.0)


def test_the_index_may_be_a_tensor_and_the_slice_in_a_branch_or_a_loop(session, table):
    def body(i):
        with ps.control_dependencies([table[i, i].assign(ps.cast(i + 1, ps.float32))]):
            return i + 1

    loop = ps.while_loop(lambda i: i < 3, body, [0])
    branch = ps.cond(
        ps.constant(True), lambda: table[0].assign([7.0] * 4), lambda: table[1].assign([8.0] * 4)
    )
    session.run(loop)
    assert np.diag(session.run(table)).tolist() == [1.0, 2.0, 3.0]
    session.run(branch)
    assert session.run(table)[:2].tolist() == [[7.0] * 4, [0.0, 2.0, 0.0, 0.0]]


def test_a_value_of_another_shape_changes_nothing(session, table):
    with pytest.raises(ValueError, match="shape"):
        table[0].assign([1.0, 2.0])
    with pytest.raises(InvalidArgumentError, match=r"table: a value of shape \[2\].*\[4\]"):
        session.run(table[0].assign(placeholder(np.ones(2, np.float32))))
    with pytest.raises(InvalidArgumentError, match="out of bounds"):
        session.run(table[placeholder(3)].assign(np.ones(4)))
    assert not session.run(table).any()


# By index vectors.


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (lambda v: ps.scatter_nd_update(v, [[0, 1], [2, 3]], [5.0, 6.0]), {(0, 1): 5, (2, 3): 6}),
        (lambda v: ps.scatter_nd_update(v, [[1]], [[1.0, 2.0, 3.0, 4.0]]), {1: [1, 2, 3, 4]}),
        (lambda v: ps.scatter_nd_add(v, [[0, 1], [0, 1]], [5.0, 6.0]), {(0, 1): 11}),
        (lambda v: ps.scatter_nd_sub(v, [[[0, 1]], [[0, 2]]], [[5.0], [6.0]]), {0: [0, -5, -6, 0]}),
        (lambda v: ps.scatter_nd_add(v, np.zeros((2, 0), np.int32), np.ones((2, 3, 4))), {...: 2}),
        (lambda v: ps.scatter_nd_add(v, np.zeros((0, 2), np.int32), []), {}),
    ],
)
def test_index_vectors_name_elements_or_slices(session, table, update, expected):
    wanted = np.zeros((3, 4))
    for place, value in expected.items():
        wanted[place] = value
    assert session.run(update(table)).tolist() == wanted.tolist()


def test_an_index_vector_that_is_outside_changes_nothing(session, table):
    for bad in ([3, 0], [0, -1]):
        with pytest.raises(InvalidArgumentError, match=r"indices\[1\] = .* does not index into"):
            session.run(ps.scatter_nd_update(table, [[0, 0], bad], [1.0, 1.0]))
    with pytest.raises(ValueError, match="vectors of length 3 for a variable of rank 2"):
        ps.scatter_nd_update(table, [[0, 0, 0]], [1.0])
    with pytest.raises(InvalidArgumentError, match="innermost dimension"):
        session.run(ps.scatter_nd_update(table, placeholder([[0, 0, 0]]), [1.0]))
    with pytest.raises(ValueError, match="shape"):
        ps.scatter_nd_add(table, [[0]], [1.0])
    with pytest.raises(InvalidArgumentError, match=r"table: updates of shape \[1\]"):
        session.run(ps.scatter_nd_add(table, placeholder([[0]]), placeholder(np.float32([1]))))
    assert not session.run(table).any()
