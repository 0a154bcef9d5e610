"""Memory that was received into is used again when nobody can see it, and never before."""

import numpy as np
import pytest

from paramserve_core.transport import payload
from paramserve_core.transport.ownership import is_exclusive
from paramserve_core.transport.recycling import RECYCLED_BYTES, Recycler

LARGE = (RECYCLED_BYTES,)


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_when_its_array_is_gone():
    recycler = Recycler()
    array = recycler.allocate(LARGE, np.uint8)
    first = address(array)
    assert recycler.idle_bytes == 0
    del array
    assert recycler.idle_bytes == RECYCLED_BYTES
    again = recycler.allocate((RECYCLED_BYTES // 8, 2), np.float32)
    assert address(again) == first
    assert recycler.idle_bytes == 0


@pytest.mark.parametrize(
    "look",
    [
        lambda array: array[5:6],
        lambda array: array.reshape(2, -1).T[1:],
        lambda array: array.view(np.int8)[::3],
        lambda array: memoryview(array)[1:],
        lambda array: np.asarray(memoryview(array)[1:])[2:],
        np.broadcast_arrays,
    ],
)
def test_memory_stays_while_a_view_of_it_does(look):
    recycler = Recycler()
    view = look(recycler.allocate(LARGE, np.uint8))
    assert recycler.idle_bytes == 0
    del view
    assert recycler.idle_bytes == RECYCLED_BYTES


def test_an_array_is_the_holders_own():
    array = Recycler().allocate((RECYCLED_BYTES // 8,), np.float64)
    array[...] = 3
    assert is_exclusive(array)
    assert array.sum() == 3 * array.size


def test_what_is_small_or_of_objects_owns_its_memory():
    recycler = Recycler()
    for shape, dtype in [((RECYCLED_BYTES - 1,), np.uint8), (LARGE, np.object_), ((0, 9), "f4")]:
        array = recycler.allocate(shape, dtype)
        assert array.flags.owndata
        assert array.shape == shape
        assert array.dtype == np.dtype(dtype)
    del array
    assert recycler.idle_bytes == 0


def test_the_smallest_memory_that_fits_is_taken_and_none_that_is_far_too_large():
    recycler = Recycler()
    sizes = [RECYCLED_BYTES * factor for factor in (9, 3, 2)]
    arrays = [recycler.allocate((size,), np.uint8) for size in sizes]
    smallest = address(arrays[2])
    arrays.clear()
    assert address(recycler.allocate((2 * RECYCLED_BYTES - 5,), np.uint8)) == smallest
    held = [recycler.allocate((2 * RECYCLED_BYTES,), np.uint8) for _ in range(3)]
    assert recycler.idle_bytes == 9 * RECYCLED_BYTES
    assert len({address(array) for array in held}) == 3


def test_no_more_is_kept_than_the_limit_says():
    recycler = Recycler(max_idle_bytes=3 * RECYCLED_BYTES)
    arrays = [recycler.allocate(LARGE, np.uint8) for _ in range(5)]
    latest = [address(array) for array in arrays[2:]]
    while arrays:
        del arrays[0]
    assert recycler.idle_bytes == 3 * RECYCLED_BYTES
    kept = [recycler.allocate(LARGE, np.uint8) for _ in range(3)]
    assert sorted(map(address, kept)) == sorted(latest)


def test_an_array_may_end_while_its_thread_is_allocating_another():
    recycler = Recycler()
    array = recycler.allocate(LARGE, np.uint8)
    with recycler._idle._lock:  # As when a garbage collection begins in there.
        del array
    assert recycler.idle_bytes == RECYCLED_BYTES


def test_shapes_and_sizes_that_cannot_be_are_refused_as_for_any_array():
    with pytest.raises(MemoryError):
        Recycler().allocate((1 << 48,), np.uint8)
    with pytest.raises(ValueError, match="too big"):
        Recycler().allocate((0, 1 << 62), np.float32)


def test_large_tensors_are_received_into_memory_that_was_used_before(monkeypatch):
    recycler = Recycler()
    monkeypatch.setattr(payload, "RECEIVED", recycler)
    sent = np.arange(RECYCLED_BYTES // 4, dtype=np.int32)
    header, body = payload.pack(sent)
    for _ in range(2):
        tensor = payload.Incoming(header)
        assert tensor.fill(body[:100]) == 100
        assert recycler.idle_bytes == 0
        tensor.fill(body[100:])
        np.testing.assert_array_equal(tensor.array(), sent)
        del tensor
        assert recycler.idle_bytes == RECYCLED_BYTES
