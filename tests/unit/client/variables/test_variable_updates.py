"""How a variable is changed."""

import numpy as np
import pytest

from paramserve._framework import scopes
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._ops import array, state
from paramserve._variables.variable import Variable
from paramserve_core import dtypes
from paramserve_core.errors import (
    InvalidArgumentError,
    OutOfRangeError,
)


def test_an_assignment_evaluates_to_the_value_after_it(session):
    v = Variable([1.0, 2.0], name="w")
    session.run(v.initializer)
    assert session.run(v.assign([3.0, 4.0])).tolist() == [3, 4]
    assert session.run(v.assign_add([1.0, 1.0])).tolist() == [4, 5]
    assert session.run(v.assign_sub([2.0, 2.0], use_locking=True)).tolist() == [2, 3]
    assert session.run(v).tolist() == [2, 3]


def test_assignments_chain(session):
    v = Variable(1.0)
    session.run(v.initializer)
    assert session.run(state.assign_add(v.assign(5.0), 2.0)) == 7.0


def test_an_assignment_without_reading_is_an_operation(session):
    v = Variable(1.0, name="w")
    session.run(v.initializer)
    ops = [v.assign(2.0, read_value=False, name="set"), v.assign_add(1.0, read_value=False)]
    ops.append(v.assign_sub(0.5, read_value=False))
    assert [op.type for op in ops] == ["Assign", "AssignAdd", "AssignSub"]
    assert ops[0].name == "set"
    for op in ops:
        assert session.run(op) is None
    assert session.run(v) == 2.5


def test_an_update_is_where_the_variable_is_whatever_device_is_around():
    with scopes.device("/job:ps/task:1"):
        v = Variable([1.0], name="w")
    with scopes.device("/job:worker"):
        updates = [v.assign([2.0]), v.assign_add([2.0]), state.scatter_add(v, [0], [1.0])]
    for update in updates:
        assert update.device == "/job:ps/task:1"
        assert update.op.colocation_groups() == [b"loc:@w"]


def test_values_that_cannot_fit_are_refused_when_the_graph_is_built():
    v = Variable([1.0, 2.0])
    for change in (v.assign, v.assign_add, v.assign_sub):
        with pytest.raises(ValueError, match="3"):
            change([1.0, 2.0, 3.0])
        with pytest.raises(TypeError, match="int32"):
            change(array.constant([1, 2]))


def test_a_shape_that_turns_out_wrong_leaves_the_variable(session):
    v = Variable([1.0, 2.0])
    x = array.placeholder(dtypes.float32)
    session.run(v.initializer)
    for change in (v.assign(x), v.assign_add(x)):
        with pytest.raises(InvalidArgumentError, match="shape"):
            session.run(change, {x: [1.0, 2.0, 3.0]})
    assert session.run(v).tolist() == [1, 2]


def slices(values, indices):
    return IndexedSlices(array.constant(values), array.constant(indices))


def test_scattered_changes_accumulate_over_equal_rows(session):
    v = Variable(np.zeros((3, 2), np.float32))
    session.run(v.initializer)
    rows = slices([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]], [0, 2, 0])
    assert session.run(v.scatter_add(rows)).tolist() == [[5, 5], [0, 0], [2, 2]]
    assert session.run(v.scatter_sub(rows)).tolist() == [[0, 0], [0, 0], [0, 0]]
    single = slices([[7.0, 8.0]], [1])
    assert session.run(v.scatter_update(single)).tolist() == [[0, 0], [7, 8], [0, 0]]


def test_an_index_out_of_range_is_named_and_changes_nothing(session):
    v = Variable(np.zeros((3, 1), np.float32), name="w")
    session.run(v.initializer)
    with pytest.raises(InvalidArgumentError, match=r"7.*\[0, 3\)"):
        session.run(v.scatter_add(slices([[1.0], [1.0]], [0, 7])))
    assert session.run(v).tolist() == [[0], [0], [0]]


def test_a_scattered_change_takes_indexed_slices_only():
    v = Variable([1.0, 2.0])
    for change in (v.scatter_add, v.scatter_sub, v.scatter_update):
        with pytest.raises(TypeError, match="sparse_delta is not IndexedSlices: 3"):
            change(3)


def test_count_up_to_answers_the_value_before_and_stops_at_the_limit(session):
    v = Variable(0, name="counter")
    session.run(v.initializer)
    count = v.count_up_to(2)
    assert [session.run(count), session.run(count)] == [0, 1]
    with pytest.raises(OutOfRangeError, match="Reached limit of 2"):
        session.run(count)
    assert session.run(v) == 2


def test_load_stores_a_value_and_adds_nothing_to_the_graph(graph, session):
    v = Variable([1.0, 2.0])
    graph.finalize()
    v.load([5.0, 6.0])
    assert session.run(v).tolist() == [5, 6]
    v.load(np.array([7.0, 8.0]), session)
    assert session.run(v).tolist() == [7, 8]
    with pytest.raises(ValueError, match="shape"):
        v.load([1.0])


def test_load_without_a_session_is_refused():
    with pytest.raises(ValueError, match=r"w: cannot load.*session"):
        Variable(1.0, name="w").load(2.0)
