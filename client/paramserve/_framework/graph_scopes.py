"""The half of a graph that is `with` blocks: what they set, and what a new operation gets of it.

Thread rule: a block acts on the thread that entered it; see `Stacks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from paramserve._framework.names import check_scope_name
from paramserve._framework.operation import Operation
from paramserve._framework.stacks import ControlDependencies, ControlFlow, DeviceFunction, Stacks
from paramserve._framework.tensor import Tensor
from paramserve_core.devices import DeviceSpec, canonical_name, parse


class GraphScopes(ABC):
    """The `with` blocks of a graph; `Graph` is the only subclass."""

    def __init__(self) -> None:
        self._stacks = Stacks()

    @abstractmethod
    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` in the current scope, with a number behind it if it is taken."""

    @abstractmethod
    def as_graph_element(
        self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True
    ) -> Any:
        """The operation or tensor that `obj` stands for."""

    # Blocks.

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
        stacks = self._stacks
        old = stacks.name_scope
        if not name:
            new = ""
        else:
            check_scope_name(name, is_inner=bool(old))
            new = name[:-1] if name.endswith("/") else self.unique_name(name)
        stacks.name_scope = new
        try:
            yield f"{new}/" if new else ""
        finally:
            stacks.name_scope = old

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
            TypeError: it is none of those.
            ValueError: a malformed device.
        """
        function: DeviceFunction | None
        if isinstance(device_name_or_function, (str, DeviceSpec)):
            function = _merging(canonical_name(device_name_or_function))
        elif device_name_or_function is None or callable(device_name_or_function):
            function = device_name_or_function
        else:
            raise TypeError(
                "a device is a string, a DeviceSpec, a function of an operation, or None; got "
                f"{device_name_or_function!r}"
            )
        stacks = self._stacks
        old = stacks.devices
        stacks.devices = [*old, function]
        try:
            yield
        finally:
            stacks.devices = old

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

        The devices of the blocks around do not apply, those of blocks inside only where `op` has
        no device.

        Args:
            op: an operation or tensor, or None together with `ignore_existing`.
            ignore_existing: leave the colocations of the blocks around.

        Raises:
            ValueError: `op` is None without `ignore_existing`, or of another graph.
        """
        if op is None and not ignore_existing:
            raise ValueError("Trying to reset colocation (op is None) but ignore_existing is False")
        if op is not None:
            op = self.as_graph_element(_of_slices(op))
            op = op.op if isinstance(op, Tensor) else op
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
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Makes the block's operations run after the given ones.

        Only operations created in the block wait. None waits for what it would wait for anyway:
        an operation that takes the output of another one of the block inherits its waiting.

        Args:
            control_inputs: operations or tensors; None leaves the dependencies of the blocks
                around, and the branch or loop that a block around is building.

        Raises:
            TypeError: something in the list is no operation or tensor.
            ValueError: something in the list is of another graph.
        """
        stacks = self._stacks
        old, old_flow = stacks.controls, stacks.control_flow
        if control_inputs is None:
            stacks.controls, stacks.control_flow = [], None
        else:
            elements = [self.as_graph_element(_of_slices(item)) for item in control_inputs]
            ops = dict.fromkeys(e.op if isinstance(e, Tensor) else e for e in elements)
            stacks.controls = [*old, ControlDependencies(tuple(ops))]
        try:
            yield
        finally:
            stacks.controls, stacks.control_flow = old, old_flow

    @contextmanager
    def control_flow(self, region: ControlFlow | None) -> Iterator[None]:
        """Makes the block's operations part of a branch or a loop; None: of none."""
        old, self._stacks.control_flow = self._stacks.control_flow, region
        try:
            yield
        finally:
            self._stacks.control_flow = old

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
    def current_control_flow(self) -> ControlFlow | None:
        """The branch of a conditional, or the loop, that this thread is building."""
        return self._stacks.control_flow

    # What a new operation gets.

    def _waits_for(self, inputs: Sequence[Tensor]) -> list[Operation]:
        """The operations of the blocks that the new one would not wait for anyway."""
        controls = self._stacks.controls
        if not controls:
            return []
        input_ops = {tensor.op for tensor in inputs}
        found: list[Operation] = []
        for block in controls:
            if not block.dominates(input_ops):
                found += [op for op in block.ops if op not in input_ops]
        return found

    def _colocation_names(self) -> tuple[str, ...]:
        colocations = self._stacks.colocations
        if not colocations:
            return ()
        return tuple(sorted({name for op in colocations for name in op.colocated_with}))

    def _device_of(self, op: Operation) -> str:
        """Where the blocks put a new operation; `op.device` is asked by the functions."""
        stacks = self._stacks
        for other in reversed(stacks.colocations):
            if other.device:
                return other.device
        for function in reversed(stacks.devices):
            if function is None:
                break
            op._device = canonical_name(function(op))
        return op.device


def _of_slices(item: Any) -> Any:
    """An IndexedSlices counts as the operation of its rows."""
    return item.op if hasattr(item, "indices") and hasattr(item, "values") else item


def _merging(device: str) -> DeviceFunction:
    """A device function that adds `device` to what inner blocks have said."""
    return lambda op: _merged(device, op.device)


@lru_cache(maxsize=4096)
def _merged(outer: str, inner: str) -> str:
    return parse(outer).make_merged_spec(parse(inner)).to_string()
