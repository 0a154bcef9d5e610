"""What can be known of a tensor's value while the graph is built.

Shapes are often computed in the graph (`shape(x)`, a slice of it, a product), and a shape function
that knows them can say more. Small pure ops on known values are computed here by the very kernels
that a session runs. Of a tensor that is read as a shape, single elements may be known.

One question looks at a bounded number of operations and computes bounded arrays, so that adding an
operation costs the same in a large graph as in a small one, and in a stranger's graph.

Thread rule: reads the graph; operations that are in it do not change.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve_core.errors import OpError
from paramserve_core.kernels import KernelNode, find_kernel
from paramserve_core.shapes import TensorShape

Array = NDArray[Any]

_MAX_ELEMENTS: Final = 4096
_MAX_DEPTH: Final = 32
_MAX_OPERATIONS: Final = 256

_FAMILIES: Final = frozenset(["array", "indexing", "math", "math_reduce", "math_sequence"])
_NEVER: Final = frozenset(["PlaceholderWithDefault"])
# Their results are no larger than their inputs, and their static shapes are not known.
_SHRINKING: Final = frozenset(["BroadcastGradientArgs", "ListDiff", "Unique", "Where"])


def constant_value(tensor: Tensor) -> Array | None:
    """The value of a tensor where it is known while the graph is built, else None.

    Known are constants, static shapes, and small results of pure ops on such. Where it is known
    the tensor can no longer be fed, because the caller builds his graph for this value.

    Args:
        tensor: any tensor.

    Returns:
        A read-only array, or None.
    """
    value = known_value(tensor)
    if value is not None:
        tensor.graph.prevent_feeding(tensor)
    return value


def known_value(tensor: Tensor) -> Array | None:
    """`constant_value` for a caller that can do with the value being fed otherwise."""
    value = _Question().value(tensor, _MAX_DEPTH)
    if value is not None and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def constant_value_as_shape(tensor: Tensor) -> TensorShape:
    """A 1-D integer tensor read as a shape, as far as its elements are known.

    An element of -1 is an unknown dimension, and a scalar -1 an unknown shape.

    Args:
        tensor: an int32 or int64 tensor of shape `[rank]`.

    Raises:
        ValueError: an element is below -1, or the tensor is no vector.
    """
    if tensor.shape.ndims not in (None, 1):
        value = known_value(tensor)
        if tensor.shape.ndims == 0 and value is not None and value == -1:
            return TensorShape(None)
        raise ValueError(f"a shape must be a vector, '{tensor.name}' has shape {tensor.shape}")
    return _Question().shape(tensor, _MAX_DEPTH)


class _Question:
    """What one question has found so far, and how much further it may look."""

    def __init__(self) -> None:
        self._values: dict[Tensor, Array | None] = {}
        self._operations_left = _MAX_OPERATIONS

    def value(self, tensor: Tensor, depth: int) -> Array | None:
        """The value of a tensor, or None."""
        if tensor.op.type == "Const":
            value: Array = tensor.op.attrs["value"]
            return value
        if tensor in self._values:
            return self._values[tensor]
        result = None
        if depth and self._operations_left:
            self._operations_left -= 1
            result = self._computed(tensor, depth)
        self._values[tensor] = result
        return result

    def _computed(self, tensor: Tensor, depth: int) -> Array | None:
        op = tensor.op
        if op.type in ("Shape", "ShapeN", "Size", "Rank"):
            return _of_static_shape(tensor)
        if op.type == "StridedSlice" and op.inputs[0].op.type == "Shape":
            part = self._sliced(op, depth)
            if part is not None and part.is_fully_defined():
                sizes = np.array(part.as_list(), tensor.dtype.as_numpy_dtype)
                return sizes.reshape([]) if op.attrs["shrink_axis_mask"] & 1 else sizes
        if not _may_run(op, tensor):
            return None
        inputs = []
        for source in op.inputs:
            value = self.value(source, depth - 1)
            if value is None or value.size > _MAX_ELEMENTS:
                return None
            inputs.append(value)
        return _run(op, inputs, tensor.value_index)

    def shape(self, tensor: Tensor, depth: int) -> TensorShape:
        """The tensor read as a shape, as far as it is known."""
        value = self.value(tensor, depth)
        if value is not None:
            return TensorShape([_dimension(int(size), tensor) for size in value])
        found = self._shape_of_parts(tensor, depth) if depth else None
        if found is not None:
            return found
        length = tensor.shape[0].value if tensor.shape.ndims == 1 else None
        return TensorShape(None) if length is None else TensorShape([None] * length)

    def _shape_of_parts(self, tensor: Tensor, depth: int) -> TensorShape | None:
        op = tensor.op
        if op.type == "Shape":
            return op.inputs[0].shape
        if op.type in ("Identity", "Cast"):
            return self.shape(op.inputs[0], depth - 1)
        if op.type == "Pack" and op.attrs["axis"] == 0:
            return TensorShape([self._size(source, depth - 1) for source in op.inputs])
        if op.type in ("ConcatV2", "Concat"):
            joined = TensorShape([])
            for part in op.inputs[:-1] if op.type == "ConcatV2" else op.inputs[1:]:
                joined = joined.concatenate(self.shape(part, depth - 1))
            return joined
        if op.type == "StridedSlice":
            return self._sliced(op, depth)
        return None

    def _size(self, scalar: Tensor, depth: int) -> int | None:
        value = self.value(scalar, depth)
        return None if value is None else _dimension(int(value), scalar)

    def _sliced(self, op: Operation, depth: int) -> TensorShape | None:
        """`shape[begin:end]`, or `shape[i]` as one dimension, of a shape known in part."""
        begin, end, strides = (self.value(source, depth - 1) for source in op.inputs[1:4])
        if begin is None or end is None or strides is None or begin.shape != (1,):
            return None
        if op.attrs["ellipsis_mask"] or op.attrs["new_axis_mask"] or not strides[0]:
            return None
        whole = self.shape(op.inputs[0], depth - 1)
        if whole.ndims is None:
            return None
        sizes = whole.as_list()
        first, last = int(begin[0]), int(end[0])
        if op.attrs["shrink_axis_mask"] & 1:
            return TensorShape([sizes[first]]) if -len(sizes) <= first < len(sizes) else None
        start = None if op.attrs["begin_mask"] & 1 else first
        stop = None if op.attrs["end_mask"] & 1 else last
        return TensorShape(sizes[start : stop : int(strides[0])])


def _of_static_shape(tensor: Tensor) -> Array | None:
    op = tensor.op
    shape = op.inputs[tensor.value_index].shape
    if op.type == "Rank":
        return None if shape.ndims is None else np.array(shape.ndims, np.int32)
    if not shape.is_fully_defined():
        return None
    known = shape.num_elements() if op.type == "Size" else shape.as_list()
    try:
        return np.array(known, op.attrs["out_type"].as_numpy_dtype)
    except OverflowError:  # more elements than the type can count
        return None


def _may_run(op: Operation, result: Tensor) -> bool:
    """Whether computing the op here cannot have an effect or take long."""
    if op.definition.family not in _FAMILIES or op.type in _NEVER:
        return False
    if op.definition.is_stateful or not op.inputs:
        return False
    count = result.shape.num_elements()
    return op.type in _SHRINKING if count is None else count <= _MAX_ELEMENTS


def _run(op: Operation, inputs: list[Array], output: int) -> Array | None:
    kernel = find_kernel(op.type)
    if kernel is None or kernel.takes_step:
        return None
    node = KernelNode(
        name=op.name,
        op=op.type,
        attrs=op.attrs,
        input_dtypes=op.definition.input_dtypes(op.attrs),
        output_dtypes=op.definition.output_dtypes(op.attrs),
    )
    try:
        results = kernel.function(node, *inputs)
    except OpError:
        # The session will say it, should the op ever run.
        return None
    return np.asarray(results[output] if len(op.values()) > 1 else results)


def _dimension(size: int, tensor: Tensor) -> int | None:
    if size < -1:
        raise ValueError(
            f"'{tensor.name}' has {size}; a dimension is at least 0, or -1 for unknown"
        )
    return None if size == -1 else size
