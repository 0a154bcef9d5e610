"""What a step answers is the caller's own: copied where somebody else has it, and only there."""

import numpy as np
import pytest

from paramserve_core.master.results import own_all


@pytest.mark.parametrize("count", [1, 20])
def test_arrays_that_nobody_else_has_are_answered_themselves(count):
    addresses = []

    def made():
        array = np.zeros(3)
        addresses.append(array.ctypes.data)
        return array

    owned = own_all([made() for _ in range(count)])
    assert [array.ctypes.data for array in owned] == addresses


def shared_with_somebody():
    return KEPT


def read_only_array():
    array = np.ones(3)
    array.flags.writeable = False
    return array


def view_of_a_larger_one():
    return np.ones(10)[2:5]


KEPT = np.ones(3)


@pytest.mark.parametrize("make", [shared_with_somebody, read_only_array, view_of_a_larger_one])
@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("position", [0, -1])
def test_one_that_is_not_the_callers_own_is_copied(make, count, position):
    arrays = [np.zeros(3) for _ in range(count)]
    arrays[position] = make()
    found = own_all(arrays)[position]
    assert found.flags.owndata
    assert found.flags.writeable
    found += 1
    assert found.tolist() == [2.0, 2.0, 2.0]
    assert KEPT.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("count", [2, 20])
def test_an_array_that_occurs_twice_becomes_two(count):
    one = [np.ones(3)]
    owned = own_all([one[0], *[np.zeros(3) for _ in range(count - 2)], one.pop()])
    owned[0] += 1
    assert owned[-1].tolist() == [1.0, 1.0, 1.0]


def test_nothing_stays_nothing():
    assert own_all([]) == []
