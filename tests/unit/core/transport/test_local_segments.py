"""Memory that two processes share: what is sealed, what is kept, and when it goes back."""

import mmap
import os

import ml_dtypes
import numpy as np
import pytest

from paramserve_core.dtypes import float32
from paramserve_core.errors import InvalidArgumentError, ResourceExhaustedError
from paramserve_core.executor.store import VariableStore
from paramserve_core.shapes import TensorShape
from paramserve_core.transport import segments
from paramserve_core.transport.ownership import array_on, holder_of, is_exclusive
from paramserve_core.transport.segments import Block, Segment, SegmentPool, locate

MIB = 1 << 20


@pytest.fixture
def pool():
    return SegmentPool(max_idle_bytes=4 * MIB, max_segments=8)


def test_a_segment_cannot_shrink_or_grow():
    segment = Segment(10)
    for size in (0, 4 * mmap.PAGESIZE):
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(segment.fd, size)


def test_nobody_but_its_maker_can_write_to_a_segment():
    segment = Segment(10)
    with pytest.raises(OSError, match="not permitted"):
        mmap.mmap(segment.fd, segment.size)
    with pytest.raises(OSError, match="not permitted"):
        os.write(segment.fd, b"x")
    segment.mapping[0] = 7
    assert segments.map_shared(segment.fd, segment.size)[0] == 7


def test_a_segment_closes_its_descriptor():
    segment = Segment(10)
    fd = segment.fd
    os.fstat(fd)
    del segment
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_a_segment_of_impossible_size_is_refused():
    for size in (1 << 62, 1 << 70):
        with pytest.raises(ResourceExhaustedError, match="no shared memory"):
            Segment(size)


def test_a_segment_larger_than_the_memory_is_refused_before_it_is_written_to(pool, monkeypatch):
    monkeypatch.setattr(segments, "memory_bytes", lambda: 2 * MIB)
    assert Segment(2 * MIB).size == 2 * MIB
    with pytest.raises(ResourceExhaustedError, match="there are 2097152 in all"):
        Segment(3 * MIB)
    # Ordinary memory, of which the system itself gives no more than there is.
    assert locate(pool.allocate((3 * MIB,), np.uint8)) is None
    assert locate(pool.allocate((2 * MIB,), np.uint8)) is not None


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, ml_dtypes.bfloat16])
def test_an_allocated_array_is_located_and_so_are_its_views(pool, dtype):
    array = pool.allocate((MIB, 2), dtype)
    assert type(array) is np.ndarray
    assert array.shape == (MIB, 2)
    assert array.dtype == dtype
    block, offset = locate(array)
    assert offset == 0
    assert locate(array[3:]) == (block, 6 * array.itemsize)
    assert locate(array.reshape(-1)[5:].view()) == (block, 5 * array.itemsize)
    assert locate(array[:, 1]) is None  # Not contiguous.


def test_other_memory_is_not_located(pool):
    assert locate(np.zeros(10)) is None
    assert locate(np.frombuffer(b"1234", np.uint8)) is None
    assert locate(pool.allocate((10,), np.float32)) is None  # Too small for a block.
    assert pool.allocate((MIB,), np.object_).flags.owndata


def test_views_of_an_allocated_array_count_as_references_to_it(pool):
    """The store's leases depend on it."""
    store = VariableStore(memory=pool)
    variable = store.get_or_create("v", "", float32, TensorShape([MIB]))
    variable.assign(np.ones(MIB, np.float32))
    block, _ = locate(variable.read())
    lease = variable.read()[10:]
    variable.assign(np.zeros(MIB, np.float32))
    assert (lease == 1).all()
    assert locate(variable.read())[0] is not block
    del lease
    other, _ = locate(variable.read())
    variable.assign(np.full(MIB, 2, np.float32))
    assert locate(variable.read())[0] is other


def test_a_block_goes_back_when_its_last_array_is_gone(pool):
    array = pool.allocate((MIB,), np.uint8)
    segment = locate(array)[0].segment
    view = array[10:]
    del array
    assert locate(pool.allocate((MIB,), np.uint8))[0].segment is not segment
    del view
    again = [pool.allocate((MIB,), np.uint8) for _ in range(2)]
    assert segment in [locate(array)[0].segment for array in again]


