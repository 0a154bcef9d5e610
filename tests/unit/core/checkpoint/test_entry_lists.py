"""Entries are read once, and what was made of them is right for as long as it is used."""

from __future__ import annotations

import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entries_of, entry
from paramserve_core import dtypes
from paramserve_core.checkpoint.entries import EntryList, EntryLists, Placement, pack_entries
from paramserve_core.errors import FailedPreconditionError, InvalidArgumentError
from paramserve_core.executor.store import VariableStore
from paramserve_core.shapes import TensorShape


def some(*names: str) -> bytes:
    return pack_entries([entry(name) for name in names])


def test_same_bytes_are_read_once():
    lists = EntryLists()
    first = lists.read(some("a", "b"))
    assert lists.read(some("a", "b")) is first
    assert lists.read(some("a", "c")) is not first


def test_few_lists_are_kept():
    lists = EntryLists()
    first = lists.read(some("0"))
    for i in range(1, 20):
        last = lists.read(some(str(i)))
    assert lists.read(some("19")) is last
    assert lists.read(some("0")) is not first


def test_variables_that_a_save_found_are_not_looked_up_again_after_a_reset():
    store = VariableStore()
    wanted = EntryList(some("v"))

    def make(number, name, container):
        return store.get_or_create(name, container, dtypes.float32, TensorShape([]))

    (old,) = wanted.variables_made(store, make)
    store.reset()
    with pytest.raises(FailedPreconditionError):
        wanted.variables(store)
    new = make(0, "v", "")
    first = wanted.variables(store)
    assert list(first) == [new]
    assert old is not new
    assert wanted.variables(store) is first


def test_entries_that_differ_in_names_only_are_of_one_kind():
    wanted = EntryList(
        pack_entries(
            [
                entry("a", shape=[2]),
                entry("b", shape=[2], node="other"),
                entry("c", shape=[3]),
                entry("d", dtypes.int32, shape=[2]),
                entry("e", shape=[2], reshape=True),
                entry("f", shape=[2], slice_of=([4], [0], [2])),
                entry("g", shape=[2], slice_of=([4], [2], [2])),
                entry("h", shape=[3]),
            ]
        )
    )
    assert wanted.kinds == [0, 0, 2, 3, 4, 5, 6, 2]
    assert wanted.again is None


def test_each_task_gets_its_entries_and_is_asked_for_once():
    asked = []

    def task_of(wanted):
        asked.append(wanted.node)
        return "even" if int(wanted.node) % 2 == 0 else "odd"

    placement = Placement(task_of)
    for _ in range(3):
        found = placement.by_task(some("0", "1", "2", "3"))
        keys = {task: EntryList(content).keys for task, content in found.items()}
        assert keys == {"even": ["0", "2"], "odd": ["1", "3"]}
    assert asked == ["0", "1", "2", "3"]


def test_variables_of_a_cleared_container_are_looked_up_again(tmp_path):
    task = Task(tmp_path)
    values = {"a": np.arange(3.0), "b": np.arange(4.0)}
    task.set(**values)
    entries = entries_of(values)
    tasks = Tasks(task)
    tasks.save("m", *entries)
    tasks.restore("m", *entries)
    task.store.reset()
    with pytest.raises(FailedPreconditionError, match="uninitialized value a"):
        tasks.save("n", *entries)
    tasks.restore("m", *entries)
    assert task.get("b").tolist() == values["b"].tolist()
    assert task.store.find("b") is not None
    tasks.save("n", *entries)


def test_entries_that_a_save_refused_are_refused_by_a_restore(tmp_path):
    task, other = Task(tmp_path), Task(tmp_path)
    other.set(v=np.zeros(2, np.float32))
    Tasks(other).save("m", *entries_of({"v": np.zeros(2, np.float32)}))
    made = task.store.get_or_create("v", "", dtypes.float64, TensorShape([2]))
    made.assign(np.ones(2))
    entries = entries_of({"v": np.zeros(2, np.float32)})
    with pytest.raises(InvalidArgumentError, match="the saver has it as float32"):
        Tasks(task).save("n", *entries)
    with pytest.raises(InvalidArgumentError, match="the graph declares float32"):
        Tasks(task).restore("m", *entries)
    assert task.get("v").tolist() == [1.0, 1.0]


def test_restore_that_names_a_variable_twice_is_refused(tmp_path):
    task = Task(tmp_path)
    task.set(a=[1.0], b=[2.0])
    Tasks(task).save("m", *entries_of({"a": [1.0], "b": [2.0]}))
    twice = [entry(key, dtypes.float64, [1], node="a") for key in ("a", "b")]
    with pytest.raises(InvalidArgumentError, match="a: the restore names this variable twice"):
        Tasks(task).restore("m", *twice)
