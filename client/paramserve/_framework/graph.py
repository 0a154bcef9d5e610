"""The graph that a program builds before anything runs.

What a `with` block sets (name scope, device, control dependencies, colocation, container) is kept
per thread, so that two threads may build parts of one graph side by side.

Thread rule: `_lock` guards operations, names and collections; every public method may be called
from any thread. An operation that is in the graph stays there.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from paramserve._framework import creation_site
from paramserve._framework.collections import Collections
from paramserve._framework.default_stack import DefaultStack
from paramserve._framework.operation import Operation
from paramserve._framework.shape_inference import infer_shapes
from paramserve._framework.stacks import ControlDependencies, DeviceFunction, Stacks
from paramserve._framework.tensor import Tensor
from paramserve_core.devices import DeviceSpec, parse
from paramserve_core.dtypes import as_dtype
from paramserve_core.errors import NotFoundError
from paramserve_core.graphdef import attr_from_proto, canonical_attr
from paramserve_core.opdefs import OpDef, find_op
from paramserve_core.opdefs.registry import REQUIRED
from paramserve_protos.v1 import attr_value_pb2, graph_pb2

_PRODUCER: Final = 21
"""The version that a GraphDef is marked with; TensorFlow reads those from 0 on."""

_ROOT_NAME: Final = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\-/]*")
_SCOPE_NAME: Final = re.compile(r"[A-Za-z0-9_.\-/]+")


class Graph:
    """Operations and the tensors between them, and the collections that a program keeps.

    A new graph is empty. Operations are added to the default graph, which `as_default` sets for
    a block; every thread has one of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._operations: dict[str, Operation] = {}
        self._names_in_use: dict[str, int] = {}
        self._collections = Collections(self._lock)
        self._stacks = Stacks()
        self._seed: int | None = None
        self._is_finalized = False
        self._unfeedable: set[Tensor] = set()
        self._unfetchable: set[Any] = set()

    # The whole graph.

    def as_default(self) -> AbstractContextManager[Graph]:
        """Makes this the graph that the thread's operations are added to, for a block."""
        return _default_graphs.entered(self)

    @property
    def version(self) -> int:
        """A number that grows with every operation."""
        return len(self._operations)

    @property
    def seed(self) -> int | None:
        """The graph's random seed, see `set_random_seed`."""
        return self._seed

    @seed.setter
    def seed(self, seed: int | None) -> None:
        self._seed = seed

    @property
    def finalized(self) -> bool:
        """Whether the graph can no longer grow."""
        return self._is_finalized

    def finalize(self) -> None:
        """From now on adding an operation raises RuntimeError."""
        self._is_finalized = True

    @property
    def building_function(self) -> bool:
        """Whether this graph is the body of a function; there are none."""
        return False

    def as_graph_def(
        self, from_version: int | None = None, add_shapes: bool = False
    ) -> graph_pb2.GraphDef:
        """The graph as a message that TensorFlow, TensorBoard and Netron read.

        Args:
            from_version: only operations added after the graph had that `version`.
            add_shapes: with what is known of the shapes, in an attribute `_output_shapes`.
        """
        message = graph_pb2.GraphDef()
        message.versions.producer = _PRODUCER
        for op in self._since(from_version or 0):
            message.node.append(op.to_node_def(add_shapes=add_shapes))
        return message

    def _since(self, version: int) -> list[Operation]:
        with self._lock:
            count = len(self._operations) - version
            if count <= 0:
                return []
            newest = []
            for op in reversed(self._operations.values()):
                newest.append(op)
                if len(newest) == count:
                    break
        return newest[::-1]

    # Finding things.

    def get_operations(self) -> list[Operation]:
        """All operations, in the order of their creation."""
        with self._lock:
            return list(self._operations.values())

    def get_operation_by_name(self, name: str) -> Operation:
        """The operation of that name.

        Raises:
            KeyError: there is none.
            TypeError: `name` is no string.
        """
        if not isinstance(name, str):
            raise TypeError(f"Operation names are strings (or similar), not {type(name).__name__}.")
        found: Operation = self.as_graph_element(name, allow_tensor=False, allow_operation=True)
        return found

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor of that name, "operation:output".

        Raises:
            KeyError: there is none.
            TypeError: `name` is no string.
        """
        if not isinstance(name, str):
            raise TypeError(f"Tensor names are strings (or similar), not {type(name).__name__}.")
        found: Tensor = self.as_graph_element(name, allow_tensor=True, allow_operation=False)
        return found

    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """The operation or tensor that `obj` stands for: one of this graph, its name, a variable.

        Raises:
            TypeError: `obj` is of no type that stands for one, or not of the kind allowed.
            ValueError: it is an element of another graph, or a malformed name.
            KeyError: there is no element of that name.
        """
        kinds = " or ".join(
            kind
            for kind, allowed in (("Tensor", allow_tensor), ("Operation", allow_operation))
            if allowed
        )
        if hasattr(obj, "_as_graph_element"):
            obj = obj._as_graph_element()
        if isinstance(obj, str):
            return self._named(obj, allow_tensor, allow_operation)
        if (isinstance(obj, Tensor) and allow_tensor) or (
            isinstance(obj, Operation) and allow_operation
        ):
            if obj.graph is not self:
                kind = "Tensor" if isinstance(obj, Tensor) else "Operation"
                raise ValueError(f"{kind} {obj!r} is not an element of this graph.")
            return obj
        raise TypeError(f"Can not convert a {type(obj).__name__} into a {kinds}.")

    def _named(self, name: str, allow_tensor: bool, allow_operation: bool) -> Any:
        op_name, colon, index = name.partition(":")
        if colon and allow_tensor:
            if not index.isascii() or not index.isdigit():
                raise ValueError(
                    f"The name {name!r} looks like that of a tensor, but is not valid: tensor "
                    "names must be of the form '<op_name>:<output_index>'."
                )
            op = self._operations.get(op_name)
            if op is None:
                raise KeyError(
                    f"The name {name!r} refers to a Tensor which does not exist. The operation, "
                    f"{op_name!r}, does not exist in the graph."
                )
            if int(index) >= len(op.values()):
                raise KeyError(
                    f"The name {name!r} refers to a Tensor which does not exist. The operation, "
                    f"{op_name!r}, exists but has {len(op.values())} outputs."
                )
            return op.values()[int(index)]
        if colon:
            raise ValueError(
                f"The name {name!r} looks like that of a Tensor, and an Operation is wanted."
            )
        op = self._operations.get(name)
        if not allow_operation:
            hint = f" Did you mean '{name}:0'?" if op is not None else ""
            raise ValueError(
                f'The name {name!r} is no name of a Tensor ("<op_name>:<index>").{hint}'
            )
        if op is None:
            raise KeyError(
                f"The name {name!r} refers to an Operation which does not exist in the graph."
            )
        return op

    def prevent_feeding(self, tensor: Tensor) -> None:
        """Makes `session.run` refuse to be fed `tensor`."""
        self._unfeedable.add(tensor)

    def is_feedable(self, tensor: Tensor) -> bool:
        """Whether `session.run` may be fed `tensor`."""
        return tensor not in self._unfeedable

    def prevent_fetching(self, op: Operation) -> None:
        """Makes `session.run` refuse to fetch `op`."""
        self._unfetchable.add(op)

    def is_fetchable(self, tensor_or_op: Tensor | Operation) -> bool:
        """Whether `session.run` may fetch the element."""
        op = tensor_or_op.op if isinstance(tensor_or_op, Tensor) else tensor_or_op
        return op not in self._unfetchable

    # Collections.

    def add_to_collection(self, name: Any, value: Any) -> None:
        """Appends `value` to the collection `name`.

        Raises:
            RuntimeError: the graph is finalized.
        """
        self._check_not_finalized()
        self._collections.add(name, value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        """Appends `value` once to each of the collections.

        Raises:
            RuntimeError: the graph is finalized.
        """
        self._check_not_finalized()
        self._collections.add_to_all(names, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of a collection.

        Args:
            name: the collection.
            scope: a regular expression that the beginning of an item's name must match.
        """
        return self._collections.get(name, scope)

    def get_collection_ref(self, name: Any) -> list[Any]:
        """The collection's own list, made if there is none."""
        return self._collections.ref(name)

    def get_all_collection_keys(self) -> list[Any]:
        """The names of all collections."""
        return self._collections.keys()

    def clear_collection(self, name: Any) -> None:
        """Removes a collection.

        Raises:
            RuntimeError: the graph is finalized.
        """
        self._check_not_finalized()
        self._collections.clear(name)

    # Scopes.

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` in the current scope, with a number behind it if it is taken.

        Args:
            name: what the operation wants to be called.
            mark_as_used: whether nobody else can have the name from now on.
        """
        scope = self._stacks.name_scope
        if scope:
            name = f"{scope}/{name}"
        with self._lock:
            # Names that differ in case only would be one file or one tag somewhere.
            key = name.lower()
            count = self._names_in_use.get(key, 0)
            if mark_as_used:
                self._names_in_use[key] = count + 1
            if count:
                base, key = name, name.lower()
                while key in self._names_in_use:
                    name = f"{base}_{count}"
                    key = name.lower()
                    count += 1
                if mark_as_used:
                    self._names_in_use[key] = 1
        return name

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Prefixes the names of the block's operations.

        Args:
            name: made unique; a name that ends with "/", which an earlier block gave, is entered
                again; None or "" leaves all scopes.

        Returns:
            The scope with its "/", to be entered again or used as an operation's name.

        Raises:
            ValueError: a malformed name.
        """
        old = self._stacks.name_scope
        if name:
            pattern = _SCOPE_NAME if old else _ROOT_NAME
            if pattern.fullmatch(name) is None:
                raise ValueError(f"'{name}' is not a valid scope name")
        if not name:
            new = ""
        elif name.endswith("/"):
            new = name[:-1]
        else:
            new = self.unique_name(name)
        self._stacks.name_scope = new
        try:
            yield f"{new}/" if new else ""
        finally:
            self._stacks.name_scope = old

    def get_name_scope(self) -> str:
        """The current name scope, without a "/" at its end."""
        return self._stacks.name_scope

    @contextmanager
    def device(self, device_name_or_function: Any) -> Iterator[None]:
        """Puts the block's operations on a device.

        Args:
            device_name_or_function: a device such as "/job:ps/task:1", merged with those of the
                blocks around it; a function that answers the device of an operation; or None,
                which passes over the blocks around.

        Raises:
            ValueError: a malformed device.
        """
        if isinstance(device_name_or_function, (str, DeviceSpec)):
            device_name_or_function = _merging(parse(device_name_or_function))
        self._stacks.devices.append(device_name_or_function)
        try:
            yield
        finally:
            self._stacks.devices.pop()

    @contextmanager
    def container(self, container_name: str) -> Iterator[str]:
        """Puts the block's variables into a container of that name on the server."""
        old, self._stacks.container = self._stacks.container, container_name
        try:
            yield container_name
        finally:
            self._stacks.container = old

    @contextmanager
    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Iterator[None]:
        """Puts the block's operations on the device of `op`, whatever that turns out to be.

        Args:
            op: an operation or tensor, or None together with `ignore_existing`.
            ignore_existing: leave the colocations of the blocks around.

        Raises:
            ValueError: `op` is None without `ignore_existing`.
        """
        if op is None and not ignore_existing:
            raise ValueError("Trying to reset colocation (op is None) but ignore_existing is False")
        if op is not None and not isinstance(op, Operation):
            op = self.as_graph_element(op).op
        stacks = self._stacks
        old, old_devices = stacks.colocations, stacks.devices
        stacks.colocations = [] if ignore_existing else list(old)
        stacks.devices = []
        if op is not None:
            stacks.colocations.append(op)
        try:
            yield
        finally:
            stacks.colocations, stacks.devices = old, old_devices

    @contextmanager
    def control_dependencies(self, control_inputs: Any) -> Iterator[None]:
        """Makes the block's operations run after the given ones.

        Args:
            control_inputs: operations or tensors; None leaves the dependencies of the blocks
                around, and what else a block around set for control flow.

        Raises:
            TypeError: something in the list is no operation or tensor.
        """
        stacks = self._stacks
        old, old_flow = stacks.controls, stacks.control_flow
        if control_inputs is None:
            stacks.controls, stacks.control_flow = [], None
        else:
            ops = []
            for item in control_inputs:
                element = self.as_graph_element(_element_of(item))
                ops.append(element.op if isinstance(element, Tensor) else element)
            stacks.controls = [*old, ControlDependencies(tuple(dict.fromkeys(ops)))]
        try:
            yield
        finally:
            stacks.controls, stacks.control_flow = old, old_flow

    @contextmanager
    def gradient_override_map(self, op_type_map: Mapping[str, str]) -> Iterator[None]:
        """Gives the block's operations other gradient functions.

        Args:
            op_type_map: op type to the name under which a gradient function is registered.

        Raises:
            TypeError: a key or value is no string.
        """
        if not all(isinstance(text, str) for pair in op_type_map.items() for text in pair):
            raise TypeError("op_type_map must map op types to gradient names, both strings")
        old = self._stacks.gradient_names
        self._stacks.gradient_names = {**old, **op_type_map}
        try:
            yield
        finally:
            self._stacks.gradient_names = old

    @property
    def stacks(self) -> Stacks:
        """What the `with` blocks of this thread have set; for this package only."""
        return self._stacks

    # Adding operations.

    def create_op(
        self,
        op_type: str,
        inputs: Sequence[Tensor],
        dtypes: Sequence[Any],
        input_types: Sequence[Any] | None = None,
        name: str | None = None,
        attrs: Mapping[str, attr_value_pb2.AttrValue] | None = None,
        op_def: Any = None,
        compute_shapes: bool = True,
    ) -> Operation:
        """Adds an operation; programs call op functions instead.

        Args:
            op_type: the op.
            inputs: the tensors that it takes.
            dtypes: the types of its outputs, checked against the op's definition.
            input_types: the types that it takes, checked likewise.
            name: its name, made unique; one that ends with "/" is taken as it is.
            attrs: its attributes as messages.
            op_def: not needed; the op's definition is known.
            compute_shapes: whether to infer the outputs' shapes.

        Raises:
            NotFoundError: an op that is not known.
            TypeError: inputs, types or attributes that the op does not take.
            ValueError: shapes that cannot fit, or an input of another graph.
        """
        definition = find_op(op_type)
        if definition is None:
            raise NotFoundError(None, None, f"Op type not registered {op_type!r}")
        known: dict[str, Any] = {}
        extra: dict[str, attr_value_pb2.AttrValue] = {}
        for key, value in (attrs or {}).items():
            if key in definition.attrs:
                attr = definition.attrs[key]
                known[key] = canonical_attr(
                    attr_from_proto(value, attr), attr, op=op_type, name=key
                )
            else:
                extra[key] = value
        for key, attr in definition.attrs.items():
            if key not in known:
                if attr.default is REQUIRED:
                    raise TypeError(f"op {op_type!r} needs the attribute {key!r}")
                known[key] = canonical_attr(attr.default, attr, op=op_type, name=key)
        op = self.add_operation(
            definition, known, inputs, name or op_type, extra, infer=compute_shapes
        )
        found = [tensor.dtype.base_dtype for tensor in op.values()]
        if list(map(_base, dtypes)) != found:
            raise TypeError(f"op {op_type!r} gives {found}, the caller expects {list(dtypes)}")
        return op

    def add_operation(
        self,
        definition: OpDef,
        attrs: Mapping[str, Any],
        inputs: Sequence[Tensor],
        name: str,
        extra_attrs: Mapping[str, attr_value_pb2.AttrValue] | None = None,
        *,
        infer: bool = True,
    ) -> Operation:
        """Adds an operation whose attributes are canonical and complete.

        Raises:
            RuntimeError: the graph is finalized.
            TypeError: an input of a type that the op does not take.
            ValueError: shapes that cannot fit, or an input of another graph.
        """
        self._check_not_finalized()
        self._check_inputs(definition, attrs, inputs)
        stacks = self._stacks
        attrs = dict(attrs)
        if stacks.container and attrs.get("container") == "":
            attrs["container"] = stacks.container
        extra = dict(extra_attrs or {})
        if definition.name in stacks.gradient_names:
            gradient_name = stacks.gradient_names[definition.name].encode()
            extra["_gradient_op_type"] = attr_value_pb2.AttrValue(s=gradient_name)
        with self._lock:
            taken = name[:-1] if name.endswith("/") else self.unique_name(name)
            if taken in self._operations:
                taken = self.unique_name(taken.rpartition("/")[2])
            op = Operation(
                self,
                len(self._operations) + 1,
                taken,
                definition,
                attrs,
                inputs,
                self._controls_for(inputs),
                "",
                self._colocation_names(),
                extra,
                creation_site.capture(),
            )
            if stacks.control_flow is not None:
                stacks.control_flow.enter(op)
            if infer:
                infer_shapes(op)
            self._place(op)
            self._names_in_use.setdefault(taken.lower(), 1)
            self._operations[taken] = op
            for tensor in op.inputs:
                tensor._consumers.append(op)
            for controller in stacks.controls:
                controller.saw(op)
        return op

    def _check_inputs(
        self, definition: OpDef, attrs: Mapping[str, Any], inputs: Sequence[Tensor]
    ) -> None:
        wanted = definition.input_dtypes(attrs)
        if len(wanted) != len(inputs):
            raise TypeError(f"op {definition.name!r} takes {len(wanted)} inputs, got {len(inputs)}")
        for tensor, dtype in zip(inputs, wanted, strict=True):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"an input of an op must be a Tensor, got {tensor!r}")
            if tensor.graph is not self:
                raise ValueError(f"{tensor!r} must be from the same graph as the op that takes it.")
            fits = tensor.dtype.base_dtype is dtype.base_dtype
            if not fits or (dtype.is_ref and not tensor.dtype.is_ref):
                raise TypeError(f"op {definition.name!r} takes {dtype.name}, got {tensor!r}")

    def _check_not_finalized(self) -> None:
        if self._is_finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")

    def _controls_for(self, inputs: Sequence[Tensor]) -> list[Operation]:
        """The operations that the new one must wait for, without those that it waits for anyway."""
        input_ops = {tensor.op for tensor in inputs}
        controls: list[Operation] = []
        for controller in self._stacks.controls:
            if not controller.dominates(input_ops):
                controls += [op for op in controller.ops if op not in input_ops]
        return controls

    def _colocation_names(self) -> list[str]:
        names: dict[str, None] = {}
        for op in self._stacks.colocations:
            names.update(dict.fromkeys(op._colocated_with or (op.name,)))
        return sorted(names)

    def _place(self, op: Operation) -> None:
        for function in reversed(self._stacks.devices):
            if function is None:
                break
            device = function(op)
            op._device = device.to_string() if isinstance(device, DeviceSpec) else device or ""
        for other in self._stacks.colocations:
            if other.device:
                op._device = other.device


def _merging(spec: DeviceSpec) -> DeviceFunction:
    """A device function that adds `spec` to what inner blocks have said."""

    def merged(op: Operation) -> str:
        if not op.device:
            return spec.to_string()
        return spec.make_merged_spec(parse(op.device)).to_string()

    return merged


def _element_of(item: Any) -> Any:
    """What stands for an IndexedSlices among control inputs: the op of its values."""
    return item.op if hasattr(item, "indices") and hasattr(item, "values") else item


def _base(dtype: Any) -> Any:
    return as_dtype(dtype).base_dtype


_default_graphs: DefaultStack[Graph] = DefaultStack()
_global_lock = threading.Lock()
_global_graph: Graph | None = None


def get_default_graph() -> Graph:
    """The graph that operations of this thread are added to."""
    global _global_graph
    graph = _default_graphs.get()
    if graph is not None:
        return graph
    with _global_lock:
        if _global_graph is None:
            _global_graph = Graph()
        return _global_graph


def reset_default_graph() -> None:
    """Replaces the default graph with an empty one.

    Raises:
        AssertionError: inside a `with graph.as_default()` block.
    """
    global _global_graph
    if not _default_graphs.is_empty:
        raise AssertionError("Do not use reset_default_graph() inside a `with graph.as_default()`")
    with _global_lock:
        _global_graph = Graph()


def graph_of(values: Iterable[Any]) -> Graph:
    """The graph that the tensors among `values` belong to, or the default graph.

    Raises:
        ValueError: they belong to different graphs.
    """
    found: Graph | None = None
    for value in values:
        graph = getattr(value, "graph", None)
        if not isinstance(graph, Graph):
            continue
        if found is not None and graph is not found:
            raise ValueError(f"{value!r} must be from the same graph as the other inputs.")
        found = graph
    return found or get_default_graph()
