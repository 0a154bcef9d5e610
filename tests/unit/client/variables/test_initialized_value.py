"""`initialized_value`: initialising variables from each other in one step."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.graph import Graph
from paramserve._framework.importer import import_graph_def
from paramserve._ops import array, control
from paramserve._ops.conditional import cond
from paramserve._ops.random import random_normal, random_uniform
from paramserve._session.session import Session
from paramserve._variables.initialization import (
    global_variables_initializer,
    variables_initializer,
)
from paramserve._variables.variable import Variable
from paramserve_core import dtypes


def test_it_is_the_initial_value_before_and_the_value_after(session):
    v = Variable(1.0)
    now = v.initialized_value()
    assert session.run(now) == 1.0
    session.run(v.initializer)
    session.run(v.assign(7.0))
    assert session.run(now) == 7.0


def test_looking_at_it_initialises_nothing(session):
    v, w = Variable(1.0), Variable(2.0)
    copy = Variable(v.initialized_value() + w.initialized_value())
    session.run(copy.initializer)
    assert session.run(copy) == 3.0
    asked = [apply_op("IsVariableInitialized", ref=x) for x in (v, w, copy)]
    assert session.run(asked) == [False, False, True]


def test_random_values_are_those_that_the_initializer_stores(session):
    w = Variable(random_normal([100]))
    same, twice = Variable(w.initialized_value()), Variable(w.initialized_value() * 2.0)
    session.run(global_variables_initializer())
    first, second, third = session.run([w, same, twice])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first * 2, third)
    assert first.std() > 0.5


@pytest.mark.parametrize("order", [lambda c: c, lambda c: c[::-1], lambda c: c[1::2] + c[::2]])
def test_a_chain_initialises_in_one_step_in_any_order(session, order):
    chain = [Variable(random_uniform([3]))]
    for _ in range(20):
        chain.append(Variable(chain[-1].initialized_value() + 1.0))
    session.run(variables_initializer(order(chain)))
    values = session.run(chain)
    for depth, value in enumerate(values):
        np.testing.assert_allclose(value, values[0] + depth, rtol=1e-5)


@pytest.mark.slow
def test_a_chain_may_be_longer_than_python_recurses(session):
    v = first = Variable(1.0)
    for _ in range(1100):
        v = Variable(v.initialized_value() + 1.0)
    session.run([first.initializer, v.initializer])
    assert session.run([first, v]) == [1.0, 1101.0]


def test_there_is_one_per_variable_and_it_is_beside_the_variable(graph):
    with scopes.device("/job:ps/task:1"):
        v = Variable(random_normal([2]), name="w")
    other = apply_op("NoOp")
    with scopes.device("/job:worker"), scopes.control_dependencies([other]):
        value = v.initialized_value()
    assert v.initialized_value() is value
    added = [op for op in graph.get_operations() if op.name.startswith("w/initialized_value/")]
    assert [op.type for op in added] == ["IsVariableInitialized", "RefSwitch", "Switch", "Merge"]
    for op in added:
        assert op.device == "/job:ps/task:1"
        assert op.colocation_groups() == [b"loc:@w"]
        assert op.control_inputs == []
    assert value.shape.as_list() == [2]
    assert value.dtype is dtypes.float32


def test_made_in_a_branch_it_is_good_outside_of_it(session):
    v = Variable(3.0)
    yes, no = array.constant(True), array.constant(0.0)
    in_branch = cond(yes, lambda: v.initialized_value() + 1.0, lambda: no)
    outside = v.initialized_value()
    assert session.run([in_branch, outside]) == [4.0, 3.0]


def test_it_works_for_every_type_that_a_variable_may_have(session):
    for value in (True, 3, np.int64(4), 2.0, 1j, "text", np.float16(2)):
        v = Variable(value)
        assert session.run(v.initialized_value()) == session.run(v.initial_value)


def test_without_a_known_shape_it_takes_the_shape_at_run_time(session):
    x = array.placeholder(dtypes.float32)
    v = Variable(x, validate_shape=False)
    w = Variable(v.initialized_value(), validate_shape=False)
    session.run(control.group(v.initializer, w.initializer), {x: [1.0, 2.0]})
    assert session.run(w).tolist() == [1, 2]


@st.composite
def plans(draw):
    """Variables, what each takes its initial value from, where it is, and an order to start in."""
    count = draw(st.integers(2, 7))
    sources = [
        draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else []
        for i in range(count)
    ]
    places = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    first = draw(st.sets(st.integers(0, count - 1)))
    order = draw(st.permutations(range(count)))
    return sources, places, first, order


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(plan=plans())
def test_variables_on_several_tasks_initialise_from_each_other_in_one_step(new_cluster, plan):
    sources, places, first, order = plan
    with Graph().as_default() as graph, new_cluster(graph) as cluster:
        variables, own = [], []
        for i, (taken, place) in enumerate(zip(sources, places, strict=True)):
            own.append(random_uniform([2]))
            value = own[i]
            for source in taken:
                value = value + variables[source].initialized_value()
            with graph.device(f"/job:ps/task:{place}"):
                variables.append(Variable(value, name=f"v{i}"))
        # Some have a value already, as after a restore of a part of them.
        for i in first:
            cluster.run([variables[i].assign(array.fill([2], float(i)))])
        missing = [variables[i] for i in order if i not in first]
        drawn = cluster.run([variables_initializer(missing), *own])
        found = cluster.run(variables)
    for i, taken in enumerate(sources):
        expected = float(i) if i in first else sum((found[source] for source in taken), drawn[i])
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, err_msg=f"v{i}")


def test_a_graph_without_its_variable_object_still_initialises(graph):
    w = Variable(random_normal([3]), name="w")
    Variable(w.initialized_value(), name="w2")
    global_variables_initializer()
    message = graph.as_graph_def()
    with Graph().as_default():
        import_graph_def(message, name="")
        with Session() as session:
            session.run("init")
            first, second = session.run(["w:0", "w2:0"])
    np.testing.assert_array_equal(first, second)
