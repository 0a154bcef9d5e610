"""The variable store: the variables of a task by container and name.

Thread rule: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from paramserve_core.dtypes import DType
from paramserve_core.errors import InvalidArgumentError
from paramserve_core.executor.memory import Memory, OrdinaryMemory, StoreBudget
from paramserve_core.executor.variable import Variable
from paramserve_core.shapes import TensorShape


class VariableStore:
    """All variables of one task (or one in-process session), by container and name.

    Args:
        budget: counts their bytes.
        memory: where their buffers lie.

    Attributes:
        resets: how many times variables were dropped. As long as it is the same, so is the variable
            that a name stands for, once there is one.
    """

    def __init__(self, budget: StoreBudget | None = None, memory: Memory | None = None) -> None:
        self.budget = budget or StoreBudget()
        self.memory = memory or OrdinaryMemory()
        self.resets = 0
        self._lock = threading.Lock()
        self._containers: dict[str, dict[str, Variable]] = {}

    def get_or_create(
        self, name: str, container: str, dtype: DType, shape: TensorShape
    ) -> Variable:
        """The variable of that name, made without a value if there is none.

        Raises:
            InvalidArgumentError: it exists with another dtype or an incompatible shape.
        """
        variable = self._containers.get(container, {}).get(name)
        if variable is None:
            with self._lock:
                variables = self._containers.setdefault(container, {})
                variable = variables.setdefault(
                    name, Variable(name, container, dtype, shape, self.budget, self.memory)
                )
        if variable.dtype != dtype or not variable.shape.is_compatible_with(shape):
            raise InvalidArgumentError(
                None,
                None,
                f"{name}: the graph declares {dtype.name} {shape}, container {container!r} of the "
                f"server has it as {variable.dtype.name} {variable.shape}; give the variable "
                "another name or container, or clear the container with Session.reset",
            )
        return variable

    def find(self, name: str, container: str = "") -> Variable | None:
        """The variable of that name, or None."""
        return self._containers.get(container, {}).get(name)

    def variables(self, containers: Iterable[str] | None = None) -> list[Variable]:
        """Every variable of the given containers (all by default), in the order of creation."""
        with self._lock:
            names = self._containers if containers is None else containers
            found = [v for name in names for v in self._containers.get(name, {}).values()]
        return sorted(found, key=lambda variable: variable._serial)

    @property
    def variable_count(self) -> int:
        """Variables in all containers."""
        with self._lock:
            return sum(len(variables) for variables in self._containers.values())

    def reset(self, containers: Iterable[str] | None = None) -> None:
        """Drops every variable of the given containers; none given means all containers."""
        with self._lock:
            names = list(self._containers if containers is None else containers)
            dropped = [v for name in names for v in self._containers.pop(name, {}).values()]
            self.resets += 1  # Not before: who saw the new number must not find an old variable.
        for variable in dropped:
            variable.discard()
