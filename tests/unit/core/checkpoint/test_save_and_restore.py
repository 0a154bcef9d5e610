"""Saving and restoring over tasks in one process, with real files."""

import itertools
import os
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoint_tasks import Task, Tasks, array_of, entries_of, entry, two_tasks
from paramserve_core import dtypes
from paramserve_core.dtypes import ALL_TYPES, as_dtype
from paramserve_core.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    OpError,
    ResourceExhaustedError,
    UnimplementedError,
)
from paramserve_core.executor.memory import StoreBudget
from paramserve_core.executor.store import VariableStore
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

V1 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V1
V2 = messages.CHECKPOINT_FORMAT_TENSORFLOW_V2


def names_in(directory) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.fixture
def task(tmp_path):
    return Task(tmp_path)


def some_values(dtype):
    if dtype is dtypes.string:
        return np.array([b"", b"\x00\xff", "größer".encode(), b"x" * 300], object)
    if dtype is dtypes.bool:
        return np.array([True, False, True, True])
    return np.array([1, 2, 0, 3]).astype(dtype.as_numpy_dtype)


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
@pytest.mark.parametrize("shape", [(4,), (), (2, 2), (0, 3), (2, 1, 2)])
@pytest.mark.parametrize("dtype", ALL_TYPES, ids=lambda t: t.name)
def test_every_type_and_shape_comes_back(tmp_path, dtype, shape, layout):
    values = some_values(dtype)
    value = np.resize(values, shape) if np.prod(shape) else values[:0].reshape(shape)
    task = Task(tmp_path)
    variable = task.store.get_or_create("v", "", dtype, TensorShape(shape))
    variable.assign(value)
    Tasks(task).save("model", entry("v", dtype, shape), format=layout)
    variable.discard()
    Tasks(task).restore("model", entry("v", dtype, shape))
    found = task.get("v")
    assert found.dtype == value.dtype
    assert found.shape == shape
    assert np.array_equal(found, value)


@settings(max_examples=40, deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.int8, np.complex128, np.bool_, ml_dtypes.bfloat16]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
        elements=st.just(1),
    ),
    chunk_bytes=st.integers(1, 9),
)
def test_any_array_comes_back_in_chunks_of_any_size(tmp_path_factory, array, chunk_bytes):
    root = tmp_path_factory.mktemp("checkpoints")
    task = Task(root)
    array = array.copy()
    array.reshape(-1).view(np.uint8)[...] = np.arange(array.nbytes) % 2
    task.set(v=array)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("index_file", "shard"):
            patch.setattr(f"paramserve_core.checkpoint.{module}.CHUNK_BYTES", chunk_bytes)
        Tasks(task).save("model", *entries_of({"v": array}))
        other = Task(root)
        Tasks(other).restore("model", *entries_of({"v": array}))
    assert other.get("v").tobytes() == array.tobytes()


def test_restored_variable_needs_no_initialization_and_keeps_its_value(task, tmp_path):
    task.set(w=[1.0, 2.0])
    Tasks(task).save("model", *entries_of({"w": [1.0, 2.0]}))
    fresh = Task(tmp_path)
    Tasks(fresh).restore("model", *entries_of({"w": [1.0, 2.0]}))
    restored = fresh.store.find("w")
    assert restored.read().tolist() == [1.0, 2.0]
    restored.assign(np.array([3.0, 4.0]))
    assert restored.read().tolist() == [3.0, 4.0]


def test_snapshot_is_of_one_moment_however_long_the_write_takes(tmp_path):
    task = Task(tmp_path)
    task.set(a=np.zeros(4, np.float32), b=np.zeros(4, np.float32))
    entries = entries_of({"a": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)})
    original = task.call

    def update_after_snapshot(request, tensors=()):
        answer = original(request, tensors)
        if isinstance(request, messages.TakeSnapshotRequest):
            task.set(a=np.ones(4, np.float32), b=np.ones(4, np.float32))
        return answer

    task.call = update_after_snapshot
    Tasks(task).save("model", *entries)
    other = Task(tmp_path)
    Tasks(other).restore("model", *entries)
    assert [other.get(n).tolist() for n in "ab"] == [[0.0] * 4] * 2
    assert task.get("a").tolist() == [1.0] * 4


