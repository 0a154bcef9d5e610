"""Functions whose gradients are checked: against finite differences, and against TensorFlow.

Those of neural networks and of control flow are in `differentiable_nn`.
"""

from __future__ import annotations

import numpy as np

import differentiable_nn  # noqa: F401  its expressions are of the table
from expressions import (
    EXPRESSIONS,
    Expression,
    add,
    distinct,
    is_tensorflow,
    normal,
    positive,
    raw,
    unary,
    unit,
)

__all__ = ["EXPRESSIONS", "Expression"]

# Family math.

unary("negative abs sign square exp expm1 sin cos tan atan sinh cosh tanh asinh", normal(5))
unary("sigmoid erf erfc floor ceil round rint", normal(5))
unary("sqrt rsqrt log log1p reciprocal", positive(5))
unary("asin acos atanh", unit(5))
unary("lgamma", positive(5))
unary("digamma", positive(5))
add("polygamma", lambda ns, x: ns.polygamma(ns.cast([0, 1, 3], x.dtype), x), positive(3))
add("zeta", lambda ns, q: ns.zeta(ns.cast([2.0, 3.5], q.dtype), q), positive(3, 2))
unary("acosh", positive(5) + 1.0)
add("inv", lambda ns, x: raw("Inv", ns, x=x), positive(5))
for _name in ("add", "subtract", "multiply", "maximum", "minimum", "squared_difference"):
    for _shapes in (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (3,)), ((), (2, 3)), ((1,), ())):
        add(
            f"{_name}{_shapes[0]}{_shapes[1]}",
            lambda ns, x, y, name=_name: getattr(ns, name)(x, y),
            distinct(*_shapes[0]),
            distinct(*_shapes[1]) + 0.017,
        )
add("AddV2", lambda ns, x, y: raw("AddV2", ns, x=x, y=y), normal(2, 3), normal(3))
add("RealDiv", lambda ns, x, y: ns.truediv(x, y), normal(2, 3), normal(3))
add("Div", lambda ns, x, y: raw("Div", ns, x=x, y=y), normal(2, 3), normal(3))
add("DivNoNan", lambda ns, x, y: raw("DivNoNan", ns, x=x, y=y), normal(2, 3), normal(3))
add("FloorMod", lambda ns, x, y: ns.floormod(x, y), normal(4), positive(4) + 0.1, twice=False)
add(
    "TruncateMod",
    lambda ns, x, y: raw("TruncateMod", ns, x=x, y=y),
    normal(4) * 3,
    positive(4),
    twice=False,
    oracle=False,
)
add(
    "Mod",
    lambda ns, x, y: raw("Mod", ns, x=x, y=y),
    normal(4) * 3,
    positive(4),
    twice=False,
    oracle=False,
)
add("Pow", lambda ns, x, y: ns.pow(x, y), positive(2, 3), normal(3))
add("Atan2", lambda ns, x, y: ns.atan2(x, y), normal(2, 3), normal(3))
add("Complex", lambda ns, x, y: ns.abs(ns.complex(x, y)), normal(2, 3), normal(3), twice=False)
add("Real", lambda ns, x, y: ns.real(ns.square(ns.complex(x, y))), normal(3), normal(3))
add("Imag", lambda ns, x, y: ns.imag(ns.square(ns.complex(x, y))), normal(3), normal(3))
add("Angle", lambda ns, x, y: ns.angle(ns.complex(x, y)), normal(3), normal(3), twice=False)
add("Conj", lambda ns, x, y: ns.imag(ns.conj(ns.complex(x, y))), normal(3), normal(3))
add("complex exp", lambda ns, x, y: ns.real(ns.exp(ns.complex(x, y))), normal(3), normal(3))
add("complex tanh", lambda ns, x, y: ns.real(ns.tanh(ns.complex(x, y))), normal(3), normal(3))
add("complex sqrt", lambda ns, x, y: ns.imag(ns.sqrt(ns.complex(x, y))), normal(3), normal(3))
add("complex /", lambda ns, x, y: ns.real(1.0 / ns.complex(x, y)), normal(3), normal(3))
add("several uses", lambda ns, x: ns.exp(x) * x + ns.square(ns.sin(x)) / x, normal(4))
add("operators", lambda ns, x, y: (x - y) * x / (y + 3.0) ** 2.0 + abs(x) - -y, normal(3), unit(3))
add("no dependence", lambda ns, x: ns.to_double(ns.greater(x, 0.0)) * x, normal(4))

