"""Restoring into variables of other types."""

import itertools

import ml_dtypes
import numpy as np
import pytest

from checkpoint_tasks import Task, Tasks, entries_of, entry, two_tasks
from paramserve_core import dtypes
from paramserve_core.checkpoint.casting import cast, may_cast
from paramserve_core.errors import InvalidArgumentError
from paramserve_protos.v1 import checkpoint_service_pb2 as messages

FORMATS = [messages.CHECKPOINT_FORMAT_SAFETENSORS, messages.CHECKPOINT_FORMAT_TENSORFLOW_V2]
NUMBERS = [
    dtypes.bool,
    dtypes.int8,
    dtypes.uint16,
    dtypes.int64,
    dtypes.bfloat16,
    dtypes.float16,
    dtypes.float64,
    dtypes.complex64,
]


def cast_entry(key, dtype, shape, **options):
    made = entry(key, dtype, shape, **options)
    made.cast = True
    return made


@pytest.mark.parametrize(("stored", "wanted"), list(itertools.product(NUMBERS, NUMBERS)))
def test_types_are_cast_by_the_rule_of_the_same_kind(stored, wanted):
    kinds = {"b": 0, "i": 1, "u": 1, "f": 2, "V": 2, "c": 3}
    ranks = [kinds[np.dtype(t.as_numpy_dtype).kind] for t in (stored, wanted)]
    assert may_cast(stored, wanted) == (ranks[0] <= ranks[1])
    if may_cast(stored, wanted):
        ones = np.ones([2, 3], stored.as_numpy_dtype)
        made = cast(ones, stored, wanted, "v")
        assert made.dtype == wanted.as_numpy_dtype
        assert made.shape == (2, 3)
        assert (made == 1).all()


@pytest.mark.parametrize("other", NUMBERS)
def test_strings_are_never_cast(other):
    assert not may_cast(dtypes.string, other)
    assert not may_cast(other, dtypes.string)


@pytest.mark.parametrize(
    ("value", "stored", "wanted"),
    [
        (300, dtypes.int64, dtypes.int8),
        (-1, dtypes.int32, dtypes.uint64),
        (2**63, dtypes.uint64, dtypes.int64),
        (1e39, dtypes.float64, dtypes.float32),
        (1e5, dtypes.float32, dtypes.float16),
        (3.4e38, dtypes.float32, dtypes.bfloat16),
        (70000, dtypes.int32, dtypes.float16),
    ],
)
def test_a_number_that_would_become_another_one_is_refused(value, stored, wanted):
    array = np.array([0, value], stored.as_numpy_dtype)
    with pytest.raises(InvalidArgumentError, match=f"out of the range of {wanted.name}") as raised:
        cast(array, stored, wanted, "v")
    assert raised.value.message.startswith(f"v: {array[1]} of the checkpoint's {stored.name}")


def test_what_is_no_finite_number_stays_so():
    array = np.array([np.nan, np.inf, -np.inf, 1.5])
    made = cast(array, dtypes.float64, dtypes.bfloat16, "v")
    np.testing.assert_array_equal(made.astype(np.float64), array)


def test_no_elements_are_in_every_range():
    assert cast(np.empty(0, np.int64), dtypes.int64, dtypes.int8, "v").dtype == np.int8


@pytest.mark.parametrize("layout", FORMATS)
def test_a_restore_that_asks_for_it_casts(tmp_path, layout):
    task = Task(tmp_path)
    values = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, -2]), "c": np.float32(0.1)}
    task.set(**values)
    tasks = Tasks(task)
    tasks.save("model", *entries_of(values), format=layout)
    tasks.restore(
        "model",
        cast_entry("a", dtypes.bfloat16, [3, 2], node="x", reshape=True),
        cast_entry("b", dtypes.int8, [2], node="y"),
        cast_entry("c", dtypes.float32, [], node="z"),
    )
    assert task.get("x").dtype == ml_dtypes.bfloat16
    assert task.get("x").tolist() == [[0, 1], [2, 3], [4, 5]]
    assert (task.get("y").dtype, task.get("y").tolist()) == (np.int8, [1, -2])
    assert task.get("z") == np.float32(0.1)


def test_parts_from_another_task_are_cast(tmp_path):
    tasks, (first, second) = two_tasks(tmp_path)
    first.set(v=[1.0, 2.0, 3.0])
    tasks.save("model", entry("v", dtypes.float64, [3]))
    tasks.place = {"half": second.name}
    tasks.restore(
        "model",
        cast_entry("v", dtypes.float32, None, node="half", slice_of=([3], [1], [2])),
    )
    assert second.get("half").tolist() == [2.0, 3.0]
    assert second.get("half").dtype == np.float32


@pytest.mark.parametrize(
    ("wanted", "text"),
    [(dtypes.float32, r"restore with Saver\(cast=True\)"), (dtypes.int64, "cannot be cast")],
)
def test_a_type_that_differs_is_an_error_with_advice(tmp_path, wanted, text):
    task = Task(tmp_path)
    task.set(v=[1.0])
    tasks = Tasks(task)
    tasks.save("model", entry("v", dtypes.float64, [1]))
    with pytest.raises(InvalidArgumentError, match=text):
        tasks.restore("model", entry("v", wanted, [1], node="w"))


def test_a_restore_with_a_number_out_of_range_changes_no_variable(tmp_path):
    task = Task(tmp_path)
    task.set(a=[1.0], b=[1e300], x=[5.0])
    tasks = Tasks(task)
    tasks.save("model", entry("a", dtypes.float64, [1]), entry("b", dtypes.float64, [1]))
    with pytest.raises(InvalidArgumentError, match="b: 1e\\+300 of the checkpoint's float64"):
        tasks.restore(
            "model",
            entry("a", dtypes.float64, [1], node="x"),
            cast_entry("b", dtypes.float32, [1], node="y"),
        )
    assert task.get("x").tolist() == [5.0]