def test_updates_go_on_in_place_once_a_save_is_over(task):
    task.set(w=np.zeros(1000))
    Tasks(task).save("model", *entries_of({"w": np.zeros(1000)}))
    variable = task.store.find("w")
    address = variable.read().ctypes.data
    variable.assign(np.ones(1000))
    assert variable.read().ctypes.data == address


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
@pytest.mark.parametrize("shared", [False, True], ids=["own disks", "one disk"])
def test_tasks_restore_what_they_saved(tmp_path, shared, layout):
    tasks, (first, second) = two_tasks(tmp_path, shared=shared)
    first.set(a=[1.0])
    second.set(b=[2, 3])
    tasks.place = {"b": second.name}
    entries = entries_of({"a": [1.0], "b": [2, 3]})
    tasks.save("model", *entries, format=layout)
    first.set(a=[0.0])
    second.set(b=[0, 0])
    tasks.restore("model", *entries)
    assert (first.get("a").tolist(), second.get("b").tolist()) == ([1.0], [2, 3])


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
def test_restore_onto_another_placement_fetches_from_those_that_have_it(tmp_path, layout):
    tasks, (first, second) = two_tasks(tmp_path)
    first.set(a=np.arange(10.0), s=["x", "yy"])
    second.set(b=np.arange(5))
    tasks.place = {"b": second.name}
    entries = entries_of({"a": np.arange(10.0), "s": ["x", "yy"], "b": np.arange(5)})
    tasks.save("model", *entries, format=layout)
    tasks.place = {"a": second.name, "s": second.name}
    tasks.restore("model", *entries)
    assert second.get("a").tolist() == list(range(10))
    assert second.get("s").tolist() == [b"x", b"yy"]
    assert first.get("b").tolist() == list(range(5))


def test_restore_onto_a_single_task_of_another_cluster(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path, shared=True)
    first.set(a=[1.0])
    second.set(b=[2.0])
    tasks.place = {"b": second.name}
    tasks.save("model", *entries_of({"a": [1.0], "b": [2.0]}))
    alone = Task(first.root)
    Tasks(alone).restore("model", *entries_of({"a": [1.0], "b": [2.0]}))
    assert (alone.get("a").tolist(), alone.get("b").tolist()) == ([1.0], [2.0])


def cut(array, *boundaries, axis=0):
    """Parts of an array and their entries' slices."""
    edges = [0, *boundaries, array.shape[axis]]
    for low, high in itertools.pairwise(edges):
        offset = [0] * array.ndim
        offset[axis] = low
        part = np.take(array, range(low, high), axis)
        yield np.ascontiguousarray(part), (array.shape, offset, part.shape)


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.int64, object], ids=["float32", "int64", "string"]
)
@pytest.mark.parametrize(("saved_axis", "restored_axis"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_partitioned_variable_restores_into_any_partitioning(
    tmp_path, monkeypatch, layout, dtype, saved_axis, restored_axis
):
    for module in ("index_file", "shard"):
        monkeypatch.setattr(f"paramserve_core.checkpoint.{module}.CHUNK_BYTES", 24)
    full = np.arange(63).reshape(9, 7)
    full = full.astype(dtype) if dtype is not object else array_of(full.astype(str))
    element = as_dtype(full.dtype)
    tasks, (first, second) = two_tasks(tmp_path)
    entries = []
    for i, (part, where) in enumerate(cut(full, 2, 5, axis=saved_axis)):
        node = f"part{i}"
        tasks.place[node] = (first, second)[i % 2].name
        tasks.tasks[tasks.place[node]].set(**{node: part})
        entries.append(entry("table", element, part.shape, node=node, slice_of=where))
    tasks.save("model", *entries, format=layout)
    restored = []
    for i, (part, where) in enumerate(cut(full, 1, 4, axis=restored_axis)):
        node = f"other{i}"
        tasks.place[node] = (second, first)[i % 2].name
        restored.append((node, part))
        entries.append(entry("table", element, part.shape, node=node, slice_of=where))
    tasks.place["whole"] = first.name
    tasks.restore("model", *entries[3:], entry("table", element, full.shape, node="whole"))
    for node, part in restored:
        assert np.array_equal(tasks.tasks[tasks.place[node]].get(node), part), node
    assert np.array_equal(first.get("whole"), full)


def test_missing_key_is_named_with_those_that_resemble_it(task):
    task.set(v1=[1.0], v2=[2.0])
    tasks = Tasks(task)
    tasks.save("model", *entries_of({"v1": [1.0], "v2": [2.0]}))
    with pytest.raises(
        NotFoundError, match=r"Key v3 not found in checkpoint 'model'; it has 'v2'.*Saver\(\["
    ):
        tasks.restore("model", *entries_of({"v1": [1.0], "v3": [2.0]}))


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (entry("b", dtypes.float64, [3]), InvalidArgumentError, r"shape \(2,\).*\(3,\)"),
        (
            entry("b", dtypes.float32, [2]),
            InvalidArgumentError,
            "float64 in .*float32 in the graph",
        ),
        (entry("missing", dtypes.float64, [2]), NotFoundError, "Key missing not found"),
        (
            entry("b", dtypes.float64, [2], slice_of=([4], [0], [2])),
            InvalidArgumentError,
            r"shape \(2,\).*\(4,\)",
        ),
        (
            entry("b", dtypes.float64, [2], slice_of=([2], [1], [2])),
            InvalidArgumentError,
            "is no part",
        ),
    ],
    ids=["shape", "dtype", "key", "full shape", "slice"],
)
def test_restore_that_fails_changes_no_variable(tmp_path, bad, error, text):
    tasks, (first, second) = two_tasks(tmp_path)
    first.set(a=[1.0])
    second.set(b=[2.0, 3.0])
    tasks.place = {"b": second.name, "missing": second.name}
    entries = entries_of({"a": [1.0], "b": [2.0, 3.0]})
    tasks.save("model", *entries)
    first.set(a=[-1.0])
    second.set(b=[-2.0, -3.0])
    with pytest.raises(error, match=text):
        tasks.restore("model", entries[0], bad)
    assert (first.get("a").tolist(), second.get("b").tolist()) == ([-1.0], [-2.0, -3.0])