# Family math_reduce.

for _name in ("reduce_sum", "reduce_mean", "reduce_prod", "reduce_max", "reduce_min"):
    for _axis in (None, 1, [0, -1], []):
        for _keep in (False, True):
            if _axis == [] and _name == "reduce_prod":
                continue
            add(
                f"{_name} {_axis} {_keep}",
                lambda ns, x, name=_name, axis=_axis, keep=_keep: getattr(ns, name)(
                    x, axis=axis, keep_dims=keep
                ),
                distinct(2, 3, 2),
                twice=_axis == 1,
            )
add("reduce_logsumexp", lambda ns, x: ns.reduce_logsumexp(x, 1), normal(2, 3))
add(
    "reduce_prod with a zero",
    lambda ns, x: ns.reduce_prod(x, 1),
    np.array([[0.0, 2, 3], [1, 0, 0]]),
    twice=False,  # that of a running product is not a number at 0, as in TensorFlow
)
for _exclusive in (False, True):
    for _reverse in (False, True):
        for _name in ("cumsum", "cumprod"):
            add(
                f"{_name} {_exclusive} {_reverse}",
                lambda ns, x, name=_name, e=_exclusive, r=_reverse: getattr(ns, name)(
                    x, 1, exclusive=e, reverse=r
                ),
                normal(2, 3),
            )
add("add_n", lambda ns, x, y: ns.add_n([x, y, x * y]), normal(3), normal(3))
add("accumulate_n", lambda ns, x, y: ns.accumulate_n([x, y, x * y]), normal(3), normal(3))

# Family math_segment.

_SEGMENTS = [0, 0, 2, 2, 2]
for _name in ("sum", "mean", "max", "min", "prod"):
    add(
        f"segment_{_name}",
        lambda ns, x, name=_name: getattr(ns, f"segment_{name}")(x, _SEGMENTS),
        distinct(5, 2),
        twice=_name != "prod",
        oracle=_name != "prod",
    )
for _name in ("sum", "max", "min", "prod"):
    add(
        f"unsorted_segment_{_name}",
        lambda ns, x, name=_name: getattr(ns, f"unsorted_segment_{name}")(x, [2, 0, -1, 2, 1], 3),
        distinct(5, 2) + 0.01,
        twice=_name != "prod",
    )
add(
    "unsorted_segment_prod with zeros",
    lambda ns, x: ns.unsorted_segment_prod(x, [0, 0, 1, 1, 2], 4),
    np.array([0.0, 2.0, 0.0, 0.0, 3.0]),
    twice=False,
)
for _name in ("sum", "mean", "sqrt_n"):
    add(
        f"sparse_segment_{_name}",
        lambda ns, x, name=_name: getattr(ns, f"sparse_segment_{name}")(x, [3, 1, 1], [0, 0, 2]),
        normal(4, 2),
    )
    add(
        f"sparse_segment_{_name} of a number of segments",
        lambda ns, x, name=_name: getattr(ns, f"sparse_segment_{name}")(
            x, [3, 1, 1], [0, 0, 2], num_segments=5
        ),
        normal(4, 2),
    )

# Family math_product.

