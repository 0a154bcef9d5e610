"""Blocks: every item once, never more threads than cores, and errors that wait for all."""

import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserve_core.kernels import blocks
from paramserve_core.kernels.blocks import Workers, for_each_block

MANY = 64 * blocks.BLOCK_BYTES


@given(
    count=st.integers(0, 200),
    item_bytes=st.sampled_from([0, 1, 7, blocks.BLOCK_BYTES // 3, 3 * blocks.BLOCK_BYTES]),
    limit=st.integers(1, 4),
)
def test_every_item_is_computed_once(count, item_bytes, limit):
    times = np.zeros(count, int)

    def function(start, stop, scratch):
        assert scratch.shape == (2, stop - start)
        times[start:stop] += 1

    for_each_block(count, function, item_bytes=item_bytes, scratch_rows=2, workers=Workers(limit))
    assert (times == 1).all()


def test_a_scratch_is_of_the_type_asked_for():
    found = []

    def function(start, stop, scratch):
        found.append((scratch.dtype, scratch.shape))

    item = np.dtype((np.float32, (3,)))
    for_each_block(5, function, item_bytes=12, scratch_rows=2, scratch_dtype=item)
    assert found == [(np.dtype(np.float32), (2, 5, 3))]


class Meeting:
    """Work that ends once a number of threads do it at the same time."""

    def __init__(self, parties):
        self.barrier = threading.Barrier(parties)
        self.threads = set()

    def __call__(self):
        self.threads.add(threading.get_ident())
        self.barrier.wait(timeout=60)


def test_work_is_shared_by_as_many_threads_as_are_idle():
    meeting = Meeting(3)
    Workers(3).share(meeting, most=9)
    assert len(meeting.threads) == 3
    assert threading.get_ident() in meeting.threads


def test_no_more_threads_work_than_there_are_parts():
    meeting = Meeting(2)
    Workers(8).share(meeting, most=2)
    assert len(meeting.threads) == 2


def test_a_call_amid_another_gets_no_thread_that_is_not_idle():
    workers, alone = Workers(2), []

    def work():
        inner = Meeting(1)
        workers.share(inner, most=2)
        alone.append(inner.threads == {threading.get_ident()})
        outer.wait(timeout=60)

    outer = threading.Barrier(2)
    workers.share(work, most=2)
    assert alone == [True, True]


class Retentive(ThreadPoolExecutor):
    """Lets go of nothing that it was given."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.given = []

    def submit(self, function):
        self.given.append(function)
        return super().submit(function)


@pytest.mark.parametrize("is_begun", [True, False])
def test_no_thread_holds_the_work_once_it_has_ended(is_begun, monkeypatch):
    monkeypatch.setattr(blocks, "ThreadPoolExecutor", Retentive)
    workers = Workers(2)
    workers.share(Meeting(2), most=2)  # makes the pool
    let = threading.Event()
    if not is_begun:
        workers._pool.submit(lambda: let.wait(60))
    work = Meeting(2 if is_begun else 1)
    workers.share(work, most=2)
    assert len(work.threads) == 1 + is_begun
    alive = weakref.ref(work)
    del work
    assert alive() is None
    let.set()


def test_threads_are_idle_again_after_an_error():
    workers = Workers(2)
    barrier = threading.Barrier(2)

    def fail():
        barrier.wait(timeout=60)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            workers.share(fail, most=2)
    meeting = Meeting(2)
    workers.share(meeting, most=2)
    assert len(meeting.threads) == 2


def test_an_error_of_another_thread_is_raised_once_all_have_ended():
    workers, here = Workers(2), threading.get_ident()
    both, ended = threading.Barrier(2), []

    def work():
        both.wait(timeout=60)
        if threading.get_ident() != here:
            raise ZeroDivisionError
        ended.append(True)

    with pytest.raises(ZeroDivisionError):
        workers.share(work, most=2)
    assert ended == [True]


def test_after_an_error_no_block_is_begun_any_more():
    begun = []

    def function(start, stop, scratch):
        begun.append(start)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        for_each_block(MANY, function, item_bytes=1, workers=Workers(1))
    assert begun == [0]


def test_a_process_that_is_ending_computes_alone():
    workers = Workers(2)
    workers.share(Meeting(2), most=2)
    assert workers._pool is not None
    workers._pool.shutdown()
    alone = Meeting(1)
    workers.share(alone, most=2)
    assert alone.threads == {threading.get_ident()}


def test_floating_point_conditions_in_a_block_are_no_warnings():
    zeros = np.zeros(MANY // 4, np.float32)

    def function(start, stop, scratch):
        np.divide(1, zeros[start:stop], out=scratch[0])

    for_each_block(
        zeros.size,
        function,
        item_bytes=4,
        scratch_rows=1,
        scratch_dtype=zeros.dtype,
        workers=Workers(2),
    )


def test_at_least_one_thread_computes():
    with pytest.raises(ValueError, match="at least one thread"):
        blocks.set_max_threads(0)


FORK = """
import os
import numpy as np
from paramserve_core.kernels import blocks

blocks.set_max_threads(2)
count = 64 * blocks.BLOCK_BYTES

def total():
    sums = []
    function = lambda start, stop, scratch: sums.append(stop - start)
    blocks.for_each_block(count, function, item_bytes=1)
    return sum(sums)

assert total() == count
child = os.fork()
if not child:
    os._exit(0 if total() == count else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(blocks.os, "fork"), reason="the system has no fork")
def test_a_forked_child_computes_with_threads_of_its_own():
    # In a process of its own, as a fork takes along what the other tests have started.
    subprocess.run([sys.executable, "-c", FORK], check=True, timeout=60)
