"""The graph that a program builds before anything runs.

What a `with` block sets (name scope, device, control dependencies, colocation, container) is kept
per thread, so that two threads may build parts of one graph side by side. Those blocks are in
`GraphScopes`, the collections in `GraphCollections`; what is here holds the operations.

Thread rule: `_lock` guards operations, names and collections; every public method may be called
from any thread. An operation that is in the graph stays there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, Final

from paramserve._framework import creation_site
from paramserve._framework.collections import GraphCollections
from paramserve._framework.default_stack import DefaultStack
from paramserve._framework.element_names import find_element
from paramserve._framework.graph_scopes import GraphScopes
from paramserve._framework.names import NameTable, check_op_name
from paramserve._framework.node_attrs import message_bytes
from paramserve._framework.node_reading import read_node
from paramserve._framework.op_checks import check_inputs, check_types
from paramserve._framework.operation import GRADIENT_ATTR, Operation
from paramserve._framework.shape_inference import infer_shapes
from paramserve._framework.tensor import Tensor
from paramserve_core.opdefs import OpDef
from paramserve_core.tensors import MAX_PROTO_BYTES
from paramserve_protos.v1 import attr_value_pb2, graph_pb2, node_def_pb2, versions_pb2

_PRODUCER: Final = 21
"""The version that a GraphDef is marked with; TensorFlow reads those from 0 on."""

_NO_ATTRS: Final[Mapping[str, attr_value_pb2.AttrValue]] = MappingProxyType({})


class Graph(GraphScopes, GraphCollections):
    """Operations and the tensors between them, and the collections that a program keeps.

    A new graph is empty. Operations are added to the default graph, which `as_default` sets for a
    block of the calling thread.
    """

    def __init__(self) -> None:
        GraphScopes.__init__(self)
        GraphCollections.__init__(self)
        self._operations: dict[str, Operation] = {}
        # Other threads read it without the lock, so it counts only what is there to stay.
        self._version = 0
        self._all_at_once_depth = 0
        self._names = NameTable()
        self._seed: int | None = None
        self._is_finalized = False
        self._kept: list[object] = []
        self._unfeedable: set[Tensor] = set()
        self._unfetchable: set[Any] = set()

    # The whole graph.

    def as_default(self) -> AbstractContextManager[Graph]:
        """Makes this the graph that the thread's operations are added to, for a block."""
        return _default_graphs.entered(self)

    @property
    def version(self) -> int:
        """The number of operations; it only ever grows."""
        return self._version

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

    def keep_alive(self, thing: object) -> None:
        """Keeps something for as long as the graph is there: what its operations refer to."""
        self._kept.append(thing)

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

        Returns:
            The message; the graph had the version `from_version` plus its number of nodes.

        Raises:
            ValueError: it would be larger than a message can be.
        """
        ops = self._since(from_version or 0)
        constants = (op.attrs["value"] for op in ops if op.type == "Const")
        if (size := sum(map(message_bytes, constants))) > MAX_PROTO_BYTES:
            raise ValueError(
                f"GraphDef cannot be larger than 2GB: the graph's constants take {size} bytes. "
                "Feed large values, or keep them in variables"
            )
        message = graph_pb2.GraphDef(versions=self.graph_def_versions)
        for op in ops:
            op.write_to(message.node.add(), add_shapes=add_shapes)
        return message

    @property
    def graph_def_versions(self) -> versions_pb2.VersionDef:
        """The version that a GraphDef of this graph is marked with."""
        return versions_pb2.VersionDef(producer=_PRODUCER)

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
        if isinstance(obj, bytes):
            obj = obj.decode()
        if isinstance(obj, str):
            return find_element(self._operations, obj, allow_tensor, allow_operation)
        if (isinstance(obj, Tensor) and allow_tensor) or (
            isinstance(obj, Operation) and allow_operation
        ):
            if obj.graph is not self:
                kind = "Tensor" if isinstance(obj, Tensor) else "Operation"
                raise ValueError(
                    f"{kind} {obj!r} is not an element of this graph. It was made in another: "
                    "outside of `with graph.as_default()`, in a new thread too, ops go to the "
                    "default graph."
                )
            return obj
        raise TypeError(f"Can not convert a {type(obj).__name__} into a {kinds}.")

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

    # Adding operations.

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` in the current scope, with a number behind it if it is taken.

        Args:
            name: what the operation wants to be called.
            mark_as_used: whether nobody else can have the name from now on.
        """
        scope = self._stacks.name_scope
        with self._lock:
            return self._names.unique(f"{scope}/{name}" if scope else name, mark_as_used)

    def create_op(
        self,
        op_type: str,
        inputs: Sequence[Tensor],
        dtypes: Sequence[Any] | None = None,
        input_types: Sequence[Any] | None = None,
        name: str | None = None,
        attrs: Mapping[str, attr_value_pb2.AttrValue] | None = None,
        op_def: Any = None,
        compute_shapes: bool = True,
        compute_device: bool = True,
    ) -> Operation:
        """Adds an operation; programs call op functions instead.

        Args:
            op_type: the op.
            inputs: the tensors that it takes.
            dtypes: the types of its outputs, checked against what follows from `attrs`.
            input_types: the types that it takes, checked likewise.
            name: its name, made unique; one that ends with "/" is the full name.
            attrs: its attributes as messages.
            op_def: not needed; the op's definition is known.
            compute_shapes: whether to infer the outputs' shapes.
            compute_device: whether the blocks around put it on a device.

        Raises:
            NotFoundError: an op that is not known.
            TypeError: inputs or types that the op does not take.
            ValueError: attributes that the op does not take, a malformed or taken name, shapes
                that cannot fit, or an input of another graph.
        """
        content = read_node(node_def_pb2.NodeDef(op=op_type, name=name or op_type, attr=attrs))
        definition = content.definition
        check_types(op_type, "gives", definition.output_dtypes(content.attrs), dtypes)
        check_types(op_type, "takes", definition.input_dtypes(content.attrs), input_types)
        return self.add_operation(
            definition,
            content.attrs,
            inputs,
            name or op_type,
            extra_attrs=content.extra_attrs,
            colocated_with=content.colocated_with,
            infer=compute_shapes,
            place=compute_device,
        )

    def add_operation(
        self,
        definition: OpDef,
        attrs: Mapping[str, Any],
        inputs: Sequence[Tensor],
        name: str,
        *,
        extra_attrs: Mapping[str, attr_value_pb2.AttrValue] | None = None,
        control_inputs: Sequence[Operation] = (),
        colocated_with: Sequence[str] = (),
        device: str = "",
        infer: bool = True,
        place: bool = True,
    ) -> Operation:
        """Adds an operation whose attributes are canonical and complete.

        Args:
            definition: the op.
            attrs: its attributes.
            inputs: the tensors that it takes.
            name: its name; one that ends with "/" is the full name.
            extra_attrs: attributes that the definition does not have.
            control_inputs: what it waits for, besides what the blocks around say.
            colocated_with: what it is placed with, likewise.
            device: where it is put; the blocks around add to that.
            infer: whether to infer the outputs' shapes.
            place: whether the blocks around put it somewhere.

        Raises:
            RuntimeError: the graph is finalized.
            TypeError: an input of a type that the op does not take.
            ValueError: a malformed or taken name, shapes that cannot fit, or an input of another
                graph. The graph is unchanged.
        """
        stacks = self._stacks
        with self._lock:
            self._check_not_finalized()
            check_inputs(self, definition, attrs, inputs)
            controls: Sequence[Operation] = [*control_inputs, *self._waits_for(inputs)]
            region = stacks.control_flow
            if region is not None:
                inputs, controls = region.admit(definition.name, inputs, controls)
            if stacks.container and attrs.get("container") == "":
                attrs = {**attrs, "container": stacks.container}
            extra = extra_attrs or _NO_ATTRS
            if definition.name in stacks.gradient_names:
                gradient_name = stacks.gradient_names[definition.name].encode()
                extra = {**extra, GRADIENT_ATTR: attr_value_pb2.AttrValue(s=gradient_name)}
            groups = self._colocation_names()
            if colocated_with:
                groups = tuple(sorted({*groups, *colocated_with}))
            op = Operation(
                self,
                self._name_for(name),
                definition,
                attrs,
                inputs,
                control_inputs=controls,
                colocated_with=groups,
                device=device,
                extra_attrs=extra,
                control_flow=region,
                site=creation_site.capture(),
            )
            if infer:
                infer_shapes(op)
            if place:
                op._device = self._device_of(op)
            self._insert(op)
            if region is not None:
                region.entered(op)
        return op

    def _name_for(self, name: str) -> str:
        """The full name of an operation that is called `name`."""
        full = name[:-1] if name.endswith("/") else self.unique_name(name)
        check_op_name(full)
        if full in self._operations:
            raise ValueError(
                f"Duplicate node name in graph: '{full}'. A name that ends with '/' is taken as it "
                "is; give one without '/' to have it made unique"
            )
        return full

    def _insert(self, op: Operation) -> None:
        self._names.reserve(op.name)
        self._operations[op.name] = op
        if not self._all_at_once_depth:
            self._version = len(self._operations)
        for tensor in op.inputs:
            tensor._consumers.append(op)
        for block in self._stacks.controls:
            block.saw(op)

    @contextmanager
    def all_at_once(self) -> Iterator[None]:
        """Holds the graph for a block: a session sees what it adds when all of that is there."""
        with self._lock:
            self._all_at_once_depth += 1
            try:
                yield
            finally:
                self._all_at_once_depth -= 1
                if not self._all_at_once_depth:
                    self._version = len(self._operations)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """As `all_at_once`, and an exception removes the operations that the block added."""
        with self.all_at_once():
            count = len(self._operations)
            try:
                yield
            except BaseException:
                while len(self._operations) > count:
                    self._remove_newest()
                raise

    def close_loop(self, merge: Operation, index: int, tensor: Tensor) -> None:
        """Puts `tensor`, of a later operation, in place of an input of a `Merge`.

        That input was there to be replaced, because the operations of a loop need each other. Both
        operations were added in the running `all_at_once` block, so nobody has seen it.

        Raises:
            TypeError: the tensor is of another type.
        """
        with self._lock:
            assert self._all_at_once_depth
            dtype = merge.definition.input_dtypes(merge.attrs)[index]
            if tensor.dtype is not dtype and tensor.dtype.base_dtype is not dtype:
                raise TypeError(f"{merge.name} takes {dtype.name}, got {tensor!r}")
            merge._inputs[index]._consumers.remove(merge)
            merge._inputs = (*merge._inputs[:index], tensor, *merge._inputs[index + 1 :])
            tensor._consumers.append(merge)

    def _remove_newest(self) -> None:
        name, op = self._operations.popitem()
        self._names.release(name)
        for tensor in set(op.inputs):
            tensor._consumers[:] = [c for c in tensor._consumers if c is not op]

    def _check_not_finalized(self) -> None:
        if self._is_finalized:
            raise RuntimeError("Graph is finalized and cannot be modified.")


_default_graphs: DefaultStack[Graph] = DefaultStack()
_global_lock = threading.Lock()
_global_graph: Graph | None = None


def get_default_graph() -> Graph:
    """The graph that operations of this thread are added to.

    Outside of all `with graph.as_default()` blocks it is one graph for the whole process. (In
    TensorFlow every thread has one of its own there, which a session of another thread's graph
    then does not know.)
    """
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