def test_a_retired_block_is_not_used_again(pool):
    array = pool.allocate((MIB,), np.uint8)
    block, _ = locate(array)
    block.retire()
    number = block.segment.id
    del array, block
    assert locate(pool.allocate((MIB,), np.uint8))[0].segment.id != number


def test_a_pool_keeps_no_more_than_it_may(pool):
    arrays = [pool.allocate((2 * MIB,), np.uint8) for _ in range(5)]
    assert pool.segment_count == 5
    del arrays
    assert pool.segment_count == 2


def test_a_small_tensor_does_not_take_a_large_segment(pool):
    large = pool.allocate((4 * MIB,), np.uint8)
    del large
    assert locate(pool.allocate((MIB,), np.uint8))[0].segment.size == MIB


def test_a_pool_that_is_exhausted_allocates_ordinary_memory(pool):
    arrays = [pool.allocate((MIB,), np.uint8) for _ in range(8)]
    assert [locate(array) is not None for array in arrays] == [True] * 6 + [False] * 2
    assert not pool.has(arrays[7])
    blocks = [pool.take(10) for _ in range(2)]
    with pytest.raises(ResourceExhaustedError, match="8 shared memory segments, the limit is 8"):
        pool.take(10)
    assert len(blocks) == 2


def test_only_what_allocate_makes_is_had(pool):
    array = pool.allocate((MIB,), np.uint8)
    assert pool.has(array)
    assert not pool.has(array[1:])
    assert not pool.has(np.empty(MIB, np.uint8))
    assert pool.has(np.empty(10))


def test_a_private_mapping_becomes_its_own(pool):
    memory = pool.take(3 * mmap.PAGESIZE)
    memory[:] = 1
    segment = memory.holder.segment
    begin, end = mmap.PAGESIZE + 100, 2 * mmap.PAGESIZE + 50
    mapping, offset = segments.map_privately(segment.fd, segment.size, begin, end)
    mapping[offset] = 5
    assert memory[begin] == 1
    segments.make_own(mapping)
    memory[:] = 2
    assert list(mapping[offset : offset + 3]) == [5, 1, 1]
    assert set(mapping[offset + 1 :]) == {1}


def test_foreign_memory_that_could_shrink_is_refused():
    fd = os.memfd_create("unsealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, MIB)
        with pytest.raises(InvalidArgumentError, match="not sealed"):
            segments.map_shared(fd, MIB)
    finally:
        os.close(fd)


def test_foreign_memory_that_is_too_small_or_no_segment_is_refused(tmp_path):
    segment = Segment(MIB)
    for size in (MIB + 1, 0, 1 << 63):
        with pytest.raises(InvalidArgumentError, match="smaller"):
            segments.map_shared(segment.fd, size)
    (tmp_path / "file").write_bytes(b"1" * 100)
    with (tmp_path / "file").open("rb") as file, pytest.raises(InvalidArgumentError):
        segments.map_shared(file.fileno(), 100)
    reading, writing = os.pipe()
    try:
        with pytest.raises(InvalidArgumentError):
            segments.map_shared(reading, 100)
    finally:
        os.close(reading)
        os.close(writing)


def test_only_memory_that_nobody_else_sees_is_exclusive(pool):
    assert is_exclusive(np.zeros(3))
    assert not is_exclusive(np.zeros(3)[1:])
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    assert not is_exclusive(frozen)
    shared = array_on(pool.take(100), (10,), np.float32)
    assert isinstance(holder_of(shared), Block)
    assert not is_exclusive(shared)


def test_a_child_process_leaves_the_segments_to_its_parent(pool):
    kept = pool.allocate((MIB,), np.uint8)
    idle = pool.allocate((MIB,), np.uint8)
    del idle
    pool.forget()
    assert pool.segment_count == 0
    segment = locate(kept)[0].segment
    segment.process = -1
    del kept
    assert locate(pool.allocate((MIB,), np.uint8))[0].segment is not segment
