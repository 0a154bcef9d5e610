"""From what a program writes to tensors.

A type says how it becomes a tensor with `register_tensor_conversion_function`; everything else
becomes a constant.

Thread rule: the registry is filled while modules are imported, and by programs before they use it;
conversion adds to the graph of the calling thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from paramserve._framework.graph import get_default_graph
from paramserve._framework.indexed_slices import IndexedSlices
from paramserve._framework.tensor import Tensor
from paramserve_core.dimensions import Dimension
from paramserve_core.dtypes import DType, as_dtype, int32, int64
from paramserve_core.opdefs import find_op
from paramserve_core.shapes import TensorShape
from paramserve_core.values import as_ndarray

ConversionFunction = Callable[..., Any]

_FUNCTIONS: Final[list[tuple[int, int, Any, ConversionFunction]]] = []


def register_tensor_conversion_function(
    base_type: Any, conversion_func: ConversionFunction, priority: int = 100
) -> None:
    """Says how objects of a type become tensors.

    Args:
        base_type: a type or a tuple of types.
        conversion_func: called with the value and the keywords `dtype`, `name` and `as_ref`;
            answers a Tensor, or NotImplemented to let the next function try.
        priority: functions of a smaller priority are tried first, equal ones in order.

    Raises:
        TypeError: `base_type` is no type, or `conversion_func` cannot be called.
    """
    types = base_type if isinstance(base_type, tuple) else (base_type,)
    if not types or not all(isinstance(t, type) for t in types):
        raise TypeError("base_type must be a type or a tuple of types.")
    if not callable(conversion_func):
        raise TypeError("conversion_func must be callable.")
    _FUNCTIONS.append((priority, len(_FUNCTIONS), base_type, conversion_func))
    _FUNCTIONS.sort(key=lambda entry: entry[:2])


def convert_to_tensor(
    value: Any,
    dtype: Any = None,
    name: str | None = None,
    as_ref: bool = False,
    preferred_dtype: Any = None,
) -> Tensor:
    """Makes a tensor of `value`.

    Args:
        value: a Tensor, a Variable, an array, a number, text, or a nested list of those.
        dtype: the type wanted; that of the value by default.
        name: the name of the op, if one is made.
        as_ref: a variable becomes its reference.
        preferred_dtype: the type to try first when `dtype` is None.

    Raises:
        TypeError: the value cannot become a tensor of that type.
        ValueError: it is a tensor of another type.
    """
    wanted = None if dtype is None else as_dtype(dtype).base_dtype
    if isinstance(value, Tensor):
        if wanted is not None and value.dtype.base_dtype is not wanted:
            raise ValueError(
                f"Tensor conversion requested dtype {wanted.name} for Tensor with dtype "
                f"{value.dtype.name}: {value!r}"
            )
        return value
    if wanted is None and preferred_dtype is not None:
        try:
            return _converted(value, as_dtype(preferred_dtype).base_dtype, name, as_ref)
        except (TypeError, ValueError, OverflowError):
            return _converted(value, None, name, as_ref)
    return _converted(value, wanted, name, as_ref)


def _converted(value: Any, dtype: DType | None, name: str | None, as_ref: bool) -> Tensor:
    for _, _, base_type, function in _FUNCTIONS:
        if not isinstance(value, base_type):
            continue
        result = function(value, dtype=dtype, name=name, as_ref=as_ref)
        if result is NotImplemented:
            continue
        if not isinstance(result, Tensor):
            raise RuntimeError(
                f"the conversion function of {base_type} answered {result!r}, which is no Tensor"
            )
        if dtype is not None and result.dtype.base_dtype is not dtype:
            raise TypeError(
                f"the conversion function of {base_type} answered {result.dtype.name}, wanted "
                f"{dtype.name}"
            )
        return result
    return constant_tensor(as_ndarray(value, dtype), name or "Const")


def constant_tensor(array: Any, name: str) -> Tensor:
    """A constant of that value in the default graph."""
    definition = find_op("Const")
    assert definition is not None
    array = np.asarray(array)
    if array.flags.writeable:
        array = array.copy()  # the caller may go on writing to his
        array.flags.writeable = False
    attrs = {"value": array, "dtype": as_dtype(array.dtype)}
    return get_default_graph().add_operation(definition, attrs, (), name).values()[0]


def convert_to_tensor_or_indexed_slices(
    value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor | IndexedSlices:
    """Makes a tensor of `value`, but leaves an IndexedSlices as it is.

    Raises:
        TypeError: the value cannot become a tensor of that type.
        ValueError: it is of another type.
    """
    if isinstance(value, IndexedSlices):
        if dtype is not None and not as_dtype(dtype).is_compatible_with(value.dtype):
            raise ValueError(
                f"Tensor conversion requested dtype {as_dtype(dtype).name} for IndexedSlices with "
                f"dtype {value.dtype.name}"
            )
        return value
    return convert_to_tensor(value, dtype, name, as_ref)


def convert_n_to_tensor(
    values: Sequence[Any],
    dtype: Any = None,
    name: str | None = None,
    as_ref: bool = False,
    preferred_dtype: Any = None,
) -> list[Tensor]:
    """Makes a tensor of each of `values`; see `convert_to_tensor`."""
    return [
        convert_to_tensor(
            value, dtype, None if name is None else f"{name}_{i}", as_ref, preferred_dtype
        )
        for i, value in enumerate(values)
    ]


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(item) for item in value)
    return isinstance(value, Tensor) or hasattr(value, "_as_graph_element")


def _from_sequence(
    value: Any, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Any:
    """A list with tensors in it becomes their stack."""
    if not _holds_tensor(value):
        return NotImplemented
    from paramserve._framework.apply import apply_op

    if dtype is None:
        dtype = next((t for t in map(_dtype_in, value) if t is not None), None)
    items = [convert_to_tensor(item, dtype) for item in value]
    return apply_op("Pack", name or "packed", values=items)


def _dtype_in(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return next((t for t in map(_dtype_in, value) if t is not None), None)
    return value.dtype.base_dtype if _holds_tensor(value) else None


def _from_shape(
    value: TensorShape, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    if not value.is_fully_defined():
        raise ValueError(f"Cannot convert a partially known TensorShape to a Tensor: {value}")
    if dtype not in (None, int32, int64):
        raise TypeError(f"a TensorShape becomes int32 or int64, not {as_dtype(dtype).name}")
    sizes = np.array(value.as_list(), (dtype or int32).as_numpy_dtype)
    return constant_tensor(sizes, name or "shape_as_tensor")


def _from_dimension(
    value: Dimension, dtype: Any = None, name: str | None = None, as_ref: bool = False
) -> Tensor:
    if value.value is None:
        raise ValueError(f"Cannot convert an unknown Dimension to a Tensor: {value}")
    if dtype not in (None, int32, int64):
        raise TypeError(f"a Dimension becomes int32 or int64, not {as_dtype(dtype).name}")
    size = np.array(value.value, (dtype or int32).as_numpy_dtype)
    return constant_tensor(size, name or "shape_as_tensor")


register_tensor_conversion_function((list, tuple), _from_sequence, 99)
register_tensor_conversion_function(TensorShape, _from_shape)
register_tensor_conversion_function(Dimension, _from_dimension)