for _a in (False, True):
    for _b in (False, True):
        add(
            f"matmul {_a} {_b}",
            lambda ns, x, y, a=_a, b=_b: ns.matmul(x, y, transpose_a=a, transpose_b=b),
            normal(3, 2) if _a else normal(2, 3),
            normal(4, 3) if _b else normal(3, 4),
        )
        add(
            f"BatchMatMul {_a} {_b}",
            lambda ns, x, y, a=_a, b=_b: raw("BatchMatMul", ns, x=x, y=y, adj_x=a, adj_y=b),
            normal(2, 3, 2) if _a else normal(2, 2, 3),
            normal(2, 4, 3) if _b else normal(2, 3, 4),
        )
        add(
            f"BatchMatMulV2 {_a} {_b}",
            lambda ns, x, y, a=_a, b=_b: ns.matmul(x, y, adjoint_a=a, adjoint_b=b),
            normal(2, 1, 3, 2) if _a else normal(2, 1, 2, 3),
            normal(3, 4, 3) if _b else normal(3, 3, 4),
            twice=False,
        )
add(
    "cross",
    lambda ns, x, y: ns.linalg.cross(x, y) if is_tensorflow(ns) else ns.cross(x, y),
    normal(2, 3),
    normal(2, 3),
)

# Family array.

add("identity", lambda ns, x: ns.identity(x), normal(3))
add("identity_n", lambda ns, x, y: ns.identity_n([x, y]), normal(3), normal(2))
add("ensure_shape", lambda ns, x: ns.ensure_shape(x, [3]), normal(3))
add("placeholder_with_default", lambda ns, x: ns.placeholder_with_default(x, [3]), normal(3))
add("check_numerics", lambda ns, x: ns.check_numerics(x, "it"), normal(3))
add(
    "cast",
    lambda ns, x: ns.cast(ns.cast(x, "complex128") * (1.0 + 2.0j), "float64"),
    normal(3),
    oracle=False,
)
add(
    "cast to integers",
    lambda ns, x: ns.to_double(ns.to_int32(x * 10.0)) + x,
    normal(3),
    oracle=False,
)
add("fill", lambda ns, x: ns.fill([2, 3], x), normal())
add("reshape", lambda ns, x: ns.reshape(x, [3, -1]), normal(2, 3))
add("expand_dims", lambda ns, x: ns.expand_dims(x, 1), normal(2, 3))
add("squeeze", lambda ns, x: ns.squeeze(x, [1]), normal(2, 1, 3))
add("broadcast_to", lambda ns, x: ns.broadcast_to(x, [4, 2, 3]), normal(2, 1))
add("tile", lambda ns, x: ns.tile(x, [2, 3]), normal(2, 3))
for _mode in ("CONSTANT", "REFLECT", "SYMMETRIC"):
    add(f"pad {_mode}", lambda ns, x, m=_mode: ns.pad(x, [[1, 0], [1, 2]], mode=m), normal(2, 3))
add(
    "PadV2",
    lambda ns, x, y: raw("PadV2", ns, input=x, paddings=[[1, 2]], constant_values=y),
    normal(3),
    normal(),
    oracle=False,
)
add(
    "Concat",
    lambda ns, x, y: raw("Concat", ns, concat_dim=1, values=[x, y]),
    normal(2, 3),
    normal(2, 1),
)
add("concat", lambda ns, x, y: ns.concat([x, y], -1), normal(2, 3), normal(2, 1))
add("split", lambda ns, x: ns.split(x, 3, axis=1)[::2], normal(2, 6))
add("SplitV", lambda ns, x: ns.split(x, [1, 3, 2], axis=1)[1], normal(2, 6))
add("stack", lambda ns, x, y: ns.stack([x, y, x], axis=1), normal(2, 3), normal(2, 3))
add("unstack", lambda ns, x: ns.unstack(x, axis=1)[0] * 2.0, normal(2, 3))
add("transpose", lambda ns, x: ns.transpose(x, [2, 0, 1]), normal(2, 3, 2))
add("Reverse", lambda ns, x: raw("Reverse", ns, tensor=x, dims=[False, True]), normal(2, 3))
add("reverse", lambda ns, x: ns.reverse(x, [0, -1]), normal(2, 3))
add(
    "reverse_sequence",
    lambda ns, x: ns.reverse_sequence(x, [2, 3], seq_dim=1, batch_dim=0),
    normal(2, 4, 2),
)
add("diag", lambda ns, x: ns.diag(x), normal(2, 2))
add("diag_part", lambda ns, x: ns.diag_part(x), normal(2, 2, 2, 2))
add("MatrixDiag", lambda ns, x: raw("MatrixDiag", ns, diagonal=x), normal(2, 3))
add("MatrixDiagPart", lambda ns, x: raw("MatrixDiagPart", ns, input=x), normal(2, 3, 3))
add("MatrixDiagPart of oblongs", lambda ns, x: raw("MatrixDiagPart", ns, input=x), normal(2, 2, 3))
add(
    "MatrixSetDiag",
    lambda ns, x, y: raw("MatrixSetDiag", ns, input=x, diagonal=y),
    normal(2, 2, 3),
    normal(2, 2),
)
add("matrix_band_part", lambda ns, x: ns.matrix_band_part(x, 1, 0), normal(3, 4))

