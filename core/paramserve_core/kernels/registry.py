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

A reference input arrives as `paramserve_core.executor.updating.Ref`.

Beside its kernel an op may have a short form (`batch_kernel`), for the nodes of it that stand side
by side and differ in few inputs.

Thread rule: filled while `paramserve_core.kernels` is imported, read-only afterwards. Kernels run
on any thread, several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


ShortForm = Callable[..., bool]
"""Does for one node what its kernel does, if nothing about it is unusual; see `BatchKernel`."""


@dataclass(frozen=True, slots=True)
class BatchKernel:
    """How nodes of one op run that stand side by side, and differ in few inputs.

    Attributes:
        varying: the inputs that differ, by number; the first is a reference, and the node's only
            output.
        prepare: called once for all of the nodes, with one of them and the inputs that they share,
            None in place of the others. Answers the short form, which takes the others, and
            answers whether it did what the kernel does; else it did nothing, and the kernel has to
            run. None: there is none for such nodes. Raises an OpError where the kernel would.
    """

    varying: tuple[int, ...]
    prepare: Callable[[KernelNode, Sequence[Any]], ShortForm | None]


_KERNELS: dict[str, Kernel] = {}
_BATCH_KERNELS: dict[str, BatchKernel] = {}


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


def batch_kernel(op: str, kernel: BatchKernel) -> None:
    """Gives an op, which has a kernel, a short form."""
    _BATCH_KERNELS[op] = kernel


def find_batch_kernel(op: str) -> BatchKernel | None:
    """The short form of `op`, or None."""
    return _BATCH_KERNELS.get(op)
