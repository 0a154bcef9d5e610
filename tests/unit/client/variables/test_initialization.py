"""Initializer ops over many variables, and asking which of them have a value."""

import pytest

from paramserve._framework import scopes
from paramserve._framework.apply import apply_op
from paramserve._framework.collections import GraphKeys
from paramserve._ops.state import is_variable_initialized
from paramserve._variables import collected, initialization
from paramserve._variables.initialization import (
    assert_variables_initialized,
    global_variables_initializer,
    local_variables_initializer,
    report_uninitialized_variables,
    variables_initializer,
)
from paramserve._variables.partitioners import fixed_size_partitioner
from paramserve._variables.variable import Variable
from paramserve._variables.variable_scope import get_variable
from paramserve_core import dtypes
from paramserve_core.errors import FailedPreconditionError


def local(value, name=None):
    return Variable(value, trainable=False, collections=[GraphKeys.LOCAL_VARIABLES], name=name)


# Collected variables.


def test_variables_are_listed_by_what_they_are_for(graph):
    v, w, mine = Variable(0.0, name="v"), Variable(0.0, trainable=False, name="w"), local(0.0)
    graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, w)
    graph.add_to_collection(GraphKeys.MODEL_VARIABLES, v)
    assert collected.global_variables() == collected.all_variables() == [v, w]
    assert collected.trainable_variables() == [v]
    assert collected.local_variables() == [mine]
    assert collected.moving_average_variables() == [w]
    assert collected.model_variables() == [v]


def test_a_scope_selects_variables_by_the_beginning_of_the_name():
    with scopes.name_scope("a"):
        v = Variable(0.0)
    Variable(0.0, name="b")
    assert collected.global_variables("a/") == collected.trainable_variables("a/") == [v]


def test_a_list_is_the_callers_own(graph):
    Variable(0.0)
    collected.global_variables().clear()
    assert len(collected.global_variables()) == 1


# Initializers.


def test_all_variables_are_initialised_by_one_op(session):
    v, w, mine = Variable(1.0), Variable([2.0]), local(3.0)
    init = global_variables_initializer()
    assert init.name == "init"
    assert session.run(init) is None
    assert session.run([v, w]) == [1.0, [2.0]]
    with pytest.raises(FailedPreconditionError):
        session.run(mine)
    session.run(local_variables_initializer())
    assert session.run(mine) == 3.0


def test_the_op_covers_the_variables_that_there_are_when_it_is_made(session):
    Variable(1.0)
    init = global_variables_initializer()
    late = Variable(2.0, name="late")
    session.run(init)
    with pytest.raises(FailedPreconditionError, match="late"):
        session.run(late)


def test_a_list_of_variables_is_initialised_and_no_others(session):
    v, w = Variable(1.0), Variable(2.0)
    session.run(variables_initializer([w], name="only_w"))
    assert session.run([is_variable_initialized(v), is_variable_initialized(w)]) == [False, True]


def test_without_variables_the_op_does_nothing(session):
    assert session.run(variables_initializer([])) is None
    assert session.run(global_variables_initializer()) is None


def test_a_partitioned_variable_is_initialised_in_all_its_parts(session):
    whole = get_variable("w", [5], partitioner=fixed_size_partitioner(2))
    session.run(variables_initializer([whole]))
    assert session.run(report_uninitialized_variables()).tolist() == []


def test_the_older_names_are_the_same_functions():
    assert initialization.initialize_all_variables is global_variables_initializer
    assert initialization.initialize_local_variables is local_variables_initializer
    assert initialization.initialize_variables is variables_initializer


@pytest.mark.parametrize(
    "function",
    [variables_initializer, report_uninitialized_variables, assert_variables_initialized],
)
def test_what_is_no_variable_is_refused(function):
    with pytest.raises(TypeError, match="var_list must be a list of Variables, it has 3"):
        function([Variable(0.0), 3])


# Asking.


def test_the_uninitialised_are_reported_by_the_names_of_their_ops(session):
    v, w, mine = Variable(1.0, name="v"), Variable(2.0, name="w"), local(3.0, name="mine")
    missing = report_uninitialized_variables()
    assert missing.dtype is dtypes.string
    assert session.run(missing).tolist() == [b"v", b"w", b"mine"]
    session.run(w.initializer)
    assert session.run(missing).tolist() == [b"v", b"mine"]
    assert session.run(report_uninitialized_variables([w, v])).tolist() == [b"v"]
    session.run([v.initializer, mine.initializer])
    assert session.run(missing).tolist() == []


def test_without_variables_the_report_is_empty(session):
    found = session.run(report_uninitialized_variables())
    assert found.shape == (0,)
    assert found.dtype == object


def test_the_report_asks_each_variable_where_it_is(graph, cluster):
    variables = []
    for i in range(3):
        with scopes.device(f"/job:ps/task:{i}"):
            variables.append(Variable(float(i), name=f"v{i}"))
    with scopes.device("/job:ps/task:1"):
        missing = report_uninitialized_variables()
    asked = [op for op in graph.get_operations() if op.type == "IsVariableInitialized"]
    assert [op.device for op in asked] == [f"/job:ps/task:{i}" for i in range(3)]
    assert missing.device == ""
    assert cluster.run([missing])[0].tolist() == [b"v0", b"v1", b"v2"]
    cluster.run([variables[1].initializer])
    assert cluster.run([missing])[0].tolist() == [b"v0", b"v2"]


def test_the_report_waits_for_control_dependencies(session):
    v = Variable(1.0, name="v")
    with scopes.control_dependencies([v.initializer]):
        # Only what is made in the block waits, so this asks after the initializer has run.
        missing = report_uninitialized_variables()
    assert session.run(missing).tolist() == []


def test_the_assertion_fails_until_all_have_a_value(session):
    v, w = Variable(1.0, name="v"), local(2.0, name="w")
    ready = assert_variables_initialized()
    with pytest.raises(FailedPreconditionError, match="uninitialized value"):
        session.run(ready)
    session.run(v.initializer)
    with pytest.raises(FailedPreconditionError, match="uninitialized value w"):
        session.run(ready)
    session.run(assert_variables_initialized([v]))
    session.run(w.initializer)
    assert session.run(ready) is None


def test_the_assertion_brings_no_value_to_another_task(graph, cluster):
    with scopes.device("/job:ps/task:2"):
        v = Variable([1.0, 2.0], name="v")
    with scopes.device("/job:worker"):
        ready = assert_variables_initialized()
    reads = [op for op in graph.get_operations() if v.ref() in op.inputs and op.type == "Rank"]
    assert [op.device for op in reads] == ["/job:ps/task:2"]
    with pytest.raises(FailedPreconditionError, match="uninitialized value v"):
        cluster.run([ready])
    cluster.run([v.initializer])
    cluster.run([ready])


def test_without_variables_there_is_nothing_to_assert():
    assert assert_variables_initialized() is None
    assert assert_variables_initialized([]) is None


def test_asking_does_not_read_the_value(session):
    v = Variable(1.0)
    assert not session.run(is_variable_initialized(v))
    assert not session.run(apply_op("IsVariableInitialized", ref=v.ref()))
