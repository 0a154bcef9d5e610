"""Functions whose gradients are checked: against finite differences, and against TensorFlow.

Each is written for a namespace, `paramserve` or `tensorflow.compat.v1`, whose names are the same.
Values are chosen away from corners and jumps, where a derivative would depend on the side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_RANDOM = np.random.default_rng(20160427)


def normal(*shape: int) -> Array:
    """Numbers around 0, of which none is near it."""
    values = _RANDOM.uniform(0.2, 1.5, shape)
    return values * _RANDOM.choice([-1.0, 1.0], shape)


def positive(*shape: int) -> Array:
    return _RANDOM.uniform(0.3, 2.0, shape)


def unit(*shape: int) -> Array:
    """Numbers within (-1, 1)."""
    return _RANDOM.uniform(-0.8, 0.8, shape)


def distinct(*shape: int) -> Array:
    """Numbers that differ by 0.1 or more, in random order."""
    count = int(np.prod(shape))
    return (_RANDOM.permutation(count) * 0.1 - 0.05 * count + 0.033).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A function of tensors and the values at which its gradient is checked.

    Attributes:
        name: what the test is called.
        function: takes a namespace and a float64 tensor per value; answers a tensor or a list.
        values: the arguments.
        is_twice: whether its gradient's gradient is checked too.
        oracle: whether TensorFlow has the function, and the same gradient.
    """

    name: str
    function: Callable[..., Any]
    values: tuple[Array, ...]
    is_twice: bool = True
    oracle: bool = True


EXPRESSIONS: list[Expression] = []


def _add(
    name: str,
    function: Callable[..., Any],
    *values: Array,
    twice: bool = True,
    oracle: bool = True,
) -> None:
    expression = Expression(
        name=name, function=function, values=values, is_twice=twice, oracle=oracle
    )
    EXPRESSIONS.append(expression)


def _unary(names: str, values: Array, **options: Any) -> None:
    for name in names.split():
        _add(name, lambda ns, x, name=name: getattr(ns, name)(x), values, **options)


def _raw(op: str, ns: Any, **arguments: Any) -> Any:
    """An op by its type, where the function of that name would make another one."""
    if ns.__name__ == "paramserve":
        from paramserve._framework.apply import apply_op

        return apply_op(op, None, **arguments)
    return getattr(ns.raw_ops, op)(**arguments)


# Family math.

_unary("negative abs sign square exp expm1 sin cos tan atan sinh cosh tanh asinh", normal(5))
_unary("sigmoid erf erfc floor ceil round rint", normal(5))
_unary("sqrt rsqrt log log1p reciprocal", positive(5))
_unary("asin acos atanh", unit(5))
_unary("lgamma", positive(5))
_unary("digamma", positive(5))
_add("polygamma", lambda ns, x: ns.polygamma(ns.cast([0, 1, 3], x.dtype), x), positive(3))
_add("zeta", lambda ns, q: ns.zeta(ns.cast([2.0, 3.5], q.dtype), q), positive(3, 2))
_unary("acosh", positive(5) + 1.0)
_add("inv", lambda ns, x: _raw("Inv", ns, x=x), positive(5))
for _name in ("add", "subtract", "multiply", "maximum", "minimum", "squared_difference"):
    for _shapes in (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (3,)), ((), (2, 3)), ((1,), ())):
        _add(
            f"{_name}{_shapes[0]}{_shapes[1]}",
            lambda ns, x, y, name=_name: getattr(ns, name)(x, y),
            distinct(*_shapes[0]),
            distinct(*_shapes[1]) + 0.017,
        )
