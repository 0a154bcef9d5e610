"""Activations, biases, the L2 loss, and the largest of each row.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from paramserve_core.dtypes import DType, float32, int16, int32, int64
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import (
    ShapeContext,
    bool_attr,
    float_attr,
    int_attr,
    register_op,
    string_attr,
    type_attr,
)
from paramserve_core.opdefs.shape_functions import UNKNOWN
from paramserve_core.opdefs.type_sets import FLOATS, INDICES, NUMBERS, REALS
from paramserve_core.shapes import TensorShape


def channel_axis(ctx: ShapeContext, rank: int) -> int:
    """Where the channels of a tensor of `rank` dimensions are under the attribute `data_format`."""
    if ctx.attrs.get("data_format", "NHWC") == "NCHW":
        return 1 if rank > 1 else 0
    return rank - 1


def _bias_add(ctx: ShapeContext) -> Sequence[TensorShape]:
    dims = shape_functions.require_rank_at_least(ctx, 0, 2)
    (bias,) = shape_functions.require_rank(ctx, 1, 1)
    if dims is None:
        return [UNKNOWN]
    axis = channel_axis(ctx, len(dims))
    dims[axis] = shape_functions.merge_dims(ctx, dims[axis], bias)
    return [TensorShape(dims)]


def _bias_add_grad(ctx: ShapeContext) -> Sequence[TensorShape]:
    dims = shape_functions.require_rank_at_least(ctx, 0, 2)
    if dims is None:
        return [TensorShape([None])]
    return [TensorShape([dims[channel_axis(ctx, len(dims))]])]


def _in_top_k(ctx: ShapeContext) -> Sequence[TensorShape]:
    rows, _ = shape_functions.require_rank(ctx, 0, 2)
    (targets,) = shape_functions.require_rank(ctx, 1, 1)
    return [TensorShape([shape_functions.merge_dims(ctx, rows, targets)])]


def _top(ctx: ShapeContext, k: int | None) -> Sequence[TensorShape]:
    dims = shape_functions.require_rank_at_least(ctx, 0, 1)
    if k is not None and k < 0:
        raise shape_functions.shape_error(ctx, f"Need k >= 0, got {k}")
    if dims is None:
        return [UNKNOWN, UNKNOWN]
    if k is not None and dims[-1] is not None and dims[-1] < k:
        raise shape_functions.shape_error(ctx, f"input must have last dimension >= k = {k}")
    return [TensorShape([*dims[:-1], k])] * 2


def _top_k(ctx: ShapeContext) -> Sequence[TensorShape]:
    return _top(ctx, ctx.attrs["k"])


def _top_k_v2(ctx: ShapeContext) -> Sequence[TensorShape]:
    shape_functions.require_rank(ctx, 1, 0)
    k = ctx.constant(1)
    return _top(ctx, None if k is None else int(k))


def _activation(names: str, allowed: Iterable[DType]) -> None:
    for name in names.split():
        register_op(
            name,
            inputs="features: T",
            outputs="activations: T",
            attrs={"T": type_attr(allowed)},
            shape=shape_functions.unchanged,
        )


def _activation_grad(names: str, allowed: Iterable[DType], of: str = "features") -> None:
    for name in names.split():
        register_op(
            name,
            inputs=f"gradients: T, {of}: T",
            outputs="backprops: T",
            attrs={"T": type_attr(allowed)},
            shape=shape_functions.merged,
        )


_activation("Relu Relu6", REALS)
_activation("Elu Selu Softplus Softsign", FLOATS)
_activation_grad("ReluGrad Relu6Grad", REALS)
_activation_grad("SoftplusGrad SoftsignGrad", FLOATS)
_activation_grad("EluGrad SeluGrad", FLOATS, of="outputs")

register_op(
    "LeakyRelu",
    inputs="features: T",
    outputs="activations: T",
    attrs={"alpha": float_attr(0.2), "T": type_attr(FLOATS, default=float32)},
    shape=shape_functions.unchanged,
)
register_op(
    "LeakyReluGrad",
    inputs="gradients: T, features: T",
    outputs="backprops: T",
    attrs={"alpha": float_attr(0.2), "T": type_attr(FLOATS, default=float32)},
    shape=shape_functions.merged,
)

register_op(
    "BiasAdd",
    inputs="value: T, bias: T",
    outputs="output: T",
    attrs={
        "T": type_attr(NUMBERS),
        "data_format": string_attr("NHWC", allowed=("NHWC", "NCHW")),
    },
    shape=_bias_add,
)
register_op(
    "BiasAddV1",
    inputs="value: T, bias: T",
    outputs="output: T",
    attrs={"T": type_attr(NUMBERS)},
    shape=_bias_add,
)
register_op(
    "BiasAddGrad",
    inputs="out_backprop: T",
    outputs="output: T",
    attrs={
        "T": type_attr(NUMBERS),
        "data_format": string_attr("NHWC", allowed=("NHWC", "NCHW")),
    },
    shape=_bias_add_grad,
)
register_op(
    "L2Loss",
    inputs="t: T",
    outputs="output: T",
    attrs={"T": type_attr(FLOATS)},
    shape=shape_functions.scalar,
)

register_op(
    "InTopK",
    inputs="predictions: float32, targets: T",
    outputs="precision: bool",
    attrs={"k": int_attr(), "T": type_attr(INDICES, default=int32)},
    shape=_in_top_k,
)
register_op(
    "InTopKV2",
    inputs="predictions: float32, targets: T, k: T",
    outputs="precision: bool",
    attrs={"T": type_attr(INDICES, default=int32)},
    shape=_in_top_k,
)
register_op(
    "TopK",
    inputs="input: T",
    outputs="values: T, indices: int32",
    attrs={"k": int_attr(minimum=0), "sorted": bool_attr(True), "T": type_attr(REALS)},
    shape=_top_k,
)
register_op(
    "TopKV2",
    inputs="input: T, k: Tk",
    outputs="values: T, indices: index_type",
    attrs={
        "sorted": bool_attr(True),
        "T": type_attr(REALS),
        "Tk": type_attr((int16, int32, int64), default=int32),
        "index_type": type_attr((int16, int32, int64), default=int32),
    },
    shape=_top_k_v2,
)
