"""What the operators of tensors refuse, and how they name what they add."""

import numpy as np
import pytest

import paramserve as ps


@pytest.fixture
def x():
    with ps.Graph().as_default():
        yield ps.constant(np.zeros((2, 3), np.float32), name="x")


@pytest.mark.parametrize(
    ("operation", "name"),
    [
        (lambda x: x + 1, "add"),
        (lambda x: 1 - x, "sub"),
        (lambda x: x * x, "mul"),
        (lambda x: x / 2, "truediv"),
        (lambda x: x // 2, "floordiv"),
        (lambda x: x % 2, "mod"),
        (lambda x: x**2, "pow"),
        (lambda x: -x, "Neg"),
        (lambda x: abs(x), "Abs"),
        (lambda x: x < 1, "Less"),
        (lambda x: x[0], "strided_slice"),
    ],
)
def test_an_operator_names_its_op_as_tensorflow_does(x, operation, name):
    assert operation(x).op.name == name


def test_equality_is_identity(x):
    same, other = x, ps.identity(x)
    assert (x == same) is True
    assert (x == other) is False
    assert len({x, same, other}) == 2


def test_a_plain_value_takes_the_type_of_the_tensor(x):
    for dtype in (ps.float16, ps.int64, ps.float64, ps.complex64):
        assert (ps.zeros([2], dtype) + 1).dtype is dtype


def test_a_fraction_does_not_become_an_integer(x):
    with pytest.raises(TypeError, match="int32"):
        ps.constant(1) + 0.5


def test_tensors_of_two_types_do_not_mix(x):
    with pytest.raises(TypeError, match="float32"):
        x + ps.constant(1)
    with pytest.raises(TypeError, match="same dtype"):
        ps.constant(1) / x


@pytest.mark.parametrize(
    "item", [1.5, "a", [0, 1], np.array([0, 1]), (0, True), (slice(None), 0.5), slice(0, 1.5)]
)
def test_brackets_refuse_what_is_no_index(x, item):
    with pytest.raises(TypeError, match="between brackets there may be integers"):
        x[item]


def test_brackets_refuse_a_float_tensor(x):
    with pytest.raises(TypeError, match="between brackets there may be integers"):
        x[ps.constant(1.0)]


def test_brackets_refuse_two_ellipses(x):
    with pytest.raises(ValueError, match="Multiple ellipses"):
        x[..., 0, ...]


def test_an_index_out_of_range_is_refused_while_the_graph_is_built(x):
    with pytest.raises(ValueError, match="out of bounds"):
        x[2]
    with pytest.raises(ValueError, match="3"):
        x[0, 0, 0]


def test_iterating_gives_rows(x):
    rows = list(x)
    assert [row.shape.as_list() for row in rows] == [[3], [3]]


def test_numpy_leaves_arithmetic_to_the_tensor(x):
    result = np.ones((2, 3), np.float32) * x
    assert isinstance(result, ps.Tensor)
    assert result.op.type == "Mul"