_add("AddV2", lambda ns, x, y: _raw("AddV2", ns, x=x, y=y), normal(2, 3), normal(3))
_add("RealDiv", lambda ns, x, y: ns.truediv(x, y), normal(2, 3), normal(3))
_add("Div", lambda ns, x, y: _raw("Div", ns, x=x, y=y), normal(2, 3), normal(3))
_add("DivNoNan", lambda ns, x, y: _raw("DivNoNan", ns, x=x, y=y), normal(2, 3), normal(3))
_add("FloorMod", lambda ns, x, y: ns.floormod(x, y), normal(4), positive(4) + 0.1, twice=False)
_add(
    "TruncateMod",
    lambda ns, x, y: _raw("TruncateMod", ns, x=x, y=y),
    normal(4) * 3,
    positive(4),
    twice=False,
    oracle=False,
)
_add(
    "Mod",
    lambda ns, x, y: _raw("Mod", ns, x=x, y=y),
    normal(4) * 3,
    positive(4),
    twice=False,
    oracle=False,
)
_add("Pow", lambda ns, x, y: ns.pow(x, y), positive(2, 3), normal(3))
_add("Atan2", lambda ns, x, y: ns.atan2(x, y), normal(2, 3), normal(3))
_add("Complex", lambda ns, x, y: ns.abs(ns.complex(x, y)), normal(2, 3), normal(3), twice=False)
_add("Real", lambda ns, x, y: ns.real(ns.square(ns.complex(x, y))), normal(3), normal(3))
_add("Imag", lambda ns, x, y: ns.imag(ns.square(ns.complex(x, y))), normal(3), normal(3))
_add("Angle", lambda ns, x, y: ns.angle(ns.complex(x, y)), normal(3), normal(3), twice=False)
_add("Conj", lambda ns, x, y: ns.imag(ns.conj(ns.complex(x, y))), normal(3), normal(3))
_add("complex exp", lambda ns, x, y: ns.real(ns.exp(ns.complex(x, y))), normal(3), normal(3))
_add("complex tanh", lambda ns, x, y: ns.real(ns.tanh(ns.complex(x, y))), normal(3), normal(3))
_add("complex sqrt", lambda ns, x, y: ns.imag(ns.sqrt(ns.complex(x, y))), normal(3), normal(3))
_add("complex /", lambda ns, x, y: ns.real(1.0 / ns.complex(x, y)), normal(3), normal(3))
_add("several uses", lambda ns, x: ns.exp(x) * x + ns.square(ns.sin(x)) / x, normal(4))
_add("operators", lambda ns, x, y: (x - y) * x / (y + 3.0) ** 2.0 + abs(x) - -y, normal(3), unit(3))
_add("no dependence", lambda ns, x: ns.to_double(ns.greater(x, 0.0)) * x, normal(4))

# Family math_reduce.

for _name in ("reduce_sum", "reduce_mean", "reduce_prod", "reduce_max", "reduce_min"):
    for _axis in (None, 1, [0, -1], []):
        for _keep in (False, True):
            if _axis == [] and _name == "reduce_prod":
                continue
            _add(
                f"{_name} {_axis} {_keep}",
                lambda ns, x, name=_name, axis=_axis, keep=_keep: getattr(ns, name)(
                    x, axis=axis, keep_dims=keep
                ),
                distinct(2, 3, 2),
                twice=_axis == 1,
            )
_add("reduce_logsumexp", lambda ns, x: ns.reduce_logsumexp(x, 1), normal(2, 3))
_add(
    "reduce_prod with a zero",
    lambda ns, x: ns.reduce_prod(x, 1),
    np.array([[0.0, 2, 3], [1, 0, 0]]),
    twice=False,  # that of a running product is not a number at 0, as in TensorFlow
)
for _exclusive in (False, True):
    for _reverse in (False, True):
        for _name in ("cumsum", "cumprod"):
            _add(
                f"{_name} {_exclusive} {_reverse}",
                lambda ns, x, name=_name, e=_exclusive, r=_reverse: getattr(ns, name)(
                    x, 1, exclusive=e, reverse=r
                ),
                normal(2, 3),
            )
_add("add_n", lambda ns, x, y: ns.add_n([x, y, x * y]), normal(3), normal(3))
_add("accumulate_n", lambda ns, x, y: ns.accumulate_n([x, y, x * y]), normal(3), normal(3))

# Family math_segment.

_SEGMENTS = [0, 0, 2, 2, 2]
for _name in ("sum", "mean", "max", "min", "prod"):
    _add(
        f"segment_{_name}",
        lambda ns, x, name=_name: getattr(ns, f"segment_{name}")(x, _SEGMENTS),
        distinct(5, 2),
        twice=_name != "prod",
        oracle=_name != "prod",
    )
