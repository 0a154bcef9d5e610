"""Convolutions and poolings of images, and what flows back through them.

An image tensor has 4 dimensions, in the order that the attribute `data_format` says. Where the
windows lie is computed in `windows`.

Thread rule: as the registry's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Final

from paramserve_core.dtypes import float32, int8, int16, int32, int64, uint8, uint16
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import (
    AttrDef,
    ShapeContext,
    bool_attr,
    list_attr,
    register_op,
    string_attr,
    type_attr,
)
from paramserve_core.opdefs.shape_functions import Dims
from paramserve_core.opdefs.type_sets import FLOATS, REALS
from paramserve_core.opdefs.windows import Windows, layout_of, pooling_sizes, windows_of
from paramserve_core.shapes import TensorShape


def _counted(ctx: ShapeContext, windows: Windows | None, length: int | None) -> int | None:
    if windows is None or length is None:
        return None
    try:
        return windows.count(length)
    except ValueError as error:
        raise shape_functions.shape_error(ctx, str(error)) from None


def _windows(ctx: ShapeContext, sizes: Sequence[int | None]) -> list[Windows | None]:
    """The windows along height and width; None where the size of a window is not known."""
    try:
        known = windows_of(ctx.attrs, [1 if size is None else size for size in sizes])
    except ValueError as error:
        raise shape_functions.shape_error(ctx, str(error)) from None
    return [None if size is None else windows for size, windows in zip(sizes, known, strict=True)]


def _convolved(ctx: ShapeContext, *, depthwise: bool) -> Sequence[TensorShape]:
    image = shape_functions.require_rank(ctx, 0, 4)
    filter_dims = shape_functions.require_rank(ctx, 1, 4)
    layout = layout_of(ctx.attrs)
    depth = shape_functions.merge_dims(ctx, image[layout.channels], filter_dims[2])
    channels = filter_dims[3]
    if depthwise:
        channels = None if depth is None or channels is None else depth * channels
    windows = _windows(ctx, filter_dims[:2])
    height, width = (
        _counted(ctx, w, length) for w, length in zip(windows, layout.spatial(image), strict=True)
    )
    return [TensorShape(layout.arranged(image[0], height, width, channels))]


def _of_given_size(ctx: ShapeContext, *, index: int) -> Sequence[TensorShape]:
    """The value of input `index` is the shape of the output, which has 4 dimensions."""
    _windows(ctx, [None, None])
    return [_four_dims(ctx, index)]


def _four_dims(ctx: ShapeContext, index: int) -> TensorShape:
    sizes = shape_functions.dims_of(ctx.shape_from(index))
    # Two sizes are height and width alone.
    return TensorShape(sizes if sizes is not None and len(sizes) == 4 else [None] * 4)


def _pooled(ctx: ShapeContext) -> Sequence[TensorShape]:
    image: Dims = shape_functions.require_rank(ctx, 0, 4)
    layout = layout_of(ctx.attrs)
    windows = _pooling_windows(ctx)
    height, width = (
        _counted(ctx, w, length) for w, length in zip(windows, layout.spatial(image), strict=True)
    )
    return [TensorShape(layout.arranged(image[0], height, width, image[layout.channels]))]


def _pooling_windows(ctx: ShapeContext) -> list[Windows | None]:
    try:
        sizes = pooling_sizes(ctx.attrs)
    except ValueError as error:
        raise shape_functions.shape_error(ctx, str(error)) from None
    return _windows(ctx, sizes)


def _like_input(ctx: ShapeContext) -> Sequence[TensorShape]:
    _pooling_windows(ctx)
    return [TensorShape(shape_functions.require_rank(ctx, 0, 4))]


def _pool_input_size(ctx: ShapeContext) -> Sequence[TensorShape]:
    _pooling_windows(ctx)
    return [_four_dims(ctx, 0)]


_DATA_FORMAT: Final = string_attr("NHWC", allowed=("NHWC", "NCHW"))
_ANY_PADDING: Final[Mapping[str, AttrDef]] = {
    "padding": string_attr(allowed=("SAME", "VALID", "EXPLICIT")),
    "explicit_paddings": list_attr("int", default=()),
}
_PLAIN_PADDING: Final[Mapping[str, AttrDef]] = {"padding": string_attr(allowed=("SAME", "VALID"))}
_DILATIONS: Final[Mapping[str, AttrDef]] = {"dilations": list_attr("int", default=(1, 1, 1, 1))}
_CONVOLUTION: Final[Mapping[str, AttrDef]] = {
    "strides": list_attr("int"),
    **_ANY_PADDING,
    "data_format": _DATA_FORMAT,
    **_DILATIONS,
}
_POOL: Final[Mapping[str, AttrDef]] = {
    "ksize": list_attr("int", minimum=4),
    "strides": list_attr("int", minimum=4),
    "data_format": _DATA_FORMAT,
}
_CUDNN: Final[Mapping[str, AttrDef]] = {"use_cudnn_on_gpu": bool_attr(True)}

for _name, _types, _extra, _depthwise in (
    ("Conv2D", (*FLOATS, int32), _CUDNN, False),
    ("DepthwiseConv2dNative", FLOATS, {}, True),
):
    _attrs = {**_extra, **_CONVOLUTION}
    register_op(
        _name,
        inputs="input: T, filter: T",
        outputs="output: T",
        attrs={"T": type_attr(_types), **_attrs},
        shape=functools.partial(_convolved, depthwise=_depthwise),
    )
    register_op(
        f"{_name}BackpropInput",
        inputs="input_sizes: int32, filter: T, out_backprop: T",
        outputs="output: T",
        attrs={"T": type_attr(_types), **_attrs},
        shape=functools.partial(_of_given_size, index=0),
    )
    register_op(
        f"{_name}BackpropFilter",
        inputs="input: T, filter_sizes: int32, out_backprop: T",
        outputs="output: T",
        attrs={"T": type_attr(FLOATS), **_attrs},
        shape=functools.partial(_of_given_size, index=1),
    )

register_op(
    "MaxPool",
    inputs="input: T",
    outputs="output: T",
    attrs={
        "T": type_attr((*FLOATS, int8, int16, int32, int64, uint8, uint16), default=float32),
        **_POOL,
        **_ANY_PADDING,
    },
    shape=_pooled,
)
register_op(
    "MaxPoolGrad",
    inputs="orig_input: T, orig_output: T, grad: T",
    outputs="output: T",
    attrs={"T": type_attr(REALS, default=float32), **_POOL, **_ANY_PADDING},
    shape=_like_input,
)
register_op(
    "MaxPoolGradGrad",
    inputs="orig_input: T, orig_output: T, grad: T",
    outputs="output: T",
    attrs={"T": type_attr(REALS), **_POOL, **_PLAIN_PADDING},
    shape=_pooled,
)
register_op(
    "AvgPool",
    inputs="value: T",
    outputs="output: T",
    attrs={"T": type_attr(FLOATS), **_POOL, **_PLAIN_PADDING},
    shape=_pooled,
)
register_op(
    "AvgPoolGrad",
    inputs="orig_input_shape: int32, grad: T",
    outputs="output: T",
    attrs={"T": type_attr(FLOATS), **_POOL, **_PLAIN_PADDING},
    shape=_pool_input_size,
)