def test_restore_with_reshape_takes_as_many_elements_in_the_variables_shape(task):
    task.set(v=np.arange(6.0))
    tasks = Tasks(task)
    tasks.save("model", *entries_of({"v": np.arange(6.0)}))
    tasks.restore("model", entry("v", dtypes.float64, [2, 3], node="matrix", reshape=True))
    assert task.get("matrix").tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(InvalidArgumentError, match=r"shape \(6,\)"):
        tasks.restore("model", entry("v", dtypes.float64, [4], node="other", reshape=True))


@pytest.mark.parametrize(
    ("value", "restored"),
    [
        (np.arange(6.0), entry("v", dtypes.float64, [6])),
        (np.arange(6.0), entry("v", dtypes.float64, [2, 3], reshape=True)),
        (np.arange(6.0), entry("v", dtypes.float64, [2], slice_of=([6], [3], [2]))),
        (
            np.arange(6.0).reshape(2, 3),
            entry("v", dtypes.float64, slice_of=([2, 3], [0, 1], [2, 2])),
        ),
        (np.float64(3), entry("v", dtypes.float64, [])),
        (["a", "b"], entry("v", dtypes.string, [2])),
    ],
    ids=["same shape", "reshaped", "rows", "columns", "scalar", "strings"],
)
def test_what_was_read_of_a_restored_variable_stays_as_it_was(task, value, restored):
    """A reader holds a reference to the value, so an update must see it and copy."""
    task.set(v=value)
    tasks = Tasks(task)
    tasks.save("model", *entries_of({"v": value}))
    restored.node = "w"
    tasks.restore("model", restored)
    variable = task.store.find("w")
    read = variable.read()
    then = read.copy()
    variable.assign(then[...] + then[...])
    assert np.array_equal(read, then)
    assert np.array_equal(variable.read(), then + then)


def test_restore_beyond_the_memory_limit_changes_nothing(tmp_path):
    task = Task(tmp_path)
    task.set(v=np.zeros(100))
    Tasks(task).save("model", *entries_of({"v": np.zeros(100)}))
    small = Task(tmp_path)
    small.store = VariableStore(StoreBudget(limit_bytes=500))
    small.checkpoints = type(small.checkpoints)(small.store, small.name, tmp_path, small.runtime)
    with pytest.raises(ResourceExhaustedError, match="the limit is 500"):
        Tasks(small).restore("model", *entries_of({"v": np.zeros(100)}))
    assert small.get("v") is None
    assert small.store.budget.used_bytes == 0


def test_no_checkpoint_at_the_path(task):
    for path in ("nothing", "no/such/directory/model"):
        with pytest.raises(NotFoundError, match=rf"no checkpoint at '{path}'"):
            Tasks(task).restore(path, entry("v"))