for _name in ("sum", "max", "min", "prod"):
    _add(
        f"unsorted_segment_{_name}",
        lambda ns, x, name=_name: getattr(ns, f"unsorted_segment_{name}")(x, [2, 0, -1, 2, 1], 3),
        distinct(5, 2) + 0.01,
        twice=_name != "prod",
    )
_add(
    "unsorted_segment_prod with zeros",
    lambda ns, x: ns.unsorted_segment_prod(x, [0, 0, 1, 1, 2], 4),
    np.array([0.0, 2.0, 0.0, 0.0, 3.0]),
    twice=False,
)
for _name in ("sum", "mean", "sqrt_n"):
    _add(
        f"sparse_segment_{_name}",
        lambda ns, x, name=_name: getattr(ns, f"sparse_segment_{name}")(x, [3, 1, 1], [0, 0, 2]),
        normal(4, 2),
    )
    _add(
        f"sparse_segment_{_name} of a number of segments",
        lambda ns, x, name=_name: getattr(ns, f"sparse_segment_{name}")(
            x, [3, 1, 1], [0, 0, 2], num_segments=5
        ),
        normal(4, 2),
    )

# Family math_product.

for _a in (False, True):
    for _b in (False, True):
        _add(
            f"matmul {_a} {_b}",
            lambda ns, x, y, a=_a, b=_b: ns.matmul(x, y, transpose_a=a, transpose_b=b),
            normal(3, 2) if _a else normal(2, 3),
            normal(4, 3) if _b else normal(3, 4),
        )
        _add(
            f"BatchMatMul {_a} {_b}",
            lambda ns, x, y, a=_a, b=_b: _raw("BatchMatMul", ns, x=x, y=y, adj_x=a, adj_y=b),
            normal(2, 3, 2) if _a else normal(2, 2, 3),
            normal(2, 4, 3) if _b else normal(2, 3, 4),
        )
        _add(
            f"BatchMatMulV2 {_a} {_b}",
            lambda ns, x, y, a=_a, b=_b: ns.matmul(x, y, adjoint_a=a, adjoint_b=b),
            normal(2, 1, 3, 2) if _a else normal(2, 1, 2, 3),
            normal(3, 4, 3) if _b else normal(3, 3, 4),
            twice=False,
        )
_add(
    "cross",
    lambda ns, x, y: ns.linalg.cross(x, y) if _is_tf(ns) else ns.cross(x, y),
    normal(2, 3),
    normal(2, 3),
)


def _is_tf(ns: Any) -> bool:
    return bool(ns.__name__ != "paramserve")


# Family array.

_add("identity", lambda ns, x: ns.identity(x), normal(3))
_add("identity_n", lambda ns, x, y: ns.identity_n([x, y]), normal(3), normal(2))
_add("ensure_shape", lambda ns, x: ns.ensure_shape(x, [3]), normal(3))
_add("placeholder_with_default", lambda ns, x: ns.placeholder_with_default(x, [3]), normal(3))
_add("check_numerics", lambda ns, x: ns.check_numerics(x, "it"), normal(3))
_add(
    "cast",
    lambda ns, x: ns.cast(ns.cast(x, "complex128") * (1.0 + 2.0j), "float64"),
    normal(3),
    oracle=False,
)
_add(
    "cast to integers",
    lambda ns, x: ns.to_double(ns.to_int32(x * 10.0)) + x,
    normal(3),
    oracle=False,
)
_add("fill", lambda ns, x: ns.fill([2, 3], x), normal())
_add("reshape", lambda ns, x: ns.reshape(x, [3, -1]), normal(2, 3))
_add("expand_dims", lambda ns, x: ns.expand_dims(x, 1), normal(2, 3))
_add("squeeze", lambda ns, x: ns.squeeze(x, [1]), normal(2, 1, 3))
_add("broadcast_to", lambda ns, x: ns.broadcast_to(x, [4, 2, 3]), normal(2, 1))
_add("tile", lambda ns, x: ns.tile(x, [2, 3]), normal(2, 3))
for _mode in ("CONSTANT", "REFLECT", "SYMMETRIC"):
    _add(f"pad {_mode}", lambda ns, x, m=_mode: ns.pad(x, [[1, 0], [1, 2]], mode=m), normal(2, 3))
