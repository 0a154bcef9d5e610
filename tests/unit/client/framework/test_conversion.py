"""What becomes a tensor, and how a type says that it does."""

import numpy as np
import pytest

from paramserve._framework import convert
from paramserve._framework.convert import (
    convert_n_to_tensor,
    convert_to_tensor,
    convert_to_tensor_or_indexed_slices,
    register_tensor_conversion_function,
)
from paramserve._framework.graph import Graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve_core import dtypes
from paramserve_core.dimensions import Dimension
from paramserve_core.dtypes import float32, float64, int32, int64
from paramserve_core.shapes import TensorShape


@pytest.fixture(autouse=True)
def graph():
    with Graph().as_default() as graph:
        yield graph


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry that is gone after the test."""
    monkeypatch.setattr(convert, "_FUNCTIONS", list(convert._FUNCTIONS))


def value_of(tensor):
    return tensor.op.attrs["value"]


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, int32),
        (2**40, int64),
        (1.5, float32),
        (True, dtypes.bool),
        ("text", dtypes.string),
        ([[1, 2], [3, 4]], int32),
        ([], float32),
        (np.float64(1), float64),
        (np.zeros((2, 0), np.int8), dtypes.int8),
        (1j, dtypes.complex128),
    ],
)
def test_a_value_has_the_type_that_tensorflow_gives_it(value, dtype):
    tensor = convert_to_tensor(value)
    assert tensor.dtype is dtype
    assert tensor.op.type == "Const"
    assert tensor.shape == np.shape(value)


def test_a_tensor_stays_what_it_is():
    x = convert_to_tensor(1.0)
    assert convert_to_tensor(x) is x
    assert convert_to_tensor(x, float32) is x
    with pytest.raises(ValueError, match="requested dtype int32 for Tensor with dtype float32"):
        convert_to_tensor(x, int32)


def test_a_type_may_be_wanted_or_preferred():
    assert convert_to_tensor(1, float32).dtype is float32
    assert convert_to_tensor(1, "float64").dtype is float64
    assert convert_to_tensor(1, preferred_dtype=float32).dtype is float32
    assert convert_to_tensor(1.5, preferred_dtype=int32).dtype is float32
    with pytest.raises(TypeError, match=r"Expected int32, but got 1\.5"):
        convert_to_tensor(1.5, int32)


def test_names_are_given_and_numbered():
    assert convert_to_tensor(1).op.name == "Const"
    assert convert_to_tensor(1, name="c").op.name == "c"
    assert [t.op.name for t in convert_n_to_tensor([1, 2], name="part")] == ["part_0", "part_1"]


def test_a_list_with_tensors_in_it_is_their_stack():
    x = convert_to_tensor(2.0, float64)
    packed = convert_to_tensor([1, x])
    assert (packed.op.type, packed.dtype, packed.shape) == ("Pack", float64, TensorShape([2]))
    nested = convert_to_tensor([[1, x], [x, 3]])
    assert (nested.op.type, nested.dtype, nested.shape) == ("Pack", float64, TensorShape([2, 2]))
    with pytest.raises(ValueError, match="requested dtype float64 for Tensor with dtype int32"):
        convert_to_tensor([x, convert_to_tensor(1)])


def test_known_shapes_are_tensors():
    shape = convert_to_tensor(TensorShape([2, 3]))
    assert (shape.dtype, value_of(shape).tolist()) == (int32, [2, 3])
    assert convert_to_tensor(TensorShape([2]), int64).dtype is int64
    size = convert_to_tensor(Dimension(3), int64)
    assert (size.dtype, value_of(size).tolist()) == (int64, 3)
    with pytest.raises(ValueError, match="partially known TensorShape"):
        convert_to_tensor(TensorShape([None, 2]))
    with pytest.raises(ValueError, match="unknown Dimension"):
        convert_to_tensor(Dimension(None))
    with pytest.raises(TypeError, match="becomes int32 or int64, not float32"):
        convert_to_tensor(TensorShape([2]), float32)
    with pytest.raises(TypeError, match="becomes int32 or int64, not float32"):
        convert_to_tensor(Dimension(2), float32)


def test_indexed_slices_stay_what_they_are_where_that_is_allowed():
    slices = IndexedSlices(convert_to_tensor([[1.0]]), convert_to_tensor([0]))
    assert convert_to_tensor_or_indexed_slices(slices) is slices
    assert convert_to_tensor_or_indexed_slices(slices, float32) is slices
    assert convert_to_tensor_or_indexed_slices(1.0).dtype is float32
    with pytest.raises(ValueError, match="requested dtype int32 for IndexedSlices with dtype"):
        convert_to_tensor_or_indexed_slices(slices, int32)


# Registered types.


class Celsius:
    def __init__(self, degrees):
        self.degrees = degrees


def test_a_type_says_how_it_becomes_a_tensor(registry):
    calls = []

    def to_tensor(value, dtype=None, name=None, as_ref=False):
        calls.append((dtype, name, as_ref))
        return convert_to_tensor(value.degrees, dtype, name)

    register_tensor_conversion_function(Celsius, to_tensor)
    assert value_of(convert_to_tensor(Celsius(21.0), float64, "t", as_ref=True)) == 21
    assert calls == [(float64, "t", True)]


def test_functions_are_tried_by_priority_until_one_answers(registry):
    tried = []

    def declines(value, dtype=None, name=None, as_ref=False):
        tried.append("declines")
        return NotImplemented

    def answers(value, dtype=None, name=None, as_ref=False):
        tried.append("answers")
        return convert_to_tensor(1.0)

    register_tensor_conversion_function(Celsius, answers, priority=20)
    register_tensor_conversion_function((Celsius, complex), declines, priority=10)
    convert_to_tensor(Celsius(1))
    assert tried == ["declines", "answers"]


def test_a_function_that_answers_something_else_is_found_out(registry):
    register_tensor_conversion_function(Celsius, lambda value, **_: 1.0)
    with pytest.raises(RuntimeError, match=r"answered 1\.0, which is no Tensor"):
        convert_to_tensor(Celsius(1))


def test_a_function_that_ignores_the_type_is_found_out(registry):
    register_tensor_conversion_function(Celsius, lambda value, **_: convert_to_tensor(1.0))
    with pytest.raises(TypeError, match="answered float32, wanted int32"):
        convert_to_tensor(Celsius(1), int32)


def test_what_cannot_be_registered_is_refused(registry):
    with pytest.raises(TypeError, match="must be a type or a tuple of types"):
        register_tensor_conversion_function("Celsius", lambda value: None)
    with pytest.raises(TypeError, match="must be callable"):
        register_tensor_conversion_function(Celsius, 3)


@pytest.mark.parametrize("value", [object(), {"a": 1}, {1, 2}, [object()], [1, "a"]])
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(TypeError):
        convert_to_tensor(value)
