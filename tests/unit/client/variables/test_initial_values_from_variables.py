"""Initial values that are computed from other variables, without saying `initialized_value`."""

import numpy as np
import pytest

import paramserve as ps


def test_a_value_computed_from_variables_initialises_in_any_order(session):
    w = ps.Variable(ps.random_normal([3]), name="w")
    double = ps.Variable(w * 2.0, name="double")
    both = ps.Variable(double + w, name="both")
    session.run(ps.initialize_variables([both, double, w]))
    a, b, c = session.run([w, double, both])
    np.testing.assert_array_equal(b, 2 * a)
    np.testing.assert_array_equal(c, b + a)


def test_it_initialises_over_several_tasks(graph, cluster):
    made = []
    with ps.device(ps.train.replica_device_setter(3)):
        made.append(ps.Variable(ps.random_normal([3]), name="v0"))
        for i in range(1, 6):
            made.append(ps.Variable(made[-1] + 1.0, name=f"v{i}"))
        init = ps.initialize_variables(made[::-1])
    cluster.run([init])
    values = cluster.run(made)
    for depth, value in enumerate(values):
        np.testing.assert_allclose(value, values[0] + depth, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda v: v,
        lambda v: v.value(),
        lambda v: v.read_value(),
        lambda v: v.ref(),
        lambda v: ps.identity(v),
        lambda v: lambda: v.value(),
    ],
)
def test_a_copy_of_a_variable_needs_no_op_of_its_own(graph, session, make):
    v = ps.Variable(3.0, name="v")
    value = make(v)
    copy = ps.Variable(value, dtype=ps.float32, name="copy")
    assert copy.initial_value is v.initialized_value()
    session.run([copy.initializer, v.initializer])
    assert session.run(copy) == 3.0


def test_ops_that_depend_on_no_variable_are_not_made_again(graph, session):
    x = ps.placeholder(ps.float32, [], name="x")
    outside = ps.square(x, name="outside")
    v = ps.Variable(3.0, name="v")
    w = ps.Variable(v * outside + ps.random_uniform([]), name="w")
    assert [op.type for op in graph.get_operations()].count("Square") == 1
    assert [op.type for op in graph.get_operations()].count("RandomUniform") == 1
    assert w.initial_value.op.name == "w/Initializer/add"
    session.run([v.initializer, w.initializer], {x: 2.0})
    assert 12 <= session.run(w) < 13


def test_an_op_with_several_outputs_is_made_again_once(graph, session):
    v = ps.Variable([1.0, 2.0], name="v")
    a, b = ps.unstack(v * 1.0)
    w = ps.Variable(a - b, name="w")
    unpacks = [op.name for op in graph.get_operations() if op.type == "Unpack"]
    assert unpacks == ["unstack", "w/Initializer/unstack"]
    session.run([w.initializer, v.initializer])
    assert session.run(w) == -1.0


def test_the_value_of_an_initialised_variable_is_taken(session):
    v = ps.Variable(1.0)
    w = ps.Variable(v + 1.0)
    session.run(v.initializer)
    session.run(v.assign(5.0))
    session.run(w.initializer)
    assert session.run(w) == 6.0


def test_what_is_made_again_stays_on_its_device():
    v = ps.Variable(1.0)
    with ps.device("/job:worker/task:1"):
        value = v * 2.0
    with ps.device("/job:ps"):
        w = ps.Variable(value)
    assert w.initial_value is not value
    assert w.initial_value.device == "/job:worker/task:1"


LEFT_ALONE = {
    "no variable": lambda v: ps.random_normal([2]),
    "initialized already": lambda v: v.initialized_value() * 2.0,
    "an update": lambda v: v.assign_add([1.0, 1.0]),
    "after an update": lambda v: v.assign_add([1.0, 1.0]) + 1.0,
    "an op with state": lambda v: ps.random_shuffle(v),
    "a conditional": lambda v: ps.cond(ps.constant(True), lambda: v + 1.0, lambda: v - 1.0),
    "asking": lambda v: ps.fill([2], ps.to_float(ps.is_variable_initialized(v))),
}


@pytest.mark.parametrize("make", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_anything_else_stays_as_the_program_made_it(make):
    value = make(ps.Variable([1.0, 2.0], name="v"))
    assert ps.Variable(value).initial_value is value


def test_an_explicit_order_is_kept(session):
    v = ps.Variable(1.0)
    with ps.control_dependencies([v.assign(5.0)]):
        value = v.read_value() + 1.0
    w = ps.Variable(value)
    assert w.initial_value is value
    session.run(w.initializer)
    assert session.run(w) == 6.0


def test_a_variable_that_is_in_no_collection_is_read_as_it_is():
    v = ps.Variable(1.0, collections=[], trainable=False)
    value = v * 2.0
    assert ps.Variable(value).initial_value is value