_add(
    "PadV2",
    lambda ns, x, y: _raw("PadV2", ns, input=x, paddings=[[1, 2]], constant_values=y),
    normal(3),
    normal(),
    oracle=False,
)
_add(
    "Concat",
    lambda ns, x, y: _raw("Concat", ns, concat_dim=1, values=[x, y]),
    normal(2, 3),
    normal(2, 1),
)
_add("concat", lambda ns, x, y: ns.concat([x, y], -1), normal(2, 3), normal(2, 1))
_add("split", lambda ns, x: ns.split(x, 3, axis=1)[::2], normal(2, 6))
_add("SplitV", lambda ns, x: ns.split(x, [1, 3, 2], axis=1)[1], normal(2, 6))
_add("stack", lambda ns, x, y: ns.stack([x, y, x], axis=1), normal(2, 3), normal(2, 3))
_add("unstack", lambda ns, x: ns.unstack(x, axis=1)[0] * 2.0, normal(2, 3))
_add("transpose", lambda ns, x: ns.transpose(x, [2, 0, 1]), normal(2, 3, 2))
_add("Reverse", lambda ns, x: _raw("Reverse", ns, tensor=x, dims=[False, True]), normal(2, 3))
_add("reverse", lambda ns, x: ns.reverse(x, [0, -1]), normal(2, 3))
_add(
    "reverse_sequence",
    lambda ns, x: ns.reverse_sequence(x, [2, 3], seq_dim=1, batch_dim=0),
    normal(2, 4, 2),
)
_add("diag", lambda ns, x: ns.diag(x), normal(2, 2))
_add("diag_part", lambda ns, x: ns.diag_part(x), normal(2, 2, 2, 2))
_add("MatrixDiag", lambda ns, x: _raw("MatrixDiag", ns, diagonal=x), normal(2, 3))
_add("MatrixDiagPart", lambda ns, x: _raw("MatrixDiagPart", ns, input=x), normal(2, 3, 3))
_add(
    "MatrixDiagPart of oblongs", lambda ns, x: _raw("MatrixDiagPart", ns, input=x), normal(2, 2, 3)
)
_add(
    "MatrixSetDiag",
    lambda ns, x, y: _raw("MatrixSetDiag", ns, input=x, diagonal=y),
    normal(2, 2, 3),
    normal(2, 2),
)
_add("matrix_band_part", lambda ns, x: ns.matrix_band_part(x, 1, 0), normal(3, 4))

# Family indexing.

_add("slice", lambda ns, x: ns.slice(x, [0, 1], [2, -1]), normal(3, 4))
_add("strided_slice", lambda ns, x: x[1:, ..., ::-2], normal(3, 2, 4))
_add("a row, a new axis", lambda ns, x: x[-1, None, 1:], normal(3, 2, 4))
_add("gather", lambda ns, x: ns.gather(x, [[2, 0], [2, 2]]), normal(3, 2))
_add(
    "gather of gathered", lambda ns, x: ns.gather(ns.gather(x, [2, 0, 2]), [0, 0, 1]), normal(3, 2)
)
_add("gather and use", lambda ns, x: ns.reduce_sum(ns.gather(x, [1, 1])) + x * 2.0, normal(3, 2))
_add("gather, axis 1", lambda ns, x: ns.gather(x, [[2, 0], [2, 2]], axis=1), normal(2, 3, 2))
_add("gather, last axis", lambda ns, x: ns.gather(x, [1, 1, 0], axis=-1), normal(2, 3, 2))
_add("gather, batch", lambda ns, x: ns.gather(x, [[2, 0], [1, 1]], batch_dims=1), normal(2, 3, 2))
_add(
    "gather, batch, axis 2",
    lambda ns, x: ns.gather(x, [[2, 0], [1, 1]], axis=2, batch_dims=1),
    normal(2, 2, 3),
)
_add(
    "GatherV2",
    lambda ns, x: _raw("GatherV2", ns, params=x, indices=[1, 1], axis=0, batch_dims=0),
    normal(3, 2),
)
_add("gather_nd", lambda ns, x: ns.gather_nd(x, [[0, 1], [1, 1], [0, 1]]), normal(2, 2, 2))
_add("scatter_nd", lambda ns, x: ns.scatter_nd([[1], [3], [1]], x, [4, 2]), normal(3, 2))
_add(
    "where",
    lambda ns, x, y: ns.where([[True, False], [False, True]], x, y),
    normal(2, 2),
    normal(2, 2),
)
_add("where by rows", lambda ns, x, y: ns.where([True, False], x, y), normal(2, 2), normal(2, 2))
_add(
    "SelectV2",
    lambda ns, x, y: _raw("SelectV2", ns, condition=[True, False], t=x, e=y),
    normal(2, 2),
    normal(2),
)
_add("boolean_mask", lambda ns, x: ns.boolean_mask(x, [True, False, True]), normal(3, 2))
_add("dynamic_partition", lambda ns, x: ns.dynamic_partition(x, [1, 0, 1, 1], 3), normal(4, 2))
_add(
    "dynamic_stitch",
    lambda ns, x, y: ns.dynamic_stitch([[0, 2], [1]], [x, y]),
    normal(2, 2),
    normal(1, 2),
)
_add(
    "ParallelDynamicStitch",
    lambda ns, x, y: _raw("ParallelDynamicStitch", ns, indices=[[0, 2], [1]], data=[x, y]),
    normal(2, 2),
    normal(1, 2),
)
_add(
    "embedding_lookup",
    lambda ns, x, y: ns.nn.embedding_lookup([x, y], [[0, 3], [1, 3]]),
    normal(3, 2),
    normal(2, 2),
)

