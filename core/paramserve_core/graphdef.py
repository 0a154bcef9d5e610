"""Attributes between Python and `AttrValue`, and the decoding of a node that cannot be trusted.

Inside this project an attribute is a plain Python value in one *canonical* form:

| kind     | value                      | kind   | value                     |
|----------|----------------------------|--------|---------------------------|
| `type`   | `DType`                    | `bool` | `bool`                    |
| `int`    | `int`                      | `string` | `str` (`bytes` if it is no UTF-8) |
| `float`  | `float`                    | `shape`  | `TensorShape`           |
| `tensor` | read-only `numpy.ndarray`  | list   | a tuple of those          |

`canonical_attr` brings what a caller wrote into that form, `attr_to_proto` and `attr_from_proto`
carry it to and from the wire, and `decode_attrs` reads all attributes of a `NodeDef` against the
op's definition. The last one runs on servers, on whatever a client sent: a message of some bytes
cannot make it allocate gigabytes, and every complaint is an `InvalidArgumentError`.

Threads: functions without state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from paramserve_core.dtypes import DType, as_edge_type, resource
from paramserve_core.errors import InvalidArgumentError, OpError
from paramserve_core.opdefs.registry import REQUIRED, AttrDef, AttrKind, OpDef
from paramserve_core.shapes import TensorShape
from paramserve_core.tensors import make_tensor_proto, to_ndarray
from paramserve_protos.v1.attr_value_pb2 import AttrValue
from paramserve_protos.v1.node_def_pb2 import NodeDef
from paramserve_protos.v1.tensor_pb2 import TensorProto
from paramserve_protos.v1.tensor_shape_pb2 import TensorShapeProto

COLOCATION_ATTR: Final = "_class"
COLOCATION_PREFIX: Final = "loc:@"

_FIELD_OF_KIND: Final[dict[AttrKind, str]] = {
    "type": "type",
    "int": "i",
    "float": "f",
    "bool": "b",
    "string": "s",
    "shape": "shape",
    "tensor": "tensor",
    "func": "func",
}
_KIND_OF_FIELD: Final = {field: kind for kind, field in _FIELD_OF_KIND.items()}
_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1
_MAX_PADDED_ELEMENTS: Final = 2**24
_MAX_TENSORS: Final = 2**16
"""Most tensors of one argument of an op: each takes memory before the op runs."""


@dataclass(frozen=True, slots=True)
class InputName:
    """What one entry of a node's `input` names: output `index` of `node`, or, None, its end."""

    node: str
    index: int | None

    def __str__(self) -> str:
        return f"^{self.node}" if self.index is None else f"{self.node}:{self.index}"


def split_input(text: str) -> InputName:
    """Reads an entry of a node's `input`: "node", "node:1" or, a control dependency, "^node".

    Raises:
        InvalidArgumentError: it is none of those.
    """
    if text.startswith("^"):
        name, index = text[1:], None
    else:
        name, colon, digits = text.rpartition(":")
        if not colon:
            name, index = text, 0
        elif digits.isascii() and digits.isdigit() and len(digits) < 10:
            index = int(digits)
        else:
            name = ""
    if not name:
        raise _invalid(f"{text!r} names no tensor; wanted 'node', 'node:0' or '^node'")
    return InputName(name, index)


def canonical_attr(value: Any, attr: AttrDef, *, op: str, name: str) -> Any:
    """Brings a Python value for attribute `name` of `op` into its canonical form and checks it.

    Args:
        value: What a caller gave: a value of the attribute's kind, or something that converts to
            one without loss of meaning (`"float32"` for a type, `[2, 3]` for a shape, a Python
            number for a tensor, `bytes` for a string), or an `AttrValue`.
        attr: The attribute's definition.
        op: Op type, for messages.
        name: Attribute name, for messages.

    Returns:
        The canonical value.

    Raises:
        TypeError: The value is of another kind, or a type that the op does not support.
        ValueError: The value is out of range or not one of those allowed.
    """
    if isinstance(value, AttrValue):
        value = attr_from_proto(value, attr)
    if attr.is_list:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            raise TypeError(
                f"attribute {name!r} of op {op!r} must be a list of {attr.kind}, got {value!r}"
            )
        items = tuple(_canonical_item(item, attr, op, name) for item in value)
        if attr.minimum is not None and len(items) < attr.minimum:
            raise ValueError(
                f"attribute {name!r} of op {op!r} must have at least {attr.minimum} elements, "
                f"got {len(items)}"
            )
        return items
    item = _canonical_item(value, attr, op, name)
    if attr.kind == "int" and attr.minimum is not None and item < attr.minimum:
        raise ValueError(
            f"attribute {name!r} of op {op!r} must be at least {attr.minimum}, got {item}"
        )
    return item


