"""One running step, as kernels see it.

Thread rule: a step may run stages on several threads; what is here is either immutable or has a
lock of its own.
"""

from __future__ import annotations

import threading

import numpy as np

from paramserve_core.errors import CancelledError
from paramserve_core.executor.store import VariableStore
from paramserve_core.kernels.random_streams import RandomStreams
from paramserve_core.kernels.registry import KernelNode


class StepContext:
    """The session's state that a kernel may use, and the step's cancellation."""

    __slots__ = ("_cancelled", "_random", "store")

    def __init__(self, store: VariableStore, random: RandomStreams) -> None:
        self.store = store
        self._random = random
        self._cancelled = threading.Event()

    def random_stream(self, node: KernelNode) -> np.random.Generator:
        """The random stream of `node` in this session; each use advances it."""
        return self._random.stream(node.name, node.attrs["seed"], node.attrs["seed2"])

    def cancel(self) -> None:
        """Makes the step end at its next node; may be called from any thread."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled.is_set()

    def check_cancelled(self) -> None:
        """Raises CancelledError after `cancel`; a kernel that takes long calls it now and then."""
        if self._cancelled.is_set():
            raise CancelledError(None, None, "the step was cancelled")