def test_save_without_its_directory(task):
    task.set(v=[1.0])
    with pytest.raises(NotFoundError, match=r"Parent directory of a/model doesn't exist"):
        Tasks(task).save("a/model", *entries_of({"v": [1.0]}))


def test_save_of_an_uninitialized_variable_leaves_nothing(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path)
    first.set(a=[1.0])
    tasks.place = {"b": second.name}
    with pytest.raises(FailedPreconditionError, match="uninitialized value b"):
        tasks.save("model", *entries_of({"a": [1.0], "b": [1.0]}))
    assert names_in(first.root) == names_in(second.root) == []


def test_save_without_variables_is_refused(task):
    with pytest.raises(InvalidArgumentError, match="no variables to save"):
        Tasks(task).save("model")


NAMES = [
    "a/b/c",
    "größe/ß",
    "重み" * 2000,
    "\U0001f9e0" * 4000,
    "x" * 4000,
    "[0:1]",
    "../x",
    "a b\n",
]


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
def test_variable_may_have_any_name(task, layout):
    values = {name: np.arange(3.0) + i for i, name in enumerate(NAMES)}
    task.set(**values)
    Tasks(task).save("model", *entries_of(values), format=layout)
    task.set(**{name: np.zeros(3) for name in NAMES})
    Tasks(task).restore("model", *entries_of(values))
    for name, value in values.items():
        assert np.array_equal(task.get(name), value)
    assert list(task.root.rglob("*/*")) == []


@pytest.mark.parametrize("layout", [0, V2], ids=["own", "bundle"])
@pytest.mark.parametrize("name", ["x" * 207, "ß" * 103, "model.ckpt-1.data", "m-00000", ".m"])
def test_checkpoint_may_have_any_name_that_the_disk_takes(task, name, layout):
    tasks = Tasks(task)
    for value in (1.0, 2.0):
        task.set(v=[value])
        tasks.save(name, *entries_of({"v": [value]}), format=layout)
    task.set(v=[0.0])
    tasks.restore(name, *entries_of({"v": [0.0]}))
    assert task.get("v").tolist() == [2.0]


def test_the_name_of_the_header_of_a_tensorflow_checkpoint_is_refused(tmp_path):
    tasks, (first, _) = two_tasks(tmp_path)
    first.set(a=[1.0])
    with pytest.raises(InvalidArgumentError, match="under the empty name, which in TensorFlow's"):
        tasks.save("model", entry("", dtypes.float64, [1], node="a"), format=V2)
    assert names_in(first.root) == []


def test_two_variables_under_one_name_are_refused(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path)
    first.set(a=[1.0])
    second.set(b=[2.0])
    tasks.place = {"b": second.name}
    same = [entry("v", dtypes.float64, [1], node=n) for n in "ab"]
    with pytest.raises(InvalidArgumentError, match=r"v: the variables of this name hold"):
        tasks.save("model", *same)
    assert names_in(first.root) == names_in(second.root) == []


def test_v1_is_not_written(task):
    task.set(v=[1.0])
    with pytest.raises(UnimplementedError, match="are read, not written"):
        Tasks(task).save("model", *entries_of({"v": [1.0]}), format=V1)


def test_many_threads_restore_at_once(tmp_path):
    task = Task(tmp_path)
    values = {f"v{i}": np.full(50, i, np.float32) for i in range(20)}
    task.set(**values)
    Tasks(task).save("model", *entries_of(values))
    errors = []

    def restore():
        try:
            Tasks(task).restore("model", *entries_of(values))
        except OpError as error:
            errors.append(error)

    threads = [threading.Thread(target=restore) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for name, value in values.items():
        assert np.array_equal(task.get(name), value)


def test_other_formats_readers_see_our_tensors(task):
    from safetensors.numpy import load_file

    values = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "i": np.array([1, -2], np.int16),
        "f": np.array([True, False]),
        "c": np.array([1 + 2j], np.complex64),
    }
    task.set(**values)
    Tasks(task).save("model", *entries_of(values))
    shard = next(n for n in names_in(task.root) if n.endswith(".safetensors"))
    loaded = load_file(task.root / shard)
    for name in "wif":
        assert np.array_equal(loaded[name], values[name])
    assert loaded["c"].tolist() == [[1.0, 2.0]]
