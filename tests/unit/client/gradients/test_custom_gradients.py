"""`custom_gradient`: a function that says its own derivative."""

import pytest

import paramserve as ps
from paramserve._framework.graph import Graph


@pytest.fixture(autouse=True)
def session():
    with Graph().as_default(), ps.Session() as session:
        yield session


@ps.custom_gradient
def tripled(x):
    return ps.square(x), lambda dy: 3.0 * dy


def test_the_function_says_what_flows_back_each_time_it_is_used(session):
    x = ps.constant(2.0)
    once, twice = tripled(x), tripled(tripled(x))
    assert session.run([once, twice]) == [4.0, 16.0]
    assert session.run(ps.gradients([once], x) + ps.gradients([twice], x)) == [3.0, 9.0]


def test_several_results_and_arguments_each_have_a_gradient(session):
    @ps.custom_gradient
    def swapped(a, b):
        return [a + b, a * b], lambda d_sum, d_product: [d_product, d_sum]

    a, b = ps.constant(2.0), ps.constant(3.0)
    total, product = swapped(a, b)
    assert session.run([total, product]) == [5.0, 6.0]
    assert session.run(ps.gradients([total * 10.0, product], [a, b])) == [1.0, 10.0]
    assert session.run(ps.gradients(swapped(a, a), a)) == [2.0]


def test_nothing_flows_through_the_ops_of_the_function():
    @ps.custom_gradient
    def constant_to_gradients(x):
        return x * 2.0, lambda dy: None

    x = ps.constant(2.0)
    assert ps.gradients(constant_to_gradients(x), x) == [None]


def test_a_gradient_of_the_gradient_goes_through_what_the_function_answers(session):
    @ps.custom_gradient
    def cubed(x):
        return x**3, lambda dy: dy * 3.0 * x * x

    x = ps.constant(2.0)
    (first,) = ps.gradients(cubed(x), x)
    assert session.run(ps.gradients(first, x)) == [12.0]


def test_a_variable_is_an_argument(session):
    v = ps.Variable(2.0)
    (gradient,) = ps.gradients(tripled(v), v)
    session.run(v.initializer)
    assert session.run(gradient) == 3.0

    @ps.custom_gradient
    def hides(x):
        return x * v, lambda dy: dy

    with pytest.raises(ValueError, match=r"hides: uses the variable 'Variable'.*an argument"):
        hides(1.0)


def test_what_is_no_custom_gradient_is_refused():
    with pytest.raises(TypeError, match=r"tripled: .* by position"):
        tripled(x=1.0)
    with pytest.raises(TypeError, match="answers a result and a gradient function"):
        ps.custom_gradient(lambda x: x)(1.0)
    x = ps.constant(1.0)
    y = ps.custom_gradient(lambda x: (x, lambda dy: [dy, dy]))(x)
    with pytest.raises(ValueError, match="answers 2 gradients for 1 arguments"):
        ps.gradients(y, x)