def _canonical_item(value: Any, attr: AttrDef, op: str, name: str) -> Any:
    try:
        item = _CONVERTERS[attr.kind](value)
    except (TypeError, ValueError, KeyError) as error:
        reason = f": {error}" if str(error) else ""
        raise TypeError(
            f"attribute {name!r} of op {op!r} must be of kind {attr.kind}, got {value!r}{reason}"
        ) from None
    if item is resource and not attr.takes_handles:
        raise TypeError(
            f"attribute {name!r} of op {op!r}: data type resource is a handle, which the op cannot "
            "compute with"
        )
    if attr.allowed and item not in attr.allowed:
        allowed = ", ".join(sorted(_text(choice) for choice in attr.allowed))
        if attr.kind == "type":
            raise TypeError(
                f"attribute {name!r} of op {op!r}: data type {item.name} is not in the list of "
                f"allowed values: {allowed}"
            )
        raise ValueError(f"attribute {name!r} of op {op!r} must be one of {allowed}; got {item!r}")
    return item


def _text(choice: Any) -> str:
    return choice.name if isinstance(choice, DType) else repr(choice)


def _as_type(value: Any) -> DType:
    return as_edge_type(value).base_dtype


def _as_int(value: Any) -> int:
    # A Dimension has __int__ and __index__; a float that happens to be whole is a mistake.
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError("")
    number = int(value)
    if not _INT64_MIN <= number <= _INT64_MAX:
        raise ValueError("it does not fit into 64 bits")
    return number


def _as_float(value: Any) -> float:
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise TypeError("")
    return float(value)


def _as_bool(value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError("")
    return bool(value)


def _as_string(value: Any) -> str | bytes:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    if not isinstance(value, str):
        raise TypeError("")
    return str(value)


def _as_shape(value: Any) -> TensorShape:
    return value if isinstance(value, TensorShape) else TensorShape(value)


def _as_tensor(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, TensorProto):
        value = to_ndarray(value)
    array = np.asarray(value)
    if array.flags.writeable:
        # The graph keeps the value: a caller who goes on writing to his array must not change it.
        array = array.copy()
        array.flags.writeable = False
    return array


def _as_func(value: Any) -> Any:
    raise TypeError("functions are not supported")


_CONVERTERS: Final[dict[AttrKind, Any]] = {
    "type": _as_type,
    "int": _as_int,
    "float": _as_float,
    "bool": _as_bool,
    "string": _as_string,
    "shape": _as_shape,
    "tensor": _as_tensor,
    "func": _as_func,
}


def attr_to_proto(value: Any, attr: AttrDef | None = None) -> AttrValue:
    """The `AttrValue` of a canonical value.

    Args:
        value: A value in canonical form.
        attr: The attribute's definition; None for one that no op defines (its name begins with
            an underscore), whose kind is then that of the Python value. An empty list of unknown
            kind becomes an empty list value.

    Raises:
        TypeError: There is no `attr`, and the value is of no kind that an attribute can have.
    """
    proto = AttrValue()
    if attr.is_list if attr is not None else isinstance(value, (list, tuple)):
        proto.list.SetInParent()
        for item in value:
            kind = attr.kind if attr is not None else _kind_of(item)
            field = getattr(proto.list, _FIELD_OF_KIND[kind])
            field.append(_item_to_proto(item, kind))
        return proto
    kind = attr.kind if attr is not None else _kind_of(value)
    item = _item_to_proto(value, kind)
    if kind in ("shape", "tensor"):
        getattr(proto, _FIELD_OF_KIND[kind]).CopyFrom(item)
    else:
        setattr(proto, _FIELD_OF_KIND[kind], item)
    return proto


def _kind_of(value: Any) -> AttrKind:
    if isinstance(value, DType):
        return "type"
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, np.integer)):
        return "int"
    if isinstance(value, (float, np.floating)):
        return "float"
    if isinstance(value, (str, bytes)):
        return "string"
    if isinstance(value, TensorShape):
        return "shape"
    if isinstance(value, np.ndarray):
        return "tensor"
    raise TypeError(f"no attribute can have the value {value!r} of {type(value).__name__}")


