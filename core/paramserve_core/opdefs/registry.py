"""The table of operation definitions: what an op takes, gives, and how its shapes follow.

An op is *defined* here once and every other layer reads the definition: the client to check a
call and infer types and shapes while the graph is built, the planner to know what has state, the
executor to know which edges carry a reference. Names, argument order and attribute names are
TensorFlow's, so that a GraphDef means the same in both; the source is the `OpDef` that
TensorFlow's own registry holds for the op.

Argument lists are written in the notation of that registry: ``"a: T, b: T"``, a reference as
``"ref: Ref(T)"``, N tensors of one type as ``"values: N * T"``, a heterogeneous list as
``"components: Tlist"`` where ``Tlist`` is a list-of-types attribute.

Thread rule: filled while `paramserve_core.opdefs` is imported, read-only afterwards.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from paramserve_core.dtypes import DType, as_edge_type
from paramserve_core.shapes import TensorShape

AttrKind = Literal["type", "int", "float", "bool", "string", "shape", "tensor", "func"]

REQUIRED: Final = object()
"""Default of an attribute that has none: the caller, or inference from the inputs, gives it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttrDef:
    """One attribute of an op: its kind, and which values it may take.

    A type may be `resource`, a handle, only where the op `takes_handles`: most kernels compute
    with elements, and a handle has none.
    """

    kind: AttrKind
    is_list: bool = False
    default: Any = REQUIRED
    allowed: tuple[Any, ...] = ()
    minimum: int | None = None
    takes_handles: bool = False


@dataclass(frozen=True, slots=True)
class ArgDef:
    """One input or output argument; it stands for one tensor or for a list of them.

    Exactly one of `dtype` (a fixed type), `type_attr` (the type is that attribute's value) and
    `type_list_attr` (a list of tensors, typed by that attribute) is set. With `number_attr` the
    argument is that many tensors of one type.
    """

    name: str
    dtype: DType | None = None
    type_attr: str | None = None
    type_list_attr: str | None = None
    number_attr: str | None = None
    is_ref: bool = False

    @property
    def is_list(self) -> bool:
        """Whether the argument is a list of tensors."""
        return self.number_attr is not None or self.type_list_attr is not None

    def dtypes(self, attrs: Mapping[str, Any]) -> tuple[DType, ...]:
        """The types of the tensors of this argument (reference types where it is a reference)."""
        if self.type_list_attr is not None:
            return tuple(as_edge_type(t) for t in attrs[self.type_list_attr])
        base = self.dtype if self.dtype is not None else as_edge_type(attrs[self.type_attr or ""])
        count = attrs[self.number_attr] if self.number_attr is not None else 1
        return ((base.as_ref if self.is_ref else base),) * count


class ShapeContext:
    """What a shape function may look at: the inputs' shapes, attributes and known constants.

    Inputs are numbered flat, list arguments expanded. `constant_of` answers the value of an input
    that is known while the graph is built, or None; `partial_of` the same for a 1-D integer input
    that is read as a shape and may be known in part.
    """

    __slots__ = (
        "_constant_of",
        "_partial_of",
        "attrs",
        "input_dtypes",
        "input_shapes",
        "name",
        "op",
    )

    def __init__(
        self,
        op: str,
        name: str,
        attrs: Mapping[str, Any],
        input_shapes: Sequence[TensorShape],
        input_dtypes: Sequence[DType],
        constant_of: Callable[[int], np.ndarray[Any, Any] | None],
        partial_of: Callable[[int], TensorShape],
    ) -> None:
        self.op = op
        self.name = name
        self.attrs = attrs
        self.input_shapes = input_shapes
        self.input_dtypes = input_dtypes
        self._constant_of = constant_of
        self._partial_of = partial_of

    def constant(self, index: int) -> np.ndarray[Any, Any] | None:
        """The value of input `index` where it is known while the graph is built, else None."""
        return self._constant_of(index)

    def shape_from(self, index: int) -> TensorShape:
        """Input `index`, a 1-D integer tensor, read as a shape; unknown parts stay unknown."""
        return self._partial_of(index)


