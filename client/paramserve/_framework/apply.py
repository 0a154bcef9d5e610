"""Adds an op to the default graph: what every op function calls.

Given the values of arguments and attributes by name, it converts the arguments to tensors, infers
the attributes that are types and counts, fills in defaults, and answers the outputs.

Thread rule: adds to the graph of the calling thread; see `Graph`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from paramserve._framework.convert import convert_n_to_tensor, convert_to_tensor
from paramserve._framework.graph import graph_of
from paramserve._framework.operation import Operation
from paramserve._framework.tensor import Tensor
from paramserve_core.dtypes import DType
from paramserve_core.errors import NotFoundError
from paramserve_core.graphdef import canonical_attr
from paramserve_core.opdefs import OpDef, find_op
from paramserve_core.opdefs.registry import REQUIRED, ArgDef


def apply_op(op_type: str, name: str | None = None, **arguments: Any) -> Any:
    """Adds one op.

    Args:
        op_type: the op.
        name: its name; the op's type by default.
        **arguments: values of its arguments and attributes, by the names of its definition. An
            attribute of None counts as not given.

    Returns:
        The output tensor; a list where the op has several outputs or its output is a list; or the
        Operation where it has none. An empty list of outputs counts as none where the op has a
        state, and so a reason to run all the same.

    Raises:
        NotFoundError: there is no such op.
        TypeError: a missing or unknown argument, or one of a type that the op does not take.
        ValueError: shapes that cannot fit, or tensors of different graphs.
    """
    definition = find_op(op_type)
    if definition is None:
        raise NotFoundError(None, None, f"Op type not registered {op_type!r}")
    graph = graph_of(_leaves(arguments, definition))
    with graph.as_default(), graph.name_scope(name or op_type) as scope:
        builder = _Builder(definition, arguments)
        # What takes a reference runs where the variable is, whatever device is around.
        with ExitStack() as places:
            for variable in builder.variables:
                places.enter_context(graph.colocate_with(variable))
            op = graph.add_operation(definition, builder.attrs, builder.inputs, scope)
    outputs = op.values()
    if not definition.outputs or (definition.is_stateful and not outputs):
        return op
    if len(definition.outputs) == 1 and not definition.outputs[0].is_list:
        return outputs[0]
    if len(definition.outputs) == 1:
        return list(outputs)
    results: list[Any] = []
    position = 0
    for arg in definition.outputs:
        count = len(arg.dtypes(builder.attrs))
        part = outputs[position : position + count]
        results.append(list(part) if arg.is_list else part[0])
        position += count
    return results


def _leaves(arguments: Mapping[str, Any], definition: OpDef) -> list[Any]:
    """The values that may be tensors."""
    leaves: list[Any] = []
    for arg in definition.inputs:
        value = arguments.get(arg.name)
        if isinstance(value, (list, tuple)):
            leaves += value
        else:
            leaves.append(value)
    return leaves


class _Builder:
    """The attributes and inputs of one op; lives for the length of `apply_op`."""

    def __init__(self, definition: OpDef, arguments: Mapping[str, Any]) -> None:
        self._definition = definition
        self.attrs: dict[str, Any] = {}
        self.inputs: list[Tensor] = []
        self.variables: list[Operation] = []
        inputs = {arg.name for arg in definition.inputs}
        unknown = [key for key in arguments if key not in inputs and key not in definition.attrs]
        if unknown:
            raise TypeError(f"{definition.name} takes no argument {', '.join(sorted(unknown))}")
        for key, attr in definition.attrs.items():
            if key not in inputs and arguments.get(key) is not None:
                self.attrs[key] = canonical_attr(arguments[key], attr, op=definition.name, name=key)
        for arg in definition.inputs:
            if arg.name not in arguments:
                raise TypeError(f"No argument for input {arg.name} of {definition.name}")
            self._take(arg, arguments[arg.name])
        for key, attr in definition.attrs.items():
            if key in self.attrs:
                continue
            if attr.default is REQUIRED:
                raise TypeError(f"No argument for attr {key} of {definition.name}")
            self.attrs[key] = canonical_attr(attr.default, attr, op=definition.name, name=key)
        # In the order of the definition, as a message lists them.
        self.attrs = {key: self.attrs[key] for key in definition.attrs}

    def _take(self, arg: ArgDef, value: Any) -> None:
        if arg.is_list:
            self._take_list(arg, value)
            return
        known = arg.dtype if arg.type_attr is None else self.attrs.get(arg.type_attr)
        tensor = self._convert(arg, value, known, arg.name)
        if arg.type_attr is not None and arg.type_attr not in self.attrs:
            self._infer_type(arg, tensor.dtype.base_dtype)
        self.inputs.append(tensor)

    def _take_list(self, arg: ArgDef, value: Any) -> None:
        if isinstance(value, Tensor) or not hasattr(value, "__iter__"):
            raise TypeError(
                f"Expected list for '{arg.name}' argument to '{self._definition.name}' Op, not "
                f"{value!r}."
            )
        values = list(value)
        if arg.type_list_attr is not None:
            known = self.attrs.get(arg.type_list_attr)
            if known is not None and len(known) != len(values):
                raise ValueError(
                    f"'{arg.name}' of '{self._definition.name}' has {len(values)} tensors, its "
                    f"types are {len(known)}"
                )
            tensors = [
                self._convert(arg, item, None if known is None else known[i], f"{arg.name}_{i}")
                for i, item in enumerate(values)
            ]
            if known is None:
                attr = self._definition.attrs[arg.type_list_attr]
                dtypes = [tensor.dtype.base_dtype for tensor in tensors]
                self.attrs[arg.type_list_attr] = canonical_attr(
                    dtypes, attr, op=self._definition.name, name=arg.type_list_attr
                )
            self.inputs += tensors
            return
        tensors = self._convert_alike(arg, values)
        assert arg.number_attr is not None
        self._set_count(arg, len(tensors))
        self.inputs += tensors

    def _convert_alike(self, arg: ArgDef, values: list[Any]) -> list[Tensor]:
        known = arg.dtype if arg.type_attr is None else self.attrs.get(arg.type_attr)
        if known is None:
            typed = [v for v in values if isinstance(v, Tensor) or hasattr(v, "_as_graph_element")]
            if typed:
                known = typed[0].dtype.base_dtype
        preferred = self._preferred(arg)
        try:
            tensors = convert_n_to_tensor(values, known, arg.name, arg.is_ref, preferred)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"Tensors in list passed to '{arg.name}' of '{self._definition.name}' Op must all "
                f"be convertible to one type: {error}"
            ) from None
        dtypes = {tensor.dtype.base_dtype for tensor in tensors}
        if len(dtypes) > 1:
            names = ", ".join(tensor.dtype.base_dtype.name for tensor in tensors)
            raise TypeError(
                f"Tensors in list passed to '{arg.name}' of '{self._definition.name}' Op have "
                f"types [{names}] that don't all match."
            )
        if arg.is_ref:
            for tensor in tensors:
                self._check_ref(arg, tensor)
        if tensors and arg.type_attr is not None and arg.type_attr not in self.attrs:
            self._infer_type(arg, tensors[0].dtype.base_dtype)
        return tensors

    def _set_count(self, arg: ArgDef, count: int) -> None:
        assert arg.number_attr is not None
        name = arg.number_attr
        if name in self.attrs and self.attrs[name] != count:
            raise ValueError(
                f"List argument '{arg.name}' to '{self._definition.name}' Op with length {count} "
                f"must match length {self.attrs[name]} of the others."
            )
        attr = self._definition.attrs[name]
        if attr.minimum is not None and count < attr.minimum:
            raise ValueError(
                f"List argument '{arg.name}' to '{self._definition.name}' Op with length {count} "
                f"shorter than minimum length {attr.minimum}."
            )
        self.attrs[name] = count

    def _preferred(self, arg: ArgDef) -> DType | None:
        """The type to try first for a value that has none of its own."""
        if arg.type_attr is None:
            return None
        default = self._definition.attrs[arg.type_attr].default
        return None if default is REQUIRED else default

    def _convert(self, arg: ArgDef, value: Any, dtype: DType | None, name: str) -> Tensor:
        op = self._definition.name
        try:
            if dtype is None:
                tensor = convert_to_tensor(value, None, name, arg.is_ref, self._preferred(arg))
            else:
                tensor = convert_to_tensor(value, dtype, name, arg.is_ref)
        except ValueError as error:
            if dtype is None or not hasattr(value, "dtype"):
                raise
            raise self._mismatch(arg, value.dtype.base_dtype, dtype) from error
        except TypeError as error:
            if dtype is None:
                raise
            raise TypeError(
                f"Expected {dtype.name} passed to parameter '{arg.name}' of op '{op}', got "
                f"{value!r} of type '{type(value).__name__}' instead. {error}"
            ) from None
        if arg.is_ref:
            self._check_ref(arg, tensor)
        return tensor

    def _mismatch(self, arg: ArgDef, found: DType, wanted: DType) -> TypeError:
        prefix = f"Input '{arg.name}' of '{self._definition.name}' Op has type {found.name} that "
        if arg.type_attr is None:
            return TypeError(f"{prefix}does not match expected type of {wanted.name}.")
        first = next(a.name for a in self._definition.inputs if a.type_attr == arg.type_attr)
        if first == arg.name:
            return TypeError(f"{prefix}does not match the attribute {arg.type_attr}={wanted.name}.")
        return TypeError(f"{prefix}does not match type {wanted.name} of argument '{first}'.")

    def _check_ref(self, arg: ArgDef, tensor: Tensor) -> None:
        if not tensor.dtype.is_ref:
            raise TypeError(
                f"'{self._definition.name}' Op requires that input '{arg.name}' be a mutable "
                f"tensor (e.g.: a Variable), got {tensor!r}"
            )
        self.variables.append(tensor.op)

    def _infer_type(self, arg: ArgDef, dtype: DType) -> None:
        assert arg.type_attr is not None
        attr = self._definition.attrs[arg.type_attr]
        if attr.allowed and dtype not in attr.allowed:
            allowed = ", ".join(t.name for t in attr.allowed)
            raise TypeError(
                f"Value passed to parameter '{arg.name}' of '{self._definition.name}' has DataType "
                f"{dtype.name} not in list of allowed values: {allowed}"
            )
        self.attrs[arg.type_attr] = dtype