def _item_to_proto(value: Any, kind: AttrKind) -> Any:
    match kind:
        case "type":
            return value.as_datatype_enum
        case "string":
            return value.encode("utf-8") if isinstance(value, str) else value
        case "shape":
            return value.as_proto()
        case "tensor":
            return make_tensor_proto(value)
        case _:
            return value


def attr_from_proto(proto: AttrValue, attr: AttrDef | None = None) -> Any:
    """The canonical value of an `AttrValue`; without `attr`, of the kind that the message has.

    Raises:
        InvalidArgumentError: The message has no value, or one that is malformed or of another
            kind than `attr` says.
    """
    field = proto.WhichOneof("value")
    if field is None:
        raise _invalid("it has no value")
    if attr is not None:
        wanted = "list" if attr.is_list else _FIELD_OF_KIND[attr.kind]
        if field != wanted:
            expected = f"a list of {attr.kind}" if attr.is_list else f"a value of kind {attr.kind}"
            raise _invalid(f"it must be {expected}, got {_describe(field)}")
    if field == "list":
        return _list_from_proto(proto, attr)
    if field == "placeholder":
        raise _invalid("a placeholder has a meaning inside a function only")
    return _item_from_proto(getattr(proto, field), _KIND_OF_FIELD[field])


def _describe(field: str) -> str:
    return field if field in ("list", "placeholder") else f"kind {_KIND_OF_FIELD[field]}"


def _list_from_proto(proto: AttrValue, attr: AttrDef | None) -> tuple[Any, ...]:
    present = [descriptor.name for descriptor, _ in proto.list.ListFields()]
    if not present:
        return ()
    if len(present) > 1:
        raise _invalid(f"a list has values of one kind, got {' and '.join(present)}")
    kind = _KIND_OF_FIELD[present[0]]
    if attr is not None and kind != attr.kind:
        raise _invalid(f"it must be a list of {attr.kind}, got a list of {kind}")
    return tuple(_item_from_proto(item, kind) for item in getattr(proto.list, present[0]))


def _item_from_proto(value: Any, kind: AttrKind) -> Any:
    match kind:
        case "type":
            try:
                dtype = as_edge_type(int(value))
            except (TypeError, ValueError, KeyError):
                raise _invalid(f"{value} is no data type") from None
            if dtype.is_ref_dtype:
                raise _invalid(f"{dtype.name} is a reference type; give {dtype.base_dtype.name}")
            return dtype
        case "string":
            return _as_string(value)
        case "shape":
            return _shape_from_proto(value)
        case "tensor":
            return _tensor_from_proto(value)
        case "func":
            raise _invalid(f"functions are not supported, got {value.name!r}")
        case _:
            return value


def _shape_from_proto(proto: TensorShapeProto) -> TensorShape:
    for dim in proto.dim:
        if dim.size < -1:
            raise _invalid(f"a dimension of {dim.size}; it must be -1 (unknown) or at least 0")
    try:
        return TensorShape(proto)
    except (TypeError, ValueError) as error:
        raise _invalid(str(error)) from None