# Families nn and nn_softmax.

for _name in ("relu", "relu6", "leaky_relu", "elu", "selu", "softplus", "softsign"):
    _add(_name, lambda ns, x, name=_name: getattr(ns.nn, name)(x), normal(6) * 3)
_add("bias_add", lambda ns, x, y: ns.nn.bias_add(x, y), normal(2, 2, 3), normal(3))
_add(
    "bias_add NCHW",
    lambda ns, x, y: _raw("BiasAdd", ns, value=x, bias=y, data_format="NCHW"),
    normal(2, 3, 2, 2),
    normal(3),
)
_add(
    "BiasAddV1", lambda ns, x, y: _raw("BiasAddV1", ns, value=x, bias=y), normal(2, 2, 3), normal(3)
)
_add("l2_loss", lambda ns, x: ns.nn.l2_loss(x), normal(2, 3))
_add("l2_normalize", lambda ns, x: ns.nn.l2_normalize(x, 1), normal(2, 3))
_add("moments", lambda ns, x: list(ns.nn.moments(x, [0])), normal(3, 2))
_add("top_k", lambda ns, x: ns.nn.top_k(x, 2)[0], distinct(2, 2, 3))
_add("TopK", lambda ns, x: _raw("TopK", ns, input=x, k=2)[0], distinct(2, 3), oracle=False)
_add("clip_by_value", lambda ns, x: ns.clip_by_value(x, -0.5, 0.5), normal(5))
_add("clip_by_norm", lambda ns, x: ns.clip_by_norm(x, 0.5), normal(5))
_add("clip_by_average_norm", lambda ns, x: ns.clip_by_average_norm(x, 0.1), normal(5), oracle=False)
_add(
    "clip_by_global_norm",
    lambda ns, x, y: ns.clip_by_global_norm([x, y], 0.5)[0],
    normal(3),
    normal(2),
)
_add("softmax", lambda ns, x: ns.nn.softmax(x), normal(2, 3))
_add("softmax, first axis", lambda ns, x: ns.nn.softmax(x, 0), normal(2, 3))
_add("log_softmax", lambda ns, x: ns.nn.log_softmax(x), normal(2, 3))
_add(
    "softmax_cross_entropy_with_logits",
    lambda ns, x: ns.nn.softmax_cross_entropy_with_logits(
        logits=x, labels=[[0.2, 0.8], [1.0, 0.0]]
    ),
    normal(2, 2),
)
_add(
    "softmax_cross_entropy_with_logits_v2",
    lambda ns, x, y: ns.nn.softmax_cross_entropy_with_logits_v2(logits=x, labels=y),
    normal(2, 3),
    np.array([[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]),
)
_add(
    "sparse_softmax_cross_entropy_with_logits",
    lambda ns, x: ns.nn.sparse_softmax_cross_entropy_with_logits(logits=x, labels=[2, 0]),
    normal(2, 3),
)
_add(
    "sigmoid_cross_entropy_with_logits",
    lambda ns, x, y: ns.nn.sigmoid_cross_entropy_with_logits(logits=x, labels=y),
    normal(4),
    positive(4),
)
_add(
    "weighted_cross_entropy_with_logits",
    lambda ns, x, y: ns.nn.weighted_cross_entropy_with_logits(logits=x, labels=y, pos_weight=2.0),
    normal(4),
    positive(4),
)

# Family nn_conv.


def _moved_by(ns: Any, function: Any, x: Any, v: Any) -> Any:
    """How `function(x)` moves as x moves by `v`: the gradient of the gradient by its weights."""
    y = function(x)
    weights = ns.zeros_like(y)
    (back,) = ns.gradients(y, x, weights)
    return ns.gradients(back, weights, v)


for _padding in ("SAME", "VALID"):
    _add(
        f"conv2d {_padding}",
        lambda ns, x, w, p=_padding: ns.nn.conv2d(x, w, [1, 2, 1, 1], p),
        normal(1, 4, 3, 2),
        normal(2, 2, 2, 2),
    )
    _add(
        f"depthwise_conv2d {_padding}",
        lambda ns, x, w, p=_padding: ns.nn.depthwise_conv2d(x, w, [1, 2, 2, 1], p),
        normal(1, 4, 3, 2),
        normal(2, 2, 2, 2),
        twice=_padding == "VALID",
    )
    _add(
        f"max_pool {_padding}",
        lambda ns, x, p=_padding: ns.nn.max_pool(x, [1, 3, 2, 1], [1, 2, 1, 1], p),
        distinct(1, 4, 3, 2),
    )
    _add(
        f"max_pool {_padding}, what moves its largest elements",
        lambda ns, x, v, p=_padding: _moved_by(
            ns, lambda x: ns.nn.max_pool(x, [1, 3, 2, 1], [1, 2, 1, 1], p), x, v
        ),
        distinct(1, 4, 3, 2),
        normal(1, 4, 3, 2),
        oracle=False,
    )
    _add(
        f"avg_pool {_padding}",
        lambda ns, x, p=_padding: ns.nn.avg_pool(x, [1, 3, 2, 1], [1, 2, 1, 1], p),
        normal(1, 4, 3, 2),
    )
_add(
    "conv2d, padded by numbers",
    lambda ns, x, w: ns.nn.conv2d(x, w, [1, 1, 1, 1], [[0, 0], [1, 0], [0, 2], [0, 0]]),
    normal(1, 3, 2, 1),
    normal(2, 2, 1, 2),
)
_add(
    "conv2d, dilated",
    lambda ns, x, w: ns.nn.conv2d(x, w, [1, 1, 1, 1], "VALID", dilations=[1, 2, 1, 1]),
    normal(1, 4, 2, 1),
    normal(2, 2, 1, 2),
    oracle=False,  # its kernel of the gradient takes no dilations
)

# Family control.

_add("cond taken", lambda ns, x: ns.cond(x[0] < 9.0, lambda: x * x, lambda: x), normal(3))
_add(
    "cond not taken",
    lambda ns, x: ns.cond(x[0] > 9.0, lambda: ns.exp(x), lambda: x * 2.0),
    normal(3),
)
_add(
    "cond of a constant",
    lambda ns, x: ns.cond(x[0] > 9.0, lambda: x, lambda: ns.zeros_like(x)) + x,
    normal(3),
)
_add(
    "cond in cond",
    lambda ns, x: ns.cond(
        x[0] < 9.0,
        lambda: ns.cond(x[0] < 8.0, lambda: ns.sin(x) * x, lambda: x),
        lambda: ns.zeros_like(x),
    ),
    normal(3),
)
_add(
    "case",
    lambda ns, x: ns.case(
        [(x[0] > 9.0, lambda: x), (x[0] > 8.0, lambda: x * 2.0)], default=lambda: x * x
    ),
    normal(3),
)
