"""Random tensors; how a stream of numbers is chosen is said in `kernels.random_streams`.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramserve_core.dtypes import float16, float32, float64, int32, int64
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import AttrDef, ShapeContext, int_attr, register_op, type_attr
from paramserve_core.opdefs.type_sets import FLOATS, INDICES, REALS
from paramserve_core.shapes import TensorShape

_SEEDS: dict[str, AttrDef] = {"seed": int_attr(0), "seed2": int_attr(0)}


def _uniform_int(ctx: ShapeContext) -> Sequence[TensorShape]:
    shape_functions.require_rank(ctx, 0, 1)
    shape_functions.require_rank(ctx, 1, 0)
    shape_functions.require_rank(ctx, 2, 0)
    return [ctx.shape_from(0)]


def _multinomial(ctx: ShapeContext) -> Sequence[TensorShape]:
    rows, _ = shape_functions.require_rank(ctx, 0, 2)
    shape_functions.require_rank(ctx, 1, 0)
    samples = ctx.constant(1)
    if samples is not None and int(samples) < 0:
        raise shape_functions.shape_error(ctx, f"num_samples {int(samples)} is negative")
    return [TensorShape([rows, None if samples is None else int(samples)])]


def _gamma(ctx: ShapeContext) -> Sequence[TensorShape]:
    shape_functions.require_rank(ctx, 0, 1)
    head = shape_functions.dims_of(ctx.shape_from(0))
    tail = shape_functions.dims_of(ctx.input_shapes[1])
    if head is None or tail is None:
        return [shape_functions.UNKNOWN]
    return [TensorShape([*head, *tail])]


for _name in ("RandomStandardNormal", "TruncatedNormal", "RandomUniform"):
    register_op(
        _name,
        inputs="shape: T",
        outputs="output: dtype",
        attrs={**_SEEDS, "dtype": type_attr(FLOATS), "T": type_attr(INDICES)},
        shape=shape_functions.given_by(0),
        is_stateful=True,
        has_effect=True,
    )
register_op(
    "RandomUniformInt",
    inputs="shape: T, minval: Tout, maxval: Tout",
    outputs="output: Tout",
    attrs={**_SEEDS, "Tout": type_attr(INDICES), "T": type_attr(INDICES)},
    shape=_uniform_int,
    is_stateful=True,
    has_effect=True,
)
register_op(
    "RandomGamma",
    inputs="shape: S, alpha: T",
    outputs="output: T",
    attrs={**_SEEDS, "S": type_attr(INDICES), "T": type_attr((float16, float32, float64))},
    shape=_gamma,
    is_stateful=True,
    has_effect=True,
)
register_op(
    "RandomShuffle",
    inputs="value: T",
    outputs="output: T",
    attrs={**_SEEDS, "T": type_attr()},
    shape=shape_functions.unchanged,
    is_stateful=True,
    has_effect=True,
)
register_op(
    "Multinomial",
    inputs="logits: T, num_samples: int32",
    outputs="output: output_dtype",
    attrs={
        **_SEEDS,
        "T": type_attr(REALS),
        "output_dtype": type_attr((int32, int64), default=int64),
    },
    shape=_multinomial,
    is_stateful=True,
    has_effect=True,
)
