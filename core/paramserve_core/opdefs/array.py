"""Ops that make, shape, join and arrange tensors.

Ops that read or place elements by index are the family `indexing`: together they would not fit a
module that one can read. Shape functions are in `array_shapes`.

Thread rule: see `opdefs.registry`.
"""

from __future__ import annotations

from typing import Final

from paramserve_core import dtypes
from paramserve_core.opdefs import array_shapes
from paramserve_core.opdefs import shape_functions as shapes
from paramserve_core.opdefs.registry import (
    AttrDef,
    bool_attr,
    int_attr,
    list_attr,
    passing_type_attr,
    register_op,
    shape_attr,
    string_attr,
    tensor_attr,
    type_attr,
    type_list_attr,
)
from paramserve_core.shapes import TensorShape

_ANY: Final = {"T": type_attr()}
_FLOATS: Final = (dtypes.bfloat16, dtypes.float16, dtypes.float32, dtypes.float64)
_INTS: Final = (
    dtypes.uint8,
    dtypes.int8,
    dtypes.uint16,
    dtypes.int16,
    dtypes.uint32,
    dtypes.int32,
    dtypes.uint64,
    dtypes.int64,
)
_COMPLEX: Final = (dtypes.complex64, dtypes.complex128)
_DIAGONAL: Final = (*_FLOATS, dtypes.int32, dtypes.int64, *_COMPLEX)
_REVERSIBLE: Final = (*_INTS, dtypes.bool, *_FLOATS, *_COMPLEX, dtypes.string)


def _index(default: object = dtypes.int32) -> AttrDef:
    return type_attr((dtypes.int32, dtypes.int64), default)


# Values out of nothing, or out of a shape.

register_op(
    "Const",
    outputs="output: dtype",
    attrs={"value": tensor_attr(), "dtype": type_attr()},
    shape=array_shapes.value_attr,
)
register_op(
    "Placeholder",
    outputs="output: dtype",
    attrs={"dtype": type_attr(), "shape": shape_attr(TensorShape(None))},
    shape=array_shapes.shape_attribute,
)
register_op(
    "PlaceholderV2",
    outputs="output: dtype",
    attrs={"dtype": type_attr(), "shape": shape_attr()},
    shape=array_shapes.shape_attribute,
)
register_op(
    "PlaceholderWithDefault",
    inputs="input: dtype",
    outputs="output: dtype",
    attrs={"dtype": type_attr(), "shape": shape_attr()},
    shape=array_shapes.compatible_default,
)
register_op("ZerosLike", inputs="x: T", outputs="y: T", attrs=_ANY, shape=shapes.unchanged)
register_op(
    "OnesLike",
    inputs="x: T",
    outputs="y: T",
    attrs={"T": type_attr((*_FLOATS, *_INTS, *_COMPLEX, dtypes.bool))},
    shape=shapes.unchanged,
)
register_op(
    "Fill",
    inputs="dims: index_type, value: T",
    outputs="output: T",
    attrs={**_ANY, "index_type": _index()},
    shape=array_shapes.fill,
)

# The same value.

register_op(
    "Identity",
    inputs="input: T",
    outputs="output: T",
    attrs={"T": passing_type_attr()},
    shape=shapes.unchanged,
)
register_op(
    "IdentityN",
    inputs="input: T",
    outputs="output: T",
    attrs={"T": type_list_attr(minimum=1)},
    shape=array_shapes.each_unchanged,
)
register_op(
    "StopGradient", inputs="input: T", outputs="output: T", attrs=_ANY, shape=shapes.unchanged
)
register_op(
    "PreventGradient",
    inputs="input: T",
    outputs="output: T",
    attrs={**_ANY, "message": string_attr("")},
    shape=shapes.unchanged,
)
register_op(
    "EnsureShape",
    inputs="input: T",
    outputs="output: T",
    attrs={"shape": shape_attr(), **_ANY},
    shape=array_shapes.ensured,
)
register_op(
    "CheckNumerics",
    inputs="tensor: T",
    outputs="output: T",
    attrs={"T": type_attr(_FLOATS), "message": string_attr()},
    shape=shapes.unchanged,
    is_stateful=True,
)
register_op(
    "Cast",
    inputs="x: SrcT",
    outputs="y: DstT",
    attrs={"SrcT": type_attr(), "DstT": type_attr(), "Truncate": bool_attr(False)},
    shape=shapes.unchanged,
)
register_op(
    "Bitcast",
    inputs="input: T",
    outputs="output: type",
    attrs={
        "T": type_attr((*_FLOATS, *_INTS, *_COMPLEX)),
        "type": type_attr((*_FLOATS, *_INTS, *_COMPLEX)),
    },
    shape=array_shapes.bitcast,
)

