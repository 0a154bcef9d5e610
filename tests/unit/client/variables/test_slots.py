"""Slots: variables beside a variable."""

import numpy as np
import pytest

import paramserve as ps
from paramserve._variables.slots import (
    create_slot,
    create_slot_with_initializer,
    create_zeros_slot,
)


def make_zeros(primary, **options):
    return create_zeros_slot(primary, "m", **options)


def make_value(primary, **options):
    return create_slot(primary, ps.zeros([2]), "m", **options)


def make_initialized(primary, **options):
    zeros = ps.zeros_initializer()
    return create_slot_with_initializer(primary, zeros, [2], ps.float32, "m", **options)


ALL = pytest.mark.parametrize("make", [make_zeros, make_value, make_initialized])


@ALL
def test_a_slot_is_a_variable_below_its_primary_that_is_not_trained(make):
    w = ps.Variable([1.0, 2.0], name="w")
    slot = make(w)
    assert slot.name == "w/m:0"
    assert slot.shape.as_list() == [2]
    assert ps.global_variables() == [w, slot]
    assert ps.trainable_variables() == [w]


@ALL
def test_a_slot_is_where_its_primary_is(make):
    with ps.device("/job:ps/task:1"):
        w = ps.Variable([1.0, 2.0], name="w")
    with ps.device("/job:worker"):
        slot = make(w)
        elsewhere = make(w, colocate_with_primary=False)
    for op in (slot.op, slot.initializer, slot.value().op):
        assert op.device == "/job:ps/task:1"
        assert b"loc:@w" in op.colocation_groups()
    assert elsewhere.device == "/job:worker"
    assert elsewhere.op.colocation_groups() == [b"loc:@w/m_1"]


def test_what_an_initializer_makes_is_made_where_the_primary_is():
    with ps.device("/job:ps/task:1"):
        w = ps.Variable([1.0, 2.0], name="w")
    for slot in (make_zeros(w), make_initialized(w)):
        assert slot.initial_value.device == "/job:ps/task:1"
        assert b"loc:@w" in slot.initial_value.op.colocation_groups()


def test_slots_of_one_name_get_numbers():
    w = ps.Variable([1.0], name="w")
    assert [create_zeros_slot(w, "Adam").op.name for _ in range(2)] == ["w/Adam", "w/Adam_1"]


def test_the_current_variable_scope_is_part_of_the_name_and_name_scopes_are_not():
    w = ps.Variable([1.0], name="w")
    for number in ("", "_1"):
        with ps.variable_scope("opt"), ps.name_scope("x"):
            assert create_zeros_slot(w, "m").op.name == f"opt/w/m{number}"


def test_zeros_have_the_type_of_the_primary_or_another():
    w = ps.Variable([1.0], dtype=ps.float64)
    assert create_zeros_slot(w, "m").dtype.base_dtype is ps.float64
    assert create_zeros_slot(w, "m", dtype=ps.float32).dtype.base_dtype is ps.float32


def test_slots_begin_as_said(session):
    w = ps.Variable([1.0, 2.0], name="w")
    slots = [
        create_zeros_slot(w, "zeros"),
        create_slot(w, w.initialized_value() * 2.0, "twice"),
        create_slot_with_initializer(
            w, ps.constant_initializer(0.5), ps.TensorShape([3]), ps.float64, "half"
        ),
    ]
    session.run(ps.initialize_all_variables())
    assert [value.tolist() for value in session.run(slots)] == [[0, 0], [2, 4], [0.5, 0.5, 0.5]]


def test_a_slot_of_a_primary_of_unknown_shape_takes_its_shape_at_run_time(session):
    x = ps.placeholder(ps.float32, [None])
    w = ps.Variable(x, validate_shape=False, name="w")
    slot = create_zeros_slot(w, "m")
    given = create_slot(w, w.initialized_value() + 1.0, "n")
    session.run([w.initializer, slot.initializer, given.initializer], {x: [1, 2, 3]})
    assert session.run(slot).tolist() == [0, 0, 0]
    assert session.run(given).tolist() == [2, 3, 4]


def test_the_slot_of_a_part_is_a_part():
    whole = ps.get_variable("w", [5, 2], partitioner=ps.fixed_size_partitioner(2))
    first = [create_zeros_slot(part, "m") for part in whole]
    second = [create_slot(part, ps.zeros(part.shape), "m") for part in whole]
    with ps.variable_scope("opt"):
        third = [create_zeros_slot(part, "m") for part in whole]
    places = [[slot._get_save_slice_info() for slot in slots] for slots in (first, second, third)]
    assert [slot.op.name for slot in first] == ["w/part_0/m", "w/part_1/m"]
    assert [place.full_name for place in places[0]] == ["w/m", "w/m"]
    assert [place.full_name for place in places[1]] == ["w/m_1", "w/m_1"]
    assert [place.full_name for place in places[2]] == ["opt/w/m", "opt/w/m"]
    assert [place.spec for place in places[0]] == ["5 2 0,3:0,2", "5 2 3,2:0,2"]


def test_a_slot_of_another_shape_than_its_part_is_no_part():
    whole = ps.get_variable("w", [5, 2], partitioner=ps.fixed_size_partitioner(2))
    part = next(iter(whole))
    slot = create_slot(part, 0.0, "counter")
    assert slot._get_save_slice_info() is None


def test_the_initializer_of_a_part_is_told_the_whole():
    told = []

    def initializer(shape, dtype, partition_info=None):
        told.append((partition_info.full_shape, partition_info.var_offset))
        return ps.zeros(shape, dtype)

    whole = ps.get_variable("w", [5], partitioner=ps.fixed_size_partitioner(2))
    for part in whole:
        create_slot_with_initializer(part, initializer, part.shape, ps.float32, "m")
        # One that knows nothing of parts is not told.
        plain = create_slot_with_initializer(
            part, lambda shape, dtype: ps.zeros(shape, dtype), part.shape, ps.float32, "n"
        )
        assert plain.shape == part.shape
    assert told == [((5,), (0,)), ((5,), (3,))]


def test_control_dependencies_and_graphs_around_do_not_matter():
    w = ps.Variable([1.0], name="w")
    with ps.Graph().as_default(), ps.control_dependencies([ps.no_op()]):
        slot = create_zeros_slot(w, "m")
    assert slot.graph is w.graph
    assert slot.initializer.control_inputs == []


def test_a_shape_must_be_known():
    w = ps.Variable([1.0], name="w")
    with pytest.raises(ValueError, match="w/m: the shape of a slot must be known"):
        create_slot_with_initializer(w, ps.zeros_initializer(), [None], ps.float32, "m")


def test_a_slot_is_saved_and_restored_with_its_primary(tmp_path, session):
    whole = ps.get_variable(
        "w", initializer=np.arange(5.0), partitioner=ps.fixed_size_partitioner(2)
    )
    slots = [create_slot(part, part.initialized_value() + 10.0, "m") for part in whole]
    saver = ps.train.Saver()
    session.run(ps.initialize_all_variables())
    path = saver.save(session, str(tmp_path / "model"))
    session.run([slot.assign(slot * 0.0) for slot in slots])
    saver.restore(session, path)
    assert np.concatenate(session.run(slots)).tolist() == [10, 11, 12, 13, 14]
    with ps.Graph().as_default():
        one = ps.Variable(np.zeros(5), name="w/m")
        with ps.Session() as other:
            ps.train.Saver([one]).restore(other, path)
            assert other.run(one).tolist() == [10, 11, 12, 13, 14]
