"""Softmax and the losses that are fused with it.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.dtypes import int64
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import ShapeContext, register_op, type_attr
from paramserve_core.opdefs.type_sets import FLOATS, INDICES
from paramserve_core.shapes import TensorShape


def _cross_entropy(ctx: ShapeContext) -> Sequence[TensorShape]:
    """Loss per row, and its derivative in the shape that features and labels broadcast to."""
    for i in range(2):
        dims = shape_functions.dims_of(ctx.input_shapes[i])
        if dims is not None and not 1 <= len(dims) <= 2:
            raise shape_functions.shape_error(ctx, f"Shape must be rank 2 but is rank {len(dims)}")
    both = shape_functions.broadcast_shapes(ctx, *ctx.input_shapes)
    dims = shape_functions.dims_of(both)
    if dims is None:
        return [TensorShape([None]), TensorShape([None, None])]
    if len(dims) != 2:
        raise shape_functions.shape_error(ctx, f"Shape must be rank 2 but is rank {len(dims)}")
    return [TensorShape(dims[:1]), both]


def _sparse_cross_entropy(ctx: ShapeContext) -> Sequence[TensorShape]:
    rows, classes = shape_functions.require_rank(ctx, 0, 2)
    (labels,) = shape_functions.require_rank(ctx, 1, 1)
    rows = shape_functions.merge_dims(ctx, rows, labels)
    return [TensorShape([rows]), TensorShape([rows, classes])]


for _name, _output in (("Softmax", "softmax"), ("LogSoftmax", "logsoftmax")):
    register_op(
        _name,
        inputs="logits: T",
        outputs=f"{_output}: T",
        attrs={"T": type_attr(FLOATS)},
        shape=shape_functions.at_least_rank(1),
    )
register_op(
    "SoftmaxCrossEntropyWithLogits",
    inputs="features: T, labels: T",
    outputs="loss: T, backprop: T",
    attrs={"T": type_attr(FLOATS)},
    shape=_cross_entropy,
)
register_op(
    "SparseSoftmaxCrossEntropyWithLogits",
    inputs="features: T, labels: Tlabels",
    outputs="loss: T, backprop: T",
    attrs={"T": type_attr(FLOATS), "Tlabels": type_attr(INDICES, default=int64)},
    shape=_sparse_cross_entropy,
)
