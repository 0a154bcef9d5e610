"""What can be known of a tensor's value while the graph is built.

Shapes are often computed in the graph (`shape(x)`, a slice of it, a product), and a shape function
that knows them can say more. Small pure ops on known values are computed here by the very kernels
that a session runs.

Thread rule: reads the graph; operations that are in it do not change.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve._framework.tensor import Tensor
from paramserve_core.errors import OpError
from paramserve_core.kernels import KernelNode, find_kernel
from paramserve_core.shapes import TensorShape

Array = NDArray[Any]

_MAX_ELEMENTS: Final = 4096
_MAX_DEPTH: Final = 64

_FOLDABLE: Final = frozenset(
    [
        "Add",
        "AddV2",
        "Sub",
        "Mul",
        "RealDiv",
        "Div",
        "FloorDiv",
        "FloorMod",
        "Mod",
        "Maximum",
        "Minimum",
        "Neg",
        "Abs",
        "Square",
        "Equal",
        "NotEqual",
        "Less",
        "LessEqual",
        "Greater",
        "GreaterEqual",
        "LogicalAnd",
        "LogicalOr",
        "LogicalNot",
        "Cast",
        "Concat",
        "ConcatV2",
        "Pack",
        "ExpandDims",
        "Squeeze",
        "Reshape",
        "Identity",
        "Fill",
        "Range",
        "Slice",
        "StridedSlice",
        "Gather",
        "GatherV2",
        "Prod",
        "Sum",
        "Max",
        "Min",
        "All",
        "Any",
        "BroadcastGradientArgs",
        "InvertPermutation",
        "ZerosLike",
        "OnesLike",
        "ConcatOffset",
        "Where",
        "Select",
        "Transpose",
        "Split",
        "Unpack",
        "DynamicStitch",
        "Tile",
    ]
)


def constant_value(tensor: Tensor) -> Array | None:
    """The value of a tensor where it is known while the graph is built, else None.

    Known are constants, static shapes, and small results of pure ops on such.

    Args:
        tensor: any tensor.

    Returns:
        A read-only array, or None.
    """
    value = _value(tensor, _MAX_DEPTH)
    if value is not None and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def _value(tensor: Tensor, depth: int) -> Array | None:
    op = tensor.op
    if op.type == "Const":
        value: Array = op.attrs["value"]
        return value
    if not depth or op.control_inputs:
        return None
    if op.type in ("Shape", "Size", "Rank"):
        return _static_shape_value(tensor)
    if op.type == "ShapeN":
        shape = op.inputs[tensor.value_index].shape
        if not shape.is_fully_defined():
            return None
        return np.array(shape.as_list(), op.attrs["out_type"].as_numpy_dtype)
    if op.type not in _FOLDABLE or not _is_small(tensor):
        return None
    kernel = find_kernel(op.type)
    if kernel is None or kernel.takes_step:
        return None
    inputs = []
    for source in op.inputs:
        value_or_none = _value(source, depth - 1)
        if value_or_none is None or value_or_none.size > _MAX_ELEMENTS:
            return None
        inputs.append(value_or_none)
    node = KernelNode(
        name=op.name,
        op=op.type,
        attrs=op.attrs,
        input_dtypes=op.definition.input_dtypes(op.attrs),
        output_dtypes=op.definition.output_dtypes(op.attrs),
    )
    try:
        outputs = kernel.function(node, *inputs)
    except OpError:
        return None
    if len(op.values()) > 1:
        outputs = outputs[tensor.value_index]
    return np.asarray(outputs)


def _static_shape_value(tensor: Tensor) -> Array | None:
    op = tensor.op
    shape = op.inputs[0].shape
    if op.type == "Rank":
        return None if shape.ndims is None else np.array(shape.ndims, np.int32)
    if not shape.is_fully_defined():
        return None
    dtype = op.attrs["out_type"].as_numpy_dtype
    if op.type == "Shape":
        return np.array(shape.as_list(), dtype)
    return np.array(shape.num_elements(), dtype)


def _is_small(tensor: Tensor) -> bool:
    """Whether the result may be computed here; one whose size is not known yet may be."""
    count = tensor.shape.num_elements() if tensor.shape.is_fully_defined() else 0
    return count is not None and count <= _MAX_ELEMENTS


def constant_value_as_shape(tensor: Tensor) -> TensorShape:
    """A 1-D integer tensor read as a shape, as far as its elements are known.

    An element of -1 is an unknown dimension.

    Raises:
        ValueError: an element is below -1, or the tensor is no vector.
    """
    shape = tensor.shape
    if shape.ndims is not None and shape.ndims != 1:
        value = constant_value(tensor)
        if shape.ndims == 0 and value is not None and value == -1:
            return TensorShape(None)
        raise ValueError(f"a shape must be a vector, '{tensor.name}' has shape {shape}")
    value = constant_value(tensor)
    if value is not None:
        return TensorShape([_dimension(int(size), tensor) for size in value])
    op = tensor.op
    if op.type == "Shape":
        return op.inputs[0].shape
    if op.type == "Pack" and op.attrs["axis"] == 0:
        return TensorShape([_known_scalar(source) for source in op.inputs])
    if op.type in ("ConcatV2", "Concat"):
        parts = op.inputs[:-1] if op.type == "ConcatV2" else op.inputs[1:]
        joined = TensorShape([])
        for part in parts:
            joined = joined.concatenate(constant_value_as_shape(part))
        return joined
    if op.type in ("Identity", "Cast"):
        return constant_value_as_shape(op.inputs[0])
    if op.type == "StridedSlice":
        sliced = _sliced_shape(tensor)
        if sliced is not None:
            return sliced
    if op.type == "Placeholder" or shape.ndims is None or shape[0].value is None:
        length = shape[0].value if shape.ndims == 1 else None
        return TensorShape(None) if length is None else TensorShape([None] * length)
    return TensorShape([None] * shape[0].value)


def _dimension(size: int, tensor: Tensor) -> int | None:
    if size < -1:
        raise ValueError(
            f"'{tensor.name}' has {size}; a dimension is at least 0, or -1 for unknown"
        )
    return None if size == -1 else size


def _known_scalar(tensor: Tensor) -> int | None:
    value = constant_value(tensor)
    if value is not None and value.shape == ():
        return _dimension(int(value), tensor)
    # One element of a shape: shape(x)[0].
    if tensor.op.type == "StridedSlice":
        sliced = _sliced_shape(tensor)
        if sliced is not None and sliced.ndims == 1:
            return sliced[0].value
    return None


def _sliced_shape(tensor: Tensor) -> TensorShape | None:
    """`shape[begin:end]` or `shape[i]` with known bounds, of a shape known in part."""
    op = tensor.op
    begin, end, strides = (constant_value(source) for source in op.inputs[1:4])
    masks = [op.attrs[m] for m in ("ellipsis_mask", "new_axis_mask")]
    if begin is None or end is None or strides is None or any(masks) or begin.shape != (1,):
        return None
    whole = constant_value_as_shape(op.inputs[0])
    if whole.ndims is None:
        return None
    dims = whole.as_list()
    first, last, stride = int(begin[0]), int(end[0]), int(strides[0])
    if op.attrs["shrink_axis_mask"] & 1:
        if not -len(dims) <= first < len(dims):
            return None
        return TensorShape([dims[first]])
    if stride == 0:
        return None
    start = None if op.attrs["begin_mask"] & 1 else first
    stop = None if op.attrs["end_mask"] & 1 else last
    return TensorShape(dims[start:stop:stride])
