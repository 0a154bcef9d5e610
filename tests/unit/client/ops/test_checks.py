"""An assertion that can be decided while the graph is built is decided then."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


CHECKS = [
    (ps.assert_equal, ([1, 2], [1, 2]), ([1, 2], [1, 3])),
    (ps.assert_none_equal, ([1, 2], [2, 3]), ([1, 2], [1, 3])),
    (ps.assert_less, ([1, 2], [2, 3]), ([1, 2], [2, 2])),
    (ps.assert_less_equal, ([1, 2], 2), ([1, 3], 2)),
    (ps.assert_greater, ([2, 3], 1), ([2, 1], 1)),
    (ps.assert_greater_equal, ([2, 1], 1), ([2, 0], 1)),
    (ps.assert_negative, ([-1.0],), ([0.0],)),
    (ps.assert_positive, ([1.0],), ([0.0],)),
    (ps.assert_non_negative, ([0.0],), ([-1.0],)),
    (ps.assert_non_positive, ([0.0],), ([1.0],)),
]


@pytest.mark.parametrize(("check", "good", "bad"), CHECKS)
def test_what_is_known_is_checked_at_once(session, check, good, bad):
    assert check(*good).type == "NoOp"
    with pytest.raises(ps.errors.InvalidArgumentError, match=r"the reason\. Condition x"):
        check(*bad, message="the reason")


@pytest.mark.parametrize(("check", "good", "bad"), CHECKS)
def test_what_is_fed_is_checked_when_it_runs(session, check, good, bad):
    dtype = ps.convert_to_tensor(good[0]).dtype
    x = ps.placeholder(dtype, name="x")
    op = check(x, *good[1:], message="the reason")
    assert op.type == "Assert"
    session.run(op, {x: good[0]})
    values = [ps.placeholder(dtype)] if len(bad) > 1 else []
    op = check(x, *values, message="the reason")
    with pytest.raises(ps.errors.InvalidArgumentError, match="the reason"):
        session.run(op, dict(zip([x, *values], bad, strict=True)))


def test_an_assertion_shows_its_data(session):
    op = ps.Assert(ps.constant(False), ["x is", [1, 2, 3, 4]], summarize=2)
    with pytest.raises(ps.errors.InvalidArgumentError, match=r"x is.*\[1 2\.\.\.\]"):
        session.run(op)


def test_a_rank_is_checked_as_soon_as_it_is_known(session):
    assert ps.assert_rank([[1]], 2).type == "NoOp"
    assert ps.assert_rank_at_least([[1]], 1).type == "NoOp"
    with pytest.raises(ValueError, match="must be rank 1, it has rank 2"):
        ps.assert_rank([[1]], 1)
    with pytest.raises(ValueError, match="must be at least rank 3, it has rank 2"):
        ps.assert_rank_at_least([[1]], 3)
    x = ps.placeholder(ps.int32)
    op = ps.assert_rank(x, 1)
    session.run(op, {x: [1]})
    with pytest.raises(ps.errors.InvalidArgumentError, match="must be rank"):
        session.run(op, {x: 1})


def test_a_type_is_checked_while_the_graph_is_built(session):
    assert ps.assert_type(1.0, ps.float32).type == "NoOp"
    assert ps.assert_integer(1).type == "NoOp"
    with pytest.raises(TypeError, match="must be of type int32"):
        ps.assert_type(1.0, ps.int32)
    with pytest.raises(TypeError, match="integer type"):
        ps.assert_integer(1.0)


def test_a_check_guards_what_depends_on_it(session):
    x = ps.placeholder(ps.float32)
    with ps.control_dependencies([ps.assert_positive(x)]):
        y = ps.log(x)
    assert session.run(y, {x: 1.0}) == 0
    with pytest.raises(ps.errors.InvalidArgumentError, match="Condition x > y"):
        session.run(y, {x: np.float32(-1.0)})


def test_a_scalar_is_asserted_while_the_graph_is_built():
    x = ps.constant(1.0)
    assert ps.assert_scalar(x) is x
    unknown = ps.placeholder(ps.float32)
    assert ps.assert_scalar(unknown) is unknown
    with pytest.raises(ValueError, match=r"Mine\. Expected scalar shape, saw shape \(2,\)"):
        ps.assert_scalar([1.0, 2.0], message="Mine")


def test_numbers_are_told_from_other_tensors():
    numbers = [ps.constant(1), ps.constant(1.0), ps.constant(1j)]
    assert all(ps.is_numeric_tensor(number) for number in numbers)
    others = [ps.constant("a"), ps.constant(True), 1.0]
    assert not any(ps.is_numeric_tensor(other) for other in others)