def _tensor_from_proto(proto: TensorProto) -> np.ndarray[Any, Any]:
    try:
        splat = _splat(proto)
        array = to_ndarray(proto) if splat is None else splat
    except OpError:
        raise
    except (TypeError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise _invalid(f"malformed tensor: {error}") from None
    if array.flags.writeable:
        array.flags.writeable = False
    return array


def _splat(proto: TensorProto) -> np.ndarray[Any, Any] | None:
    """A tensor whose message holds its one value once, as a view of that value.

    Such a message of some bytes may ask for any amount of memory; the view takes none.
    """
    dims = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_content or proto.tensor_shape.unknown_rank or any(size < 0 for size in dims):
        return None
    count = math.prod(dims)
    fields = {field.name: value for field, value in proto.ListFields() if field.is_repeated}
    held = sum(len(value) for value in fields.values())
    if "scomplex_val" in fields or "dcomplex_val" in fields:
        held //= 2
    if count <= held:
        return None
    if count > _INT64_MAX:
        raise ValueError(f"shape {dims} has more elements than 64 bits can count")
    if held == 1:
        one = TensorProto()
        one.CopyFrom(proto)
        del one.tensor_shape.dim[:]
        return np.broadcast_to(to_ndarray(one), dims)
    if count > _MAX_PADDED_ELEMENTS:
        raise ValueError(
            f"shape {dims} has {count} elements and the message holds {held}; at most "
            f"{_MAX_PADDED_ELEMENTS} are filled up with the last one"
        )
    return None


def decode_attrs(node: NodeDef, op_def: OpDef) -> dict[str, Any]:
    """Every attribute that `op_def` defines, in canonical form, defaults filled in.

    Attributes whose name begins with an underscore belong to whoever wrote the graph (colocation,
    recorded shapes) and are passed over.

    Args:
        node: A node, of any origin.
        op_def: The definition of the node's op.

    Returns:
        Attribute name to value, in the order of the definition.

    Raises:
        InvalidArgumentError: An attribute is missing, malformed, of the wrong kind, out of range,
            or not one of the op's.
    """
    for name in node.attr:
        if name not in op_def.attrs and not name.startswith("_"):
            known = ", ".join(op_def.attrs) or "none"
            raise InvalidArgumentError(
                node, None, f"op {op_def.name} has no attribute {name!r}; it has: {known}"
            )
    attrs: dict[str, Any] = {}
    for name, attr in op_def.attrs.items():
        if name in node.attr:
            try:
                value = attr_from_proto(node.attr[name], attr)
                attrs[name] = canonical_attr(value, attr, op=op_def.name, name=name)
            except OpError as error:
                raise InvalidArgumentError(
                    node, None, f"attribute {name!r} of op {op_def.name}: {error.message}"
                ) from None
            except (TypeError, ValueError) as error:
                raise InvalidArgumentError(node, None, str(error)) from None
        elif attr.default is not REQUIRED:
            attrs[name] = canonical_attr(attr.default, attr, op=op_def.name, name=name)
        else:
            raise InvalidArgumentError(
                node, None, f"attribute {name!r} of op {op_def.name} is missing"
            )
    for arg in (*op_def.inputs, *op_def.outputs):
        count = 0 if arg.number_attr is None else attrs[arg.number_attr]
        if count > _MAX_TENSORS:
            raise InvalidArgumentError(
                node,
                None,
                f"attribute {arg.number_attr!r} of op {op_def.name} asks for {count} tensors; "
                f"there can be at most {_MAX_TENSORS}",
            )
    return attrs


def colocation_groups(attrs: Mapping[str, AttrValue]) -> list[str]:
    """The names of the ops that a node asks to be placed with, out of its `_class` attribute.

    Raises:
        InvalidArgumentError: The attribute is no list of strings.
    """
    if COLOCATION_ATTR not in attrs:
        return []
    groups = attr_from_proto(attrs[COLOCATION_ATTR])
    if not isinstance(groups, tuple) or not all(isinstance(group, str) for group in groups):
        raise _invalid(f"attribute {COLOCATION_ATTR!r} must be a list of strings, got {groups!r}")
    return [
        group.removeprefix(COLOCATION_PREFIX)
        for group in groups
        if group.startswith(COLOCATION_PREFIX)
    ]


def _invalid(message: str) -> InvalidArgumentError:
    return InvalidArgumentError(None, None, message)
