"""Ops that apply a gradient to a variable and to the optimizer's slots beside it.

Every op takes references to the variable and to its slots, hyperparameters as scalars, and a
gradient; it gives the variable on. A dense op takes a gradient of the variable's shape. A sparse
op takes rows `grad` of shape ``[n, ...]`` and their numbers `indices` of shape ``[n]``, and changes
those rows only, of the variable and of the slots; a number that occurs twice is applied twice, one
after the other. The formulas are in `kernels.update_rules`.

TensorFlow has all of these except those of the last table: AdamW and Lion (dense and sparse), and
an Adam that changes only the rows of a sparse gradient. A graph with one of them runs here only.
Their hyperparameters have a type of their own, as 0.999 is 1 in bfloat16.

`use_locking` is accepted and has no meaning: an update is always atomic.

Thread rule: as the registry's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from paramserve_core.dtypes import DType, float32, float64
from paramserve_core.opdefs import shape_functions
from paramserve_core.opdefs.registry import (
    AttrDef,
    ShapeContext,
    bool_attr,
    find_op,
    register_op,
    type_attr,
)
from paramserve_core.opdefs.type_sets import FLOATS, INDICES, INEXACT
from paramserve_core.shapes import TensorShape

GRADIENTS: Final = ("grad", "delta")
"""What the input with the gradient is called."""


def _update(ctx: ShapeContext) -> Sequence[TensorShape]:
    definition = find_op(ctx.op)
    assert definition is not None
    shapes = dict(zip((arg.name for arg in definition.inputs), ctx.input_shapes, strict=True))
    var = shape_functions.merge_shapes(
        ctx, [shapes[arg.name] for arg in definition.inputs if arg.is_ref]
    )
    for i, arg in enumerate(definition.inputs):
        if arg.name not in (*GRADIENTS, "indices") and not arg.is_ref:
            shape_functions.require_rank(ctx, i, 0)
    grad = next(shapes[name] for name in GRADIENTS if name in shapes)
    if "indices" not in shapes:
        return [shape_functions.merge_shapes(ctx, [var, grad])]
    dims = shape_functions.dims_of(var)
    (count,) = shape_functions.require_rank(ctx, list(shapes).index("indices"), 1)
    if dims is not None:
        if not dims:
            raise shape_functions.shape_error(ctx, "Shape must be at least rank 1 but is rank 0")
        shape_functions.merge_shapes(ctx, [TensorShape([count, *dims[1:]]), grad])
    return [var]


def _define(
    op: str,
    refs: str,
    values: str,
    types: Iterable[DType],
    attrs: Mapping[str, AttrDef],
    scalar_type: str = "T",
) -> None:
    inputs = [f"{name}: Ref(T)" for name in refs.split()]
    kinds = {"indices": "Tindices", "global_step": "int64", "grad": "T", "delta": "T"}
    inputs += [f"{name}: {kinds.get(name, scalar_type)}" for name in values.split()]
    all_attrs = {"T": type_attr(types)}
    if "indices" in values.split():
        all_attrs["Tindices"] = type_attr(INDICES)
    register_op(
        op,
        inputs=", ".join(inputs),
        outputs="out: Ref(T)",
        attrs={**all_attrs, "use_locking": bool_attr(False), **attrs},
        shape=_update,
        has_effect=True,
    )


_WIDE: Final = (float32, float64)
_NESTEROV: Final = {"use_nesterov": bool_attr(False)}
_SLOTS: Final = {"update_slots": bool_attr(True)}
_LINEAR: Final = {"multiply_linear_by_lr": bool_attr(False)}

# The op, its references, its other inputs in their order, its types and its further attributes.
for _op, _refs, _values, _types, _attrs in (
    ("GradientDescent", "var", "alpha delta", INEXACT, {}),
    ("Momentum", "var accum", "lr grad momentum", INEXACT, _NESTEROV),
    ("Adagrad", "var accum", "lr grad", INEXACT, _SLOTS),
    ("AdagradV2", "var accum", "lr epsilon grad", INEXACT, _SLOTS),
    (
        "AdagradDA",
        "var gradient_accumulator gradient_squared_accumulator",
        "grad lr l1 l2 global_step",
        _WIDE,
        {},
    ),
    ("Adadelta", "var accum accum_update", "lr rho epsilon grad", INEXACT, {}),
    (
        "Adam",
        "var m v",
        "beta1_power beta2_power lr beta1 beta2 epsilon grad",
        INEXACT,
        _NESTEROV,
    ),
    ("AdaMax", "var m v", "beta1_power lr beta1 beta2 epsilon grad", FLOATS, {}),
    ("RMSProp", "var ms mom", "lr rho momentum epsilon grad", INEXACT, {}),
    ("CenteredRMSProp", "var mg ms mom", "lr rho momentum epsilon grad", INEXACT, {}),
    ("Ftrl", "var accum linear", "grad lr l1 l2 lr_power", FLOATS, _LINEAR),
    ("FtrlV2", "var accum linear", "grad lr l1 l2 l2_shrinkage lr_power", FLOATS, _LINEAR),
    ("ProximalGradientDescent", "var", "alpha l1 l2 delta", _WIDE, {}),
    ("ProximalAdagrad", "var accum", "lr l1 l2 grad", _WIDE, {}),
    ("AddSign", "var m", "lr alpha sign_decay beta grad", FLOATS, {}),
    ("PowerSign", "var m", "lr logbase sign_decay beta grad", FLOATS, {}),
):
    _define(f"Apply{_op}", _refs, _values, _types, _attrs)

for _op, _refs, _values, _types, _attrs in (
    ("Momentum", "var accum", "lr grad indices momentum", INEXACT, _NESTEROV),
    ("Adagrad", "var accum", "lr grad indices", INEXACT, _SLOTS),
    ("AdagradV2", "var accum", "lr epsilon grad indices", INEXACT, _SLOTS),
    (
        "AdagradDA",
        "var gradient_accumulator gradient_squared_accumulator",
        "grad indices lr l1 l2 global_step",
        _WIDE,
        {},
    ),
    ("Adadelta", "var accum accum_update", "lr rho epsilon grad indices", INEXACT, {}),
    ("RMSProp", "var ms mom", "lr rho momentum epsilon grad indices", INEXACT, {}),
    ("CenteredRMSProp", "var mg ms mom", "lr rho momentum epsilon grad indices", INEXACT, {}),
    ("Ftrl", "var accum linear", "grad indices lr l1 l2 lr_power", FLOATS, _LINEAR),
    ("FtrlV2", "var accum linear", "grad indices lr l1 l2 l2_shrinkage lr_power", FLOATS, _LINEAR),
    ("ProximalGradientDescent", "var", "alpha l1 l2 grad indices", _WIDE, {}),
    ("ProximalAdagrad", "var accum", "lr l1 l2 grad indices", _WIDE, {}),
):
    _define(f"SparseApply{_op}", _refs, _values, _types, _attrs)

# Not in TensorFlow.
_ADAM: Final = "beta1_power beta2_power lr beta1 beta2 epsilon"
_SCALARS: Final = {"Tscalars": type_attr(_WIDE, default=float32)}
_define(
    "SparseApplyAdam",
    "var m v",
    f"{_ADAM} grad indices",
    INEXACT,
    {**_SCALARS, **_NESTEROV},
    "Tscalars",
)
for _op, _refs, _values in (
    ("AdamW", "var m v", f"{_ADAM} weight_decay grad"),
    ("Lion", "var m", "lr beta1 beta2 weight_decay grad"),
):
    _define(f"Apply{_op}", _refs, _values, FLOATS, _SCALARS, "Tscalars")
    _define(f"SparseApply{_op}", _refs, f"{_values} indices", FLOATS, _SCALARS, "Tscalars")