ShapeFunction = Callable[[ShapeContext], Sequence[TensorShape]]
"""Answers one shape per output tensor; raises ValueError where the inputs cannot fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpDef:
    """The definition of one op.

    Attributes:
        is_stateful: the op has state or a source of randomness: it is never merged with an equal
            op nor folded into a constant.
        has_effect: running it again would change something (a variable, a random stream, a
            file): the results of a step with such an op are kept until they are acknowledged.
        allows_uninitialized_input: a reference input may be of a variable without a value.
    """

    name: str
    inputs: tuple[ArgDef, ...]
    outputs: tuple[ArgDef, ...]
    attrs: Mapping[str, AttrDef]
    shape: ShapeFunction
    is_stateful: bool = False
    has_effect: bool = False
    allows_uninitialized_input: bool = False
    family: str

    def input_dtypes(self, attrs: Mapping[str, Any]) -> tuple[DType, ...]:
        """The type of every input tensor, flat, under the given attributes."""
        return tuple(t for arg in self.inputs for t in arg.dtypes(attrs))

    def output_dtypes(self, attrs: Mapping[str, Any]) -> tuple[DType, ...]:
        """The type of every output tensor, flat, under the given attributes."""
        return tuple(t for arg in self.outputs for t in arg.dtypes(attrs))


def type_attr(allowed: Iterable[DType] = (), default: Any = REQUIRED) -> AttrDef:
    """An attribute that is a dtype, one of `allowed` (any if empty)."""
    return AttrDef(kind="type", allowed=tuple(allowed), default=default)


def passing_type_attr() -> AttrDef:
    """An attribute that is the dtype of what an op passes on unseen: any, and a handle's."""
    return AttrDef(kind="type", takes_handles=True)


def type_list_attr(default: Any = REQUIRED, minimum: int | None = None) -> AttrDef:
    """An attribute that is a list of dtypes, at least `minimum` of them."""
    return AttrDef(kind="type", is_list=True, default=default, minimum=minimum)


def int_attr(default: Any = REQUIRED, minimum: int | None = None) -> AttrDef:
    """An integer attribute of at least `minimum`."""
    return AttrDef(kind="int", default=default, minimum=minimum)


def float_attr(default: Any = REQUIRED) -> AttrDef:
    """A float attribute."""
    return AttrDef(kind="float", default=default)


def bool_attr(default: Any = REQUIRED) -> AttrDef:
    """A boolean attribute."""
    return AttrDef(kind="bool", default=default)


def string_attr(default: Any = REQUIRED, allowed: Iterable[str] = ()) -> AttrDef:
    """A string attribute (a Python `str` everywhere inside this project)."""
    return AttrDef(kind="string", default=default, allowed=tuple(allowed))


def shape_attr(default: Any = REQUIRED) -> AttrDef:
    """An attribute that is a `TensorShape`."""
    return AttrDef(kind="shape", default=default)


def tensor_attr(default: Any = REQUIRED) -> AttrDef:
    """An attribute that is a tensor (a read-only NumPy array inside this project)."""
    return AttrDef(kind="tensor", default=default)


def list_attr(
    kind: AttrKind, default: Any = REQUIRED, minimum: int | None = None, allowed: Iterable[Any] = ()
) -> AttrDef:
    """An attribute that is a list of values of `kind`."""
    return AttrDef(
        kind=kind, is_list=True, default=default, minimum=minimum, allowed=tuple(allowed)
    )


_ARG = re.compile(r"(?P<name>\w+)\s*:\s*(?:(?P<n>\w+)\s*\*\s*)?(?P<type>Ref\(\s*\w+\s*\)|\w+)")
_OPS: dict[str, OpDef] = {}


def _parse_args(spec: str, attrs: Mapping[str, AttrDef]) -> tuple[ArgDef, ...]:
    args = []
    for part in filter(None, (p.strip() for p in spec.split(","))):
        match = _ARG.fullmatch(part)
        if match is None:
            raise ValueError(f"argument {part!r} is not of the form 'name: [N *] type'")
        type_name = match["type"]
        is_ref = type_name.startswith("Ref(")
        if is_ref:
            type_name = type_name[4:-1].strip()
        attr = attrs.get(type_name)
        args.append(
            ArgDef(
                name=match["name"],
                dtype=as_edge_type(type_name) if attr is None else None,
                type_attr=type_name if attr is not None and not attr.is_list else None,
                type_list_attr=type_name if attr is not None and attr.is_list else None,
                number_attr=match["n"],
                is_ref=is_ref,
            )
        )
    return tuple(args)


def register_op(
    name: str,
    *,
    shape: ShapeFunction,
    inputs: str = "",
    outputs: str = "",
    attrs: Mapping[str, AttrDef] | None = None,
    is_stateful: bool = False,
    has_effect: bool = False,
    allows_uninitialized_input: bool = False,
) -> None:
    """Defines the op `name`. The family is the module that calls this.

    Raises:
        ValueError: the op is defined already, or an argument's notation is malformed.
    """
    if name in _OPS:
        raise ValueError(f"op {name!r} is defined twice")
    attrs = dict(attrs or {})
    _OPS[name] = OpDef(
        name=name,
        inputs=_parse_args(inputs, attrs),
        outputs=_parse_args(outputs, attrs),
        attrs=attrs,
        shape=shape,
        is_stateful=is_stateful or has_effect,
        has_effect=has_effect,
        allows_uninitialized_input=allows_uninitialized_input,
        family=sys._getframe(1).f_globals["__name__"].rpartition(".")[2],
    )


def find_op(name: str) -> OpDef | None:
    """The definition of the op `name`, or None."""
    return _OPS.get(name)


def all_ops() -> Mapping[str, OpDef]:
    """Every definition by name."""
    return _OPS
