"""One running step, as kernels see it.

Thread rule: a step may run stages on several threads; what is here is immutable, has a lock of its
own, or is a flag that only ever goes up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from paramserve_core.errors import CancelledError
from paramserve_core.executor.host_functions import HostFunctions
from paramserve_core.executor.loop_turns import Stretch
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.kernels.registry import KernelNode
from paramserve_core.kernels.stacks import StackBudget

if TYPE_CHECKING:
    from paramserve_core.checkpoint.graph_files import GraphFiles


class StepContext:
    """The session's state that a kernel may use, and the step's cancellation.

    Attributes:
        store: the variables of the task.
        files: the checkpoint files that ops may touch; None where there is no disk.
        functions: the Python functions that ops may call; None in a server.
        is_cancelled: whether `cancel` was called.
        stretch: says to loops when to give way, while a stage of a server runs that has some.
    """

    __slots__ = (
        "_random",
        "_stack_budget",
        "files",
        "functions",
        "is_cancelled",
        "store",
        "stretch",
    )

    def __init__(
        self,
        store: VariableStore,
        random: RandomStreams,
        files: GraphFiles | None = None,
        functions: HostFunctions | None = None,
    ) -> None:
        self.store = store
        self.files = files
        self.functions = functions
        self._random = random
        self._stack_budget: StackBudget | None = None
        self.is_cancelled = False
        self.stretch: Stretch | None = None

    def random_stream(self, node: KernelNode) -> np.random.Generator:
        """The random stream of `node` in this session; each use advances it."""
        return self._random.stream(node.name, node.attrs["seed"], node.attrs["seed2"])

    def stack_budget(self) -> StackBudget:
        """What counts the bytes of the step's stacks."""
        if self._stack_budget is None:
            self._stack_budget = StackBudget()
        return self._stack_budget

    def cancel(self) -> None:
        """Makes the step end at its next node; may be called from any thread."""
        self.is_cancelled = True

    def check_cancelled(self) -> None:
        """Raises CancelledError after `cancel`; a kernel that takes long calls it now and then."""
        if self.is_cancelled:
            raise CancelledError(None, None, "the step was cancelled")
