"""From what a program gives a saver to variables and their names in a checkpoint.

Thread rule: reads the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paramserve._framework.collections import GraphKeys
from paramserve._framework.convert import convert_to_tensor
from paramserve._framework.graph import get_default_graph
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve._saver.texts import check_text
from paramserve_core.opdefs.io import format_shape_and_slice
from paramserve_core.opdefs.state import declared_shape
from paramserve_core.shapes import TensorShape
from paramserve_protos.v1.checkpoint_service_pb2 import CheckpointEntry, Slice

VARIABLE_OPS: Final = frozenset({"Variable", "VariableV2"})


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of a larger tensor a variable is."""

    full_shape: tuple[int, ...]
    offset: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Saveable:
    """A variable and its name in a checkpoint.

    Attributes:
        key: the name.
        ref: the variable op's output.
        part: which part of the tensor of that name it is; None for all of it.
    """

    key: str
    ref: Tensor
    part: Part | None = None

    @property
    def op(self) -> Operation:
        """The variable op."""
        return self.ref.op

    @property
    def shape_and_slice(self) -> str:
        """The part as save and restore ops name it."""
        part = self.part
        if part is None:
            return ""
        return format_shape_and_slice(part.full_shape, part.offset, part.shape)

    @property
    def shape(self) -> TensorShape:
        """The shape that the graph declares."""
        return declared_shape(self.op.type, self.op.attrs["shape"])

    def entry(self, *, reshape: bool, cast: bool) -> CheckpointEntry:
        """What a master needs to know of it."""
        entry = CheckpointEntry(
            key=self.key,
            node=self.op.name,
            container=self.op.attrs["container"],
            shared_name=self.op.attrs["shared_name"],
            dtype=self.ref.dtype.base_dtype.as_datatype_enum,
            reshape=reshape,
            cast=cast,
            shape=self.shape.as_proto(),
        )
        if self.part is not None:
            part = self.part
            entry.slice.CopyFrom(
                Slice(full_shape=part.full_shape, offset=part.offset, shape=part.shape)
            )
        return entry


def saveables_of(var_list: Any, *, allow_empty: bool = False) -> list[Saveable]:
    """The variables that a saver is to manage, in the order of their names.

    Args:
        var_list: None for all variables of the default graph; variables; or a dict of names in
            the checkpoint to variables. A partitioned variable, or the list of its parts, is one
            item.
        allow_empty: answer nothing if there are none.

    Raises:
        TypeError: an item is no variable.
        ValueError: two items have one name, one variable has two names, or there are none.
    """
    if var_list is None:
        var_list = get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES)
    named = var_list if isinstance(var_list, Mapping) else named_variables(var_list)
    if not isinstance(named, Mapping):
        raise TypeError(f"var_list must be None, a list or a dict, not {type(var_list).__name__}")
    if not named and not allow_empty:
        raise ValueError(
            "No variables to save: make variables before the Saver, or give it some in var_list"
        )
    found: list[Saveable] = []
    for key in sorted(named):
        found += _saveables(key, named[key])
    owners: dict[Tensor, str] = {}
    for saveable in found:
        other = owners.setdefault(saveable.ref, saveable.key)
        if other != saveable.key:
            raise ValueError(
                f"The same saveable will be restored with two names: {saveable.key} and {other}"
            )
    if len({saveable.ref.graph for saveable in found}) > 1:
        raise ValueError("the variables of a Saver must be of one graph")
    return found


def named_variables(variables: Any) -> dict[str, Any]:
    """Variables by the names that they have in their graph; of a partitioned one, the parts.

    Raises:
        TypeError: an item is no variable.
        ValueError: two have one name.
    """
    if isinstance(variables, (str, bytes)) or not isinstance(variables, Iterable):
        raise TypeError(f"var_list must be None, a list or a dict, not {type(variables).__name__}")
    named: dict[str, Any] = {}
    for variable in variables:
        if _is_partitioned(variable):
            key, parts = _common_name(variable), list(_parts(variable))
        elif getattr(variable, "_save_slice_info", None) is not None:
            key, parts = variable._save_slice_info.full_name, [variable]
        else:
            key, parts = _ref_of(variable).op.name, None
        if parts is None:
            if key in named:
                raise ValueError(f"At least two variables have the same name: {key}")
            named[key] = variable
            continue
        earlier = named.setdefault(key, [])
        if not isinstance(earlier, list):
            raise ValueError(f"Mixing slices and non-slices with the same name: {key}")
        earlier += parts
    return named


def _saveables(key: Any, value: Any) -> list[Saveable]:
    if not isinstance(key, str):
        raise TypeError(
            "names_to_saveables must be a dict mapping string names to checkpointable operations. "
            f"Name is not a string: {key!r}"
        )
    check_text(key, "name in the checkpoint")
    if not _is_partitioned(value):
        part = _part_of(value)
        if part is not None and part.shape == part.full_shape:
            part = None
        return [Saveable(key, _ref_of(value), part)]
    parts = list(_parts(value))
    if not parts:
        raise ValueError(f"{key}: a partitioned variable without parts")
    name = _common_name(parts)
    found = []
    for item in parts:
        part = _part_of(item)
        if part is None:
            raise ValueError(f"Slices must all be slices: {item!r}")
        if item._save_slice_info.full_name != name:
            raise ValueError(
                f"Slices must all be from the same tensor: {name} != "
                f"{item._save_slice_info.full_name}"
            )
        found.append(Saveable(key, _ref_of(item), part))
    return found


def _is_partitioned(value: Any) -> bool:
    """Whether it is a partitioned variable or a list of parts; neither has a type to import."""
    if isinstance(value, (list, tuple)):
        return True
    return hasattr(value, "_get_variable_list")


def _parts(value: Any) -> Sequence[Any]:
    found: Sequence[Any] = value if isinstance(value, (list, tuple)) else value._get_variable_list()
    return found


def _common_name(value: Any) -> str:
    parts = _parts(value)
    for part in parts:
        info = getattr(part, "_save_slice_info", None)
        if info is None:
            raise ValueError(f"Slices must all be slices: {part!r}")
        name: str = info.full_name
        return name
    raise ValueError("a partitioned variable without parts")


def _part_of(variable: Any) -> Part | None:
    info = getattr(variable, "_save_slice_info", None)
    if info is None:
        return None
    return Part(
        tuple(int(n) for n in info.full_shape),
        tuple(int(n) for n in info.var_offset),
        tuple(int(n) for n in info.var_shape),
    )


def _ref_of(variable: Any) -> Tensor:
    """The output of the variable op that a variable stands for.

    Raises:
        TypeError: it is no variable.
    """
    if isinstance(variable, Tensor):
        ref = variable
    elif hasattr(variable, "_as_graph_element"):
        ref = convert_to_tensor(variable, as_ref=True)
    else:
        raise _no_variable(variable)
    if ref.op.type not in VARIABLE_OPS:
        raise _no_variable(variable)
    return ref


def _no_variable(value: Any) -> TypeError:
    return TypeError(
        "names_to_saveables must be a dict mapping string names to Tensors/Variables. Not a "
        f"variable: {value!r}"
    )
