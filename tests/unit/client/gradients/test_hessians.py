"""Second derivatives as matrices, and gradients by what nothing depends on."""

import numpy as np
import pytest

import paramserve as ps
from paramserve._framework.graph import Graph


@pytest.fixture(autouse=True)
def session():
    with Graph().as_default(), ps.Session() as session:
        yield session


MATRIX = np.array([[1.0, 2.0], [5.0, 3.0]], np.float32)


@pytest.mark.parametrize("shape", [[2], [None], None])
def test_the_hessian_of_a_quadratic_form_is_its_matrix_and_the_transposed(session, shape):
    x = ps.placeholder(ps.float32, shape)
    y = ps.reduce_sum(ps.expand_dims(x, 1) * MATRIX * ps.expand_dims(x, 0))
    (hessian,) = ps.hessians(y, x)
    assert session.run(hessian, {x: [1.0, -1.0]}).tolist() == (MATRIX + MATRIX.T).tolist()


def test_a_hessian_has_the_shape_twice(session):
    x, z = ps.Variable(np.ones((2, 3), np.float32)), ps.constant(2.0)
    found = ps.hessians([ps.reduce_sum(x * x * z), z**3], [x, z])
    assert [hessian.shape.as_list() for hessian in found] == [[2, 3, 2, 3], []]
    session.run(x.initializer)
    by_x, by_z = session.run(found)
    assert by_x.reshape(6, 6).tolist() == (4 * np.eye(6)).tolist()
    assert by_z == 12.0


def test_a_linear_function_has_a_hessian_of_zeros(session):
    x = ps.constant([1.0, 2.0])
    assert session.run(ps.hessians(x * 2.0, x)[0]).tolist() == np.zeros((2, 2)).tolist()


def test_a_hessian_by_what_nothing_depends_on_is_refused():
    with pytest.raises(ValueError, match="other:0: has no second derivatives"):
        ps.hessians(ps.constant(1.0), ps.constant(1.0, name="other"))


@pytest.mark.parametrize("zero", ["zero", ps.UnconnectedGradients.ZERO])
def test_a_gradient_may_be_zeros_where_nothing_flows(session, zero):
    x, other = ps.constant([1.0, 2.0]), ps.constant([[3.0]])
    found = ps.gradients(x * 3.0, [x, other], unconnected_gradients=zero)
    assert [value.tolist() for value in session.run(found)] == [[3.0, 3.0], [[0.0]]]
    assert ps.gradients(x, other) == ps.gradients(x, other, unconnected_gradients="none") == [None]
    with pytest.raises(ValueError, match="Unknown value for unconnected_gradients: 'nought'"):
        ps.gradients(x, other, unconnected_gradients="nought")
