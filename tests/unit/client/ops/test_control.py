"""Groups and gates wait for what they are given."""

import pytest

import paramserve as ps


@pytest.fixture
def session():
    with ps.Graph().as_default(), ps.Session() as session:
        yield session


def test_a_group_runs_all_that_it_is_given(session):
    a, b, c = (ps.Variable(0, name=name) for name in "abc")
    session.run(ps.global_variables_initializer())
    op = ps.group(ps.assign_add(a, 1), [ps.assign_add(b, 2).op, (c.assign_add(3),)], name="all")
    assert op.name == "all"
    session.run(op)
    assert session.run([a, b, c]) == [1, 2, 3]


def test_a_group_of_nothing_does_nothing(session):
    assert session.run(ps.group()) is None


def test_a_group_has_one_op_on_each_device(session):
    with ps.device("/job:ps/task:0"):
        a = ps.no_op()
    with ps.device("/job:ps/task:1"):
        b, c = ps.no_op(), ps.no_op()
    op = ps.group(a, b, c)
    assert sorted(control.device for control in op.control_inputs) == [a.device, b.device]
    assert [part.control_inputs for part in op.control_inputs] == [[a], [b, c]]


def test_a_group_on_one_device_is_on_that_device(session):
    with ps.device("/job:ps/task:1"):
        a, b = ps.no_op(), ps.no_op()
    op = ps.group(a, b)
    assert op.device == a.device
    assert op.control_inputs == [a, b]


def test_a_group_refuses_what_is_no_op(session):
    with pytest.raises(TypeError, match="group takes operations and tensors"):
        ps.group(ps.no_op(), 3)


def test_no_tensor_of_a_tuple_is_there_before_all_are(session):
    v = ps.Variable(0)
    session.run(v.initializer)
    first, none, _ = ps.tuple([ps.constant(1), None, ps.assign_add(v, 1)])
    assert none is None
    assert session.run(first) == 1
    assert session.run(v) == 1


def test_a_tuple_waits_for_control_inputs(session):
    v = ps.Variable(0)
    session.run(v.initializer)
    (only,) = ps.tuple([ps.constant(1)], control_inputs=[ps.assign_add(v, 1)])
    session.run(only)
    assert session.run(v) == 1


def test_a_tuple_keeps_slices(session):
    rows = ps.IndexedSlices(ps.constant([[1.0]]), ps.constant([3]), ps.constant([5, 1]))
    (kept,) = ps.tuple([rows])
    assert isinstance(kept, ps.IndexedSlices)
    assert session.run(kept).indices.tolist() == [3]


def test_bad_tuples_are_refused(session):
    with pytest.raises(ValueError, match="at least one Tensor"):
        ps.tuple([None])
    with pytest.raises(TypeError, match="Control input must be"):
        ps.tuple([ps.constant(1)], control_inputs=["a"])
