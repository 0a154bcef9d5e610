"""Restored values lie in ordinary memory until a step uses them, then where they can be lent."""

import numpy as np
import pytest

from paramserve_core.dtypes import float32
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.updating import Ref, Update, assign_all, read_all
from paramserve_core.shapes import TensorShape
from paramserve_core.transport.segments import SegmentPool, locate

ELEMENTS = 1 << 18  # The least that is shared: 1 MiB.


class FullPool(SegmentPool):
    """Has no memory left."""

    def allocate(self, shape, dtype, least_bytes=0):
        raise MemoryError("no memory")


def restored(pool):
    store = VariableStore(memory=pool)
    v = store.get_or_create("v", "", float32, TensorShape([ELEMENTS]))
    assign_all([v], [np.full(ELEMENTS, 3, np.float32)])
    return v


def test_a_read_moves_a_restored_value_where_it_can_be_lent():
    v = restored(SegmentPool())
    assert locate(v._array) is None
    lease = v.read()
    assert (lease == 3).all()
    assert locate(lease) is not None
    assert v.read().base is lease.base


def test_an_update_moves_a_restored_value_and_later_ones_are_in_place():
    v = restored(SegmentPool())
    with Update(Ref(v)) as (array,):
        array += 1
        del array
    assert locate(v._array) is not None
    buffer = id(v._array)
    with Update(Ref(v)) as (array,):
        array += 1
        del array
    assert id(v._array) == buffer
    assert (v.read() == 5).all()


def test_an_assignment_leaves_a_restored_buffer_behind():
    v = restored(SegmentPool())
    v.assign(np.full(ELEMENTS, 4, np.float32))
    assert locate(v._array) is not None
    assert (v.read() == 4).all()


def test_a_snapshot_of_a_restored_value_moves_nothing():
    v = restored(SegmentPool())
    (lease,) = read_all([v])
    assert locate(lease) is None
    assert (lease == 3).all()


def test_a_read_beside_an_update_sees_the_restored_value():
    v = restored(SegmentPool())
    with Update(Ref(v)) as (array,):
        array += 1
        del array
        assert (v.read() == 3).all()
    assert (v.read() == 4).all()


def test_an_update_that_fails_leaves_the_restored_value():
    v = restored(SegmentPool())

    def fail():
        with Update(Ref(v)) as (array,):
            array += 1
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert (v.read() == 3).all()


def test_a_value_for_which_there_is_no_memory_stays_and_is_read():
    v = restored(FullPool())
    assert (v.read() == 3).all()
    assert not v._turn.is_held


def test_small_values_stay_where_they_are():
    store = VariableStore(memory=SegmentPool())
    v = store.get_or_create("v", "", float32, TensorShape([4]))
    value = np.full(4, 3, np.float32)
    assign_all([v], [value])
    assert v.read().base is value


def test_views_of_one_array_are_never_written_to():
    store = VariableStore()
    block = np.arange(8, dtype=np.float32)
    variables = [store.get_or_create(n, "", float32, TensorShape([4])) for n in ("v", "w")]
    assign_all(variables, [block[:4], block[4:]])
    (before,) = read_all(variables[:1])
    for v in variables:
        with Update(Ref(v)) as (array,):
            array += 1
            del array
    assert before.tolist() == [0, 1, 2, 3]
    assert block.tolist() == list(range(8))
    assert variables[1].read().tolist() == [5, 6, 7, 8]


def test_a_view_is_read_where_it_is_and_left_behind_by_an_update():
    store = VariableStore()
    v = store.get_or_create("v", "", float32, TensorShape([4]))
    block = np.arange(8, dtype=np.float32)
    assign_all([v], [block[:4]])
    assert v.read().base is block
    v.assign(np.ones(4, np.float32))
    assert v.read().base is not block
    assert block.tolist() == list(range(8))
