"""Our op definitions against those in TensorFlow's own registry."""

import pytest

import kernel_driver
from paramserve_core import dtypes
from paramserve_core.opdefs import all_ops
from paramserve_core.opdefs.registry import REQUIRED

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def tf():
    return kernel_driver.tensorflow()


@pytest.fixture
def theirs(tf, op):
    from tensorflow.python.framework import op_def_registry

    found = op_def_registry.get(op)
    if found is None:
        pytest.skip(f"TensorFlow has no op {op}")
    return found


def our_args(args):
    return [
        (arg.name, arg.type_attr or arg.type_list_attr or arg.dtype, arg.number_attr, arg.is_ref)
        for arg in args
    ]


def their_args(args):
    return [
        (
            arg.name,
            arg.type_attr or arg.type_list_attr or dtypes.as_edge_type(arg.type),
            arg.number_attr or None,
            arg.is_ref,
        )
        for arg in args
    ]


@pytest.mark.parametrize("op", all_ops())
def test_an_op_has_tensorflows_arguments(theirs, op):
    ours = all_ops()[op]
    assert our_args(ours.inputs) == their_args(theirs.input_arg)
    assert our_args(ours.outputs) == their_args(theirs.output_arg)


@pytest.mark.parametrize("op", all_ops())
def test_an_op_has_tensorflows_attributes(theirs, op):
    ours = all_ops()[op].attrs
    assert set(ours) == {attr.name for attr in theirs.attr}
    for attr in theirs.attr:
        mine = ours[attr.name]
        assert ("list(" in attr.type, attr.minimum if attr.has_minimum else None) == (
            mine.is_list,
            mine.minimum,
        )
        if mine.kind == "type" and attr.allowed_values.list.type:
            assert {t.as_datatype_enum for t in mine.allowed} <= set(attr.allowed_values.list.type)
        assert attr.HasField("default_value") == (mine.default is not REQUIRED)
        if attr.HasField("default_value"):
            assert plain(attr.default_value) == pytest.approx(in_numbers(mine.default))


def plain(value):
    """A default in TensorFlow's message as Python's value."""
    kind = value.WhichOneof("value")
    if kind == "list":
        return [item for _, items in value.list.ListFields() for item in items]
    if kind == "shape":
        return None if value.shape.unknown_rank else [dim.size for dim in value.shape.dim]
    return value.s.decode() if kind == "s" else getattr(value, kind)


def in_numbers(default):
    """A default in our table in the same form."""
    if isinstance(default, dtypes.DType):
        return default.as_datatype_enum
    if isinstance(default, tuple | list):
        return [in_numbers(item) for item in default]
    if hasattr(default, "as_proto"):
        return None if default.ndims is None else default.as_list()
    return default
