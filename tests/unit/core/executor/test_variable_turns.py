"""Updates take turns, first come first served; reads wait for none that works on a copy."""

import threading
from collections.abc import Callable

import numpy as np
import pytest

from local_fakes import until
from paramserve_core.dtypes import float32
from paramserve_core.errors import FailedPreconditionError, ResourceExhaustedError
from paramserve_core.executor.fair_lock import FairLock
from paramserve_core.executor.memory import StoreBudget
from paramserve_core.executor.store import VariableStore
from paramserve_core.executor.updating import Ref, Update, assign_all, read_all
from paramserve_core.executor.variable import Variable
from paramserve_core.shapes import TensorShape

WAIT_S = 30.0


def start(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(WAIT_S)
    return not thread.is_alive()


@pytest.fixture
def store():
    return VariableStore()


def variable(store: VariableStore, name: str = "v", value: float = 1.0) -> Variable:
    v = store.get_or_create(name, "", float32, TensorShape([4]))
    v.assign(np.full(4, value, np.float32))
    return v


def test_a_fair_lock_is_handed_over_in_the_order_of_arrival():
    lock = FairLock()
    order: list[int] = []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    lock.acquire()
    threads = []
    for number in range(10):
        threads.append(start(lambda number=number: take(number)))
        until(lambda number=number: lock.waiting_count == number + 1)
    # Whoever lets go and comes back at once has to stand in the queue.
    lock.release()
    take(10)
    assert all(map(ended, threads))
    assert order == list(range(11))
    assert not lock.is_held


def test_a_fair_lock_has_one_holder_at_a_time():
    lock = FairLock()
    count = 0

    def add() -> None:
        nonlocal count
        for _ in range(2000):
            with lock:
                before = count
                if before % 7 == 0:
                    threading.Event().wait(0)
                count = before + 1

    threads = [start(add) for _ in range(4)]
    assert all(map(ended, threads))
    assert count == 8000
    assert not lock.is_held


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("has_come", [False, True])
def test_who_is_interrupted_while_waiting_leaves_the_queue(monkeypatch, has_come):
    """Also when its turn came in that moment: then the lock goes to the next."""
    lock = FairLock()
    lock.acquire()
    real = threading.Lock

    class Turn:
        def __init__(self) -> None:
            self.acquired = 0

        def acquire(self) -> None:
            self.acquired += 1
            if self.acquired == 2:
                if has_come:
                    lock.release()
                raise Interrupted

        def release(self) -> None:
            pass

    monkeypatch.setattr("paramserve_core.executor.fair_lock.threading.Lock", Turn)
    with pytest.raises(Interrupted):
        lock.acquire()
    monkeypatch.setattr("paramserve_core.executor.fair_lock.threading.Lock", real)
    assert lock.waiting_count == 0
    if not has_come:
        lock.release()
    assert not lock.is_held
    with lock:
        assert lock.is_held


def test_updates_that_wait_are_applied_in_the_order_of_arrival(store):
    v = variable(store, value=0.0)
    factors = [2.0, 3.0, 5.0, 7.0]

    def update(factor: float) -> None:
        with Update(Ref(v)) as (array,):
            array *= 10
            array += factor

    threads = []
    with Update(Ref(v)):
        for number, factor in enumerate(factors):
            threads.append(start(lambda factor=factor: update(factor)))
            until(lambda number=number: v._turn.waiting_count == number + 1)
    assert all(map(ended, threads))
    assert v.read()[0] == 2357


def test_a_read_waits_for_no_update_that_works_on_a_copy(store):
    v = variable(store)
    lease = v.read()
    with Update(Ref(v)) as (array,):
        array += 1
        other = start(lambda: Update(Ref(v)).__enter__())
        until(lambda: v._turn.waiting_count == 1)
        seen = v.read()
        assert (seen == 1).all()
        assert v.read_if_initialized() is not None
        del lease
    assert ended(other)
    assert (seen == 1).all()


def test_a_read_that_waited_makes_later_updates_leave_the_value_alone(store):
    v = variable(store)
    seen: list[float] = []

    def read() -> None:
        seen.append(float(v.read()[0]))

    with Update(Ref(v), is_whole=True) as (array,):
        reading = start(read)
        until(lambda: v._copies > 0)
        array += 1
        del array
    assert ended(reading)
    for _ in range(98):
        with Update(Ref(v), is_whole=True) as (array,):
            array += 1
            del array
            read()
    assert seen == [2, *range(2, 100)]


def test_without_reads_in_the_middle_updates_are_in_place_again(store):
    v = variable(store)
    v._copies = 3
    buffers = set()
    for _ in range(20):
        with Update(Ref(v), is_whole=True) as (array,):
            array += 1
            buffers.add(id(array))
            del array
    with Update(Ref(v), is_whole=True) as (array,):
        assert array is v._array
    assert v._copies == 0
    assert (v.read() == 21).all()


def test_an_update_of_some_rows_is_in_place_however_often_the_variable_is_read(store):
    v = variable(store)
    v._copies = 5
    with Update(Ref(v)) as (array,):
        assert array is v._array


def test_an_assignment_waits_its_turn_and_makes_no_read_wait(store):
    v = variable(store)
    lease = v.read()
    with Update(Ref(v)) as (array,):
        array += 1
        assigning = start(lambda: v.assign(np.full(4, 7, np.float32)))
        until(lambda: v._turn.waiting_count == 1)
        assert (v.read() == 1).all()
    assert ended(assigning)
    assert (v.read() == 7).all()
    assert (lease == 1).all()


def test_values_of_one_moment_have_no_half_of_an_update(store):
    v, w = variable(store, "v"), variable(store, "w")
    lease = w.read()  # So v is updated in place, and w on a copy.
    found: list[np.ndarray] = []
    with Update(Ref(w), Ref(v)) as (second, first):
        first += 1
        second += 1
        reading = start(lambda: found.extend(read_all([w, v])))
        until(lambda: v._turn.waiting_count == 1)
        assert not found
        del first, second
    assert ended(reading)
    assert [float(array[0]) for array in found] == [2, 2]
    assert (lease == 1).all()


def test_an_update_that_cannot_begin_leaves_everything_unlocked(store):
    v = variable(store)
    w = store.get_or_create("w", "", float32, TensorShape([4]))
    with pytest.raises(FailedPreconditionError, match="uninitialized value w"):
        Update(Ref(v), Ref(w)).__enter__()
    assert not v._turn.is_held
    assert not w._turn.is_held
    assert not v._lock.locked()
    assert not w._lock.locked()
    assign_all([w], [np.zeros(4, np.float32)])
    with Update(Ref(v), Ref(w), Ref(v)) as (first, other, again):
        assert first is again
        assert first is not other


def test_an_update_that_fails_changes_no_copied_variable_and_unlocks_it(store):
    v = variable(store)
    lease = v.read()

    def fail() -> None:
        with Update(Ref(v)) as (array,):
            array += 1
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert not v._turn.is_held
    assert (v.read() == 1).all()
    assert (lease == 1).all()


class NoMemory:
    def allocate(self, shape, dtype):
        raise MemoryError

    def has(self, array):
        return True


def test_an_assignment_without_memory_is_not_counted():
    store = VariableStore(StoreBudget(1000), NoMemory())
    v = store.get_or_create("v", "", float32, TensorShape([4]))
    with pytest.raises(MemoryError):
        v.assign(np.zeros(4, np.float32))
    assert store.budget.used_bytes == 0
    v.assign(np.zeros(4, np.float32), adopt=True)
    assert store.budget.used_bytes == 16
    with pytest.raises(ResourceExhaustedError, match="the limit is 1000"):
        v.assign(np.zeros(400, np.float32), adopt=True, validate_shape=False)
    assert not v._turn.is_held


def test_an_update_that_fills_takes_from_what_a_reader_holds(store):
    v = variable(store)
    lease = v.read()
    update = Update(Ref(v), is_whole=True, fills=True)
    with update as (array,):
        (before,) = update.before
        assert array is not before
        np.add(before, 1, out=array)
    assert (lease == 1).all()
    assert (v.read() == 2).all()


def test_an_update_that_fills_is_in_place_where_nobody_reads(store):
    v = variable(store)
    update = Update(Ref(v), is_whole=True, fills=True)
    with update as (array,):
        assert update.before[0] is array is v._array


def test_an_update_that_fills_and_fails_leaves_the_value_alone(store):
    v = variable(store)
    lease = v.read()

    def fail() -> None:
        with Update(Ref(v), is_whole=True, fills=True) as (array,):
            array[:] = 9
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert (v.read() == 1).all()
    assert (lease == 1).all()
    with Update(Ref(v)) as (array,):  # The turn was passed on.
        array += 1
