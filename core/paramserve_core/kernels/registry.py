"""The table of kernels: what runs when a node of the graph is executed.

A kernel is a function of NumPy arrays. It gets the node (its attributes, decoded once when the
plan was compiled) and the input arrays, and returns one array, a tuple of arrays for an op of
several outputs, or None for an op without outputs. A *step kernel* also gets the running step,
through which it reaches variables, random streams and the session's cancellation.

Rules that every kernel keeps:

- inputs are read-only to it: it neither writes to them nor keeps them after it returned;
- it may return an input or a view of one (the executor never writes to a value in place);
- it checks values before it changes any state, so that an error leaves everything as it was;
- an error is an `OpError` whose message names what was found and what was wanted; the executor
  adds the node and the task.

A reference input arrives as `paramserve_core.executor.store.Ref`.

Thread rule: filled while `paramserve_core.kernels` is imported, read-only afterwards. Kernels run
on any thread, several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from paramserve_core.dtypes import DType

KernelFunction = Callable[..., Any]


class _Dead:
    """The type of `DEAD`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DEAD"


DEAD: Final = _Dead()
"""The value on the branch of a conditional that was not taken.

A node with a dead input does not run and all its outputs are dead; `Merge` alone runs, on the
input that is alive. The idea is that of dataflow architectures; see Yu et al., "Dynamic Control
Flow in Large-Scale Machine Learning", EuroSys 2018.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelNode:
    """One node as its kernel sees it.

    Attributes:
        attrs: decoded attribute values by name, defaults filled in (DType, TensorShape, read-only
            ndarray for a tensor, `str` for a string, lists as tuples).
        owned: per input, whether this node is the only consumer of a value made in this step, so
            that a kernel which stores the array may keep it instead of a copy.
        reads_output: some consumer reads the value of a reference that this node gives, so that
            a kernel which stores a value puts a lease on it into its output.
    """

    name: str
    op: str
    attrs: Mapping[str, Any]
    input_dtypes: tuple[DType, ...]
    output_dtypes: tuple[DType, ...]
    owned: tuple[bool, ...] = ()
    reads_output: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel function; called `fn(node, step, *inputs)` with `takes_step`, else without step."""

    function: KernelFunction
    takes_step: bool


_KERNELS: dict[str, Kernel] = {}


def kernel(*ops: str, takes_step: bool = False) -> Callable[[KernelFunction], KernelFunction]:
    """Decorates the kernel of each op named in `ops`.

    Raises:
        ValueError: one of the ops has a kernel already.
    """

    def register(function: KernelFunction) -> KernelFunction:
        for op in ops:
            if op in _KERNELS:
                raise ValueError(f"op {op!r} has two kernels")
            _KERNELS[op] = Kernel(function, takes_step)
        return function

    return register


def find_kernel(op: str) -> Kernel | None:
    """The kernel of `op`, or None."""
    return _KERNELS.get(op)


def all_kernels() -> Mapping[str, Kernel]:
    """Every kernel by op name."""
    return _KERNELS