# Shapes as values.

register_op(
    "Shape",
    inputs="input: T",
    outputs="output: out_type",
    attrs={**_ANY, "out_type": _index()},
    shape=array_shapes.shape_of_each,
)
register_op(
    "ShapeN",
    inputs="input: N * T",
    outputs="output: N * out_type",
    attrs={"N": int_attr(minimum=1), **_ANY, "out_type": _index()},
    shape=array_shapes.shape_of_each,
)
register_op(
    "Size",
    inputs="input: T",
    outputs="output: out_type",
    attrs={**_ANY, "out_type": _index()},
    shape=shapes.scalar,
)
register_op("Rank", inputs="input: T", outputs="output: int32", attrs=_ANY, shape=shapes.scalar)
register_op(
    "BroadcastArgs",
    inputs="s0: T, s1: T",
    outputs="r0: T",
    attrs={"T": _index()},
    shape=array_shapes.broadcast_args,
)
register_op(
    "BroadcastGradientArgs",
    inputs="s0: T, s1: T",
    outputs="r0: T, r1: T",
    attrs={"T": _index()},
    shape=array_shapes.broadcast_gradient_args,
)

# Another shape.

register_op(
    "Reshape",
    inputs="tensor: T, shape: Tshape",
    outputs="output: T",
    attrs={**_ANY, "Tshape": _index()},
    shape=array_shapes.reshape,
)
register_op(
    "ExpandDims",
    inputs="input: T, dim: Tdim",
    outputs="output: T",
    attrs={**_ANY, "Tdim": _index()},
    shape=array_shapes.expand_dims,
)
register_op(
    "Squeeze",
    inputs="input: T",
    outputs="output: T",
    attrs={**_ANY, "squeeze_dims": list_attr("int", (), minimum=0)},
    shape=array_shapes.squeeze,
)
register_op(
    "BroadcastTo",
    inputs="input: T, shape: Tidx",
    outputs="output: T",
    attrs={**_ANY, "Tidx": _index()},
    shape=array_shapes.broadcast_to,
)
register_op(
    "Tile",
    inputs="input: T, multiples: Tmultiples",
    outputs="output: T",
    attrs={**_ANY, "Tmultiples": _index()},
    shape=array_shapes.tile,
)
register_op(
    "Pad",
    inputs="input: T, paddings: Tpaddings",
    outputs="output: T",
    attrs={**_ANY, "Tpaddings": _index()},
    shape=array_shapes.pad,
)
register_op(
    "PadV2",
    inputs="input: T, paddings: Tpaddings, constant_values: T",
    outputs="output: T",
    attrs={**_ANY, "Tpaddings": _index()},
    shape=array_shapes.pad,
)
for _op, _shape in (
    ("MirrorPad", array_shapes.pad),
    ("MirrorPadGrad", array_shapes.mirror_pad_grad),
):
    register_op(
        _op,
        inputs="input: T, paddings: Tpaddings",
        outputs="output: T",
        attrs={
            **_ANY,
            "Tpaddings": _index(),
            "mode": string_attr(allowed=("REFLECT", "SYMMETRIC")),
        },
        shape=_shape,
    )

# Joined and cut.