# Family indexing.

add("slice", lambda ns, x: ns.slice(x, [0, 1], [2, -1]), normal(3, 4))
add("strided_slice", lambda ns, x: x[1:, ..., ::-2], normal(3, 2, 4))
add("a row, a new axis", lambda ns, x: x[-1, None, 1:], normal(3, 2, 4))
add("gather", lambda ns, x: ns.gather(x, [[2, 0], [2, 2]]), normal(3, 2))
add("gather of gathered", lambda ns, x: ns.gather(ns.gather(x, [2, 0, 2]), [0, 0, 1]), normal(3, 2))
add("gather and use", lambda ns, x: ns.reduce_sum(ns.gather(x, [1, 1])) + x * 2.0, normal(3, 2))
add("gather, axis 1", lambda ns, x: ns.gather(x, [[2, 0], [2, 2]], axis=1), normal(2, 3, 2))
add("gather, last axis", lambda ns, x: ns.gather(x, [1, 1, 0], axis=-1), normal(2, 3, 2))
add("gather, batch", lambda ns, x: ns.gather(x, [[2, 0], [1, 1]], batch_dims=1), normal(2, 3, 2))
add(
    "gather, batch, axis 2",
    lambda ns, x: ns.gather(x, [[2, 0], [1, 1]], axis=2, batch_dims=1),
    normal(2, 2, 3),
)
add(
    "GatherV2",
    lambda ns, x: raw("GatherV2", ns, params=x, indices=[1, 1], axis=0, batch_dims=0),
    normal(3, 2),
)
add("gather_nd", lambda ns, x: ns.gather_nd(x, [[0, 1], [1, 1], [0, 1]]), normal(2, 2, 2))
add("scatter_nd", lambda ns, x: ns.scatter_nd([[1], [3], [1]], x, [4, 2]), normal(3, 2))
add(
    "where",
    lambda ns, x, y: ns.where([[True, False], [False, True]], x, y),
    normal(2, 2),
    normal(2, 2),
)
add("where by rows", lambda ns, x, y: ns.where([True, False], x, y), normal(2, 2), normal(2, 2))
add(
    "SelectV2",
    lambda ns, x, y: raw("SelectV2", ns, condition=[True, False], t=x, e=y),
    normal(2, 2),
    normal(2),
)
add("boolean_mask", lambda ns, x: ns.boolean_mask(x, [True, False, True]), normal(3, 2))
add("dynamic_partition", lambda ns, x: ns.dynamic_partition(x, [1, 0, 1, 1], 3), normal(4, 2))
add(
    "dynamic_stitch",
    lambda ns, x, y: ns.dynamic_stitch([[0, 2], [1]], [x, y]),
    normal(2, 2),
    normal(1, 2),
)
add(
    "ParallelDynamicStitch",
    lambda ns, x, y: raw("ParallelDynamicStitch", ns, indices=[[0, 2], [1]], data=[x, y]),
    normal(2, 2),
    normal(1, 2),
)
add(
    "embedding_lookup",
    lambda ns, x, y: ns.nn.embedding_lookup([x, y], [[0, 3], [1, 3]]),
    normal(3, 2),
    normal(2, 2),
)
