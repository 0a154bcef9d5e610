"""Rows of a larger tensor: the form that the gradient of a gather has.

Thread rule: immutable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paramserve._framework.constant_value import constant_value_as_shape
from paramserve._framework.tensor import Tensor
from paramserve_core.dtypes import DType
from paramserve_core.shapes import TensorShape

if TYPE_CHECKING:
    from paramserve._framework.graph import Graph
    from paramserve._framework.operation import Operation


class IndexedSlices:
    """Some rows of a tensor `dense` of shape `[rows, ...]`: `dense[indices[i]] = values[i]`.

    Args:
        values: the rows, of shape `[n, ...]`.
        indices: their numbers, integers of shape `[n]`; a number may occur twice, and then the
            rows add up.
        dense_shape: the shape of the whole tensor, an integer vector, where it is known.
    """

    __slots__ = ("_dense_shape", "_indices", "_values")

    def __init__(self, values: Tensor, indices: Tensor, dense_shape: Tensor | None = None) -> None:
        self._values = values
        self._indices = indices
        self._dense_shape = dense_shape

    @property
    def values(self) -> Tensor:
        """The rows."""
        return self._values

    @property
    def indices(self) -> Tensor:
        """Their numbers."""
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        """The shape of the whole tensor, or None."""
        return self._dense_shape

    @property
    def name(self) -> str:
        """The name of the rows' tensor."""
        return self._values.name

    @property
    def op(self) -> Operation:
        """The operation that computes the rows."""
        return self._values.op

    @property
    def dtype(self) -> DType:
        """The type of the rows."""
        return self._values.dtype

    @property
    def shape(self) -> TensorShape:
        """What is known of the shape of the whole tensor."""
        if self._dense_shape is None:
            return TensorShape(None)
        return constant_value_as_shape(self._dense_shape)

    @property
    def device(self) -> str:
        """The device of the rows."""
        return self._values.device

    @property
    def graph(self) -> Graph:
        """The graph that the tensors belong to."""
        return self._values.graph

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._dense_shape)

    def __repr__(self) -> str:
        return f"<paramserve.IndexedSlices values={self._values!r} indices={self._indices!r}>"