register_op(
    "Concat",
    inputs="concat_dim: int32, values: N * T",
    outputs="output: T",
    attrs={"N": int_attr(minimum=2), **_ANY},
    shape=array_shapes.concat_v1,
)
register_op(
    "ConcatV2",
    inputs="values: N * T, axis: Tidx",
    outputs="output: T",
    attrs={"N": int_attr(minimum=2), **_ANY, "Tidx": _index()},
    shape=array_shapes.concat_v2,
)
register_op(
    "ConcatOffset",
    inputs="concat_dim: int32, shape: N * shape_type",
    outputs="offset: N * shape_type",
    attrs={"N": int_attr(minimum=2), "shape_type": _index()},
    shape=array_shapes.concat_offset,
)
register_op(
    "Split",
    inputs="split_dim: int32, value: T",
    outputs="output: num_split * T",
    attrs={"num_split": int_attr(minimum=1), **_ANY},
    shape=array_shapes.split,
)
register_op(
    "SplitV",
    inputs="value: T, size_splits: Tlen, split_dim: int32",
    outputs="output: num_split * T",
    attrs={
        "num_split": int_attr(minimum=1),
        **_ANY,
        "Tlen": type_attr((dtypes.int8, dtypes.int32, dtypes.int64), dtypes.int64),
    },
    shape=array_shapes.split_v,
)
register_op(
    "Pack",
    inputs="values: N * T",
    outputs="output: T",
    attrs={"N": int_attr(minimum=1), **_ANY, "axis": int_attr(0)},
    shape=array_shapes.pack,
)
register_op(
    "Unpack",
    inputs="value: T",
    outputs="output: num * T",
    attrs={"num": int_attr(minimum=0), **_ANY, "axis": int_attr(0)},
    shape=array_shapes.unpack,
)

# Another order.

register_op(
    "Transpose",
    inputs="x: T, perm: Tperm",
    outputs="y: T",
    attrs={**_ANY, "Tperm": _index()},
    shape=array_shapes.transpose,
)
register_op(
    "InvertPermutation",
    inputs="x: T",
    outputs="y: T",
    attrs={"T": _index()},
    shape=array_shapes.vector_unchanged,
)
register_op(
    "Reverse",
    inputs="tensor: T, dims: bool",
    outputs="output: T",
    attrs={"T": type_attr(_REVERSIBLE)},
    shape=array_shapes.reverse_v1,
)
register_op(
    "ReverseV2",
    inputs="tensor: T, axis: Tidx",
    outputs="output: T",
    attrs={"Tidx": _index(), "T": type_attr(_REVERSIBLE)},
    shape=array_shapes.reverse_v2,
)
register_op(
    "ReverseSequence",
    inputs="input: T, seq_lengths: Tlen",
    outputs="output: T",
    attrs={
        "seq_dim": int_attr(),
        "batch_dim": int_attr(0),
        **_ANY,
        "Tlen": _index(dtypes.int64),
    },
    shape=array_shapes.reverse_sequence,
)

# Diagonals.

register_op(
    "Diag",
    inputs="diagonal: T",
    outputs="output: T",
    attrs={"T": type_attr(_DIAGONAL)},
    shape=array_shapes.diag,
)
register_op(
    "DiagPart",
    inputs="input: T",
    outputs="diagonal: T",
    attrs={"T": type_attr(_DIAGONAL)},
    shape=array_shapes.diag_part,
)
register_op(
    "MatrixDiag",
    inputs="diagonal: T",
    outputs="output: T",
    attrs=_ANY,
    shape=array_shapes.matrix_diag,
)
register_op(
    "MatrixDiagPart",
    inputs="input: T",
    outputs="diagonal: T",
    attrs=_ANY,
    shape=array_shapes.matrix_diag_part,
)
register_op(
    "MatrixSetDiag",
    inputs="input: T, diagonal: T",
    outputs="output: T",
    attrs=_ANY,
    shape=array_shapes.matrix_set_diag,
)
register_op(
    "MatrixBandPart",
    inputs="input: T, num_lower: Tindex, num_upper: Tindex",
    outputs="band: T",
    attrs={**_ANY, "Tindex": _index(dtypes.int64)},
    shape=array_shapes.band_part,
)
